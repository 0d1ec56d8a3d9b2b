"""The lists of tags and of repositories, each with its pages in a directory of its own. Pure.

@all                    the whole list
@0                      the empty list
@10/LAST@10             the page of up to 10 entries behind LAST, if nothing follows it; @100 and @1000 alike
@10/LAST@10@NEXT        the same if more follows; NEXT is what to ask for as `last` then
@10/LAST@10             in that case a link to it
LAST@1, LAST@1@NEXT     the same of one entry

So a server has the next page from a file's name, as it has a manifest's headers. To find that name, Caddy reads a whole
directory: so there is one for each size. A page of one tag is completely in its name and needs no file. The directory
is named by a hash of what is in it, and appears and goes as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial

from scr_export.oci.listing import Listing, Page, pages
from scr_export.oci.repository import Catalog
from scr_export.site import paths
from scr_export.site.entries import Entry, HardLink, PagesDirectory, Symlink
from scr_export.site.plan import File, Part

# Counts up when the same list gets other files: a new version of the program must not keep the directory of an old one.
LAYOUT = 3

EMPTY = "@0"

_NAME_LENGTH = 255  # the longest name of a file
_LONG = 110  # the longest part of a name that stands in another one


def listing_documents(catalog: Catalog[File]) -> Iterator[Part]:
    """Yield the list of each repository's tags, and the list of repositories."""
    for name, repository in catalog:
        yield Part(paths.tags(name), partial(_entries, paths.TAG_LIST, Listing(name, tuple(sorted(repository.tags)))))
    repositories = Listing(None, tuple(name for name, _ in catalog))
    yield Part(paths.REGISTRY, partial(_entries, paths.CATALOG, repositories))


def _entries(name: str, listing: Listing) -> Mapping[str, Entry]:
    """A list is read through two links, so that it and all its pages change in one instant."""
    directory = directory_name(listing)
    return {
        directory: PagesDirectory(listing),
        paths.PAGES: Symlink(directory),
        name: Symlink(f"{paths.PAGES}/{paths.ALL}"),
    }


def directory_name(listing: Listing) -> str:
    """Return the name of a list's directory: other entries or another layout, another name."""
    content = b"%d\n%s" % (LAYOUT, listing.body())
    return f"{paths.PAGES}@{hashlib.sha256(content).hexdigest()[:32]}"


def files(listing: Listing) -> Iterator[tuple[str, bytes | HardLink | Symlink]]:
    """Yield each file of a list's directory: its path, and its bytes or what it is a link to."""
    yield paths.ALL, listing.body()
    yield EMPTY, listing.body(())
    for page in pages(listing.entries):
        yield from _names(page, _file(page, listing))


def _file(page: Page, listing: Listing) -> bytes | HardLink:
    if not page.entries or (listing.name and page.size == 1 and page.next and page.next == token(page.next)):
        return HardLink(EMPTY)
    if len(page.entries) == len(listing.entries):
        return HardLink(paths.ALL)
    return listing.body(page.entries)


def _names(page: Page, file: bytes | HardLink) -> Iterator[tuple[str, bytes | HardLink | Symlink]]:
    """Yield every name of a page, and its bytes or what it is a link to."""
    size = f"@{page.size}"
    end = size + (f"@{token(page.next)}" if page.next else "")
    directory = f"{size}/" if page.size > 1 else ""
    named = [key for key in _keys(page.after) if len(key.rpartition("/")[2] + end) <= _NAME_LENGTH]
    first, *others = keys = [directory + key for key in named]
    yield first + end, file
    for key in others:
        # Only nginx asks for an encoded name, and it goes by links, where Caddy goes by whole names.
        if not page.next or "%" not in key:
            yield key + end, HardLink(first + end)
    for key in keys if page.next else ():
        # A link is made beside its target, or at the top of the directory of its size.
        target = (first + end).removeprefix(directory)
        yield key + size, Symlink(target.rpartition("/")[2] if "/" in key.removeprefix(directory) else target)


def _keys(last: str) -> dict[str, None]:
    """The ways to write `last`: as it is, encoded for a query (which nginx does not decode), and as `token` has it."""
    return dict.fromkeys([last, _encoded(last), token(last)])


def token(name: str) -> str:
    """Return what stands for an entry in a query: encoded, or `~` and a hash where that is too long."""
    encoded = _encoded(name)
    return encoded if len(encoded) <= _LONG else f"~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _encoded(name: str) -> str:
    return name.replace("/", "%2F")
