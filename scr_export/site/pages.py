"""The directory that holds a list and its pages. Pure.

@all                  the whole list
@0                    the empty list
LAST@SIZE             the page of SIZE entries behind LAST, if nothing follows it
LAST@SIZE@NEXT        the same if more follows; NEXT is what to ask for as `last` then
LAST@SIZE             then a link to it

So a server knows the next page from a name, as it knows a manifest's headers. A page of one tag is all in its name,
too, and needs no file. The directory is named by what is in it, and appears and goes as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from scr_export.oci.taglist import List, Page, pages
from scr_export.site import paths

EMPTY = "@0"

_NAME_LENGTH = 255  # the longest name of a file
_LONG = 110  # what of a name may stand in another's


@dataclass(frozen=True, slots=True)
class Same:
    """Another name of a file that came before: a hard link."""

    path: str


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


def directory_name(listing: List) -> str:
    """The name of the directory: other entries, another name."""
    return f"{paths.PAGES}@{hashlib.sha256(listing.body()).hexdigest()[:32]}"


def files(listing: List) -> Iterator[tuple[str, bytes | Same | Link]]:
    """Each file of the directory: its path, and what it holds or is."""
    yield paths.ALL, listing.body()
    yield EMPTY, listing.body(())
    for page in pages(listing.entries):
        yield from _names(page, _held(page, listing))


def _held(page: Page, listing: List) -> bytes | Same:
    if not page.entries or (listing.name and page.size == 1 and page.next and page.next == _token(page.next)):
        return Same(EMPTY)
    if len(page.entries) == len(listing.entries):
        return Same(paths.ALL)
    return listing.body(page.entries)


def _names(page: Page, held: bytes | Same) -> Iterator[tuple[str, bytes | Same | Link]]:
    """Every name of a page, and what it holds or is."""
    size = f"@{page.size}"
    end = size + (f"@{_token(page.next)}" if page.next else "")
    first, *others = keys = [key for key in _keys(page.after) if len(key.rpartition("/")[2] + end) <= _NAME_LENGTH]
    yield first + end, held
    for key in others:
        # Only nginx asks for what is quoted, and it goes by links, where Caddy goes by whole names.
        if not page.next or "%" not in key:
            yield key + end, Same(first + end)
    for key in keys if page.next else ():
        # A link is made beside what it points to, or at the top.
        yield key + size, Link(first + end if "/" not in key else (first + end).rpartition("/")[2])


def _keys(last: str) -> dict[str, None]:
    """How `last` may be written: as it is, quoted for a query (which nginx does not undo), and as `_token` has it."""
    return dict.fromkeys([last, _quoted(last), _token(last)])


def _token(name: str) -> str:
    """What stands for an entry where its own name would be too long; `~` is in no name."""
    quoted = _quoted(name)
    return quoted if len(quoted) <= _LONG else f"~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _quoted(name: str) -> str:
    return name.replace("/", "%2F")
