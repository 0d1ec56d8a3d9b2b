"""The pages of a list in a bundle: a directory that comes as a whole, or what a receiver needs to make it.

A long list has many pages, and most of them change with one entry: in a list of up to 1,000, all that follows each
entry is a page. The receiver can make each of them of the whole list, and has other pages and links in an older
directory.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

from scr_export.publish.bundle.form import SHORT, member_size
from scr_export.publish.bundle.have import Have
from scr_export.site import paths


class Small(NamedTuple):
    """A small file of the site."""

    path: str
    sum: str
    data: bytes


class Pages(NamedTuple):
    """A directory of pages, or some of them, with paths below SITE. Links are pairs of a path and a target."""

    directory: str
    files: Sequence[Small]
    links: Sequence[tuple[str, str]]

    @property
    def whole_list(self) -> Small | None:
        """The file that has the whole list."""
        return next((file for file in self.files if file.path == f"{self.directory}/{paths.ALL}"), None)

    def name(self, path: str) -> str:
        """Return the path of a page in this directory."""
        return path.removeprefix(f"{self.directory}/")


class Sent(NamedTuple):
    """What is sent of a directory: members of names.tar, and lines of `form.PAGES`, which `names` describes."""

    members: Pages
    lines: Sequence[str] = ()


def what_is_sent(pages: Pages, have: Have) -> Sent | None:
    """Return what the receiver needs to have a directory of pages. None: it has it."""
    whole = pages.whole_list
    if _is_there(pages, whole, have):
        return None
    if whole is None or not have.files or _size(pages) < SHORT:
        return Sent(pages)
    old, kept = _kept(pages, whole, have)
    slices = _slices(pages, whole, kept)
    files = [file for file in pages.files if file.path not in kept and file.path not in slices]
    links = [link for link in pages.links if _target(*link) not in kept]
    kept.update(path for path, target in pages.links if _target(path, target) in kept)
    lines = [*map(pages.name, sorted(kept)), *(f"{pages.name(path)} {part}" for path, part in slices.items())]
    return Sent(Pages(pages.directory, files, links), [f"{pages.directory} {old or pages.directory}", *lines])


def _is_there(pages: Pages, whole: Small | None, have: Have) -> bool:
    """Tell whether the receiver has all pages. `content` of a delta lists only the whole list of those it left out."""
    had = have.pages_in(pages.directory)
    needed = pages.files if whole is None or len(had) > 1 else [whole]
    return all(had.get(pages.name(file.path)) == file.sum for file in needed)


def _size(pages: Pages) -> int:
    return sum(member_size(len(file.data)) for file in pages.files) + len(pages.links) * member_size(0)


def _kept(pages: Pages, whole: Small, have: Have) -> tuple[str, set[str]]:
    """Return the older directory that has the most pages in common with this one, and the paths of those pages."""
    best: tuple[str, set[str]] = "", set()
    for old, had in have.pages_beside(pages.directory).items():
        if old == pages.directory:
            continue
        kept = {file.path for file in pages.files if had.get(pages.name(file.path)) == file.sum and file != whole}
        best = max(best, (old, kept), key=lambda pair: len(pair[1]))
    return best


class _Slice(NamedTuple):
    first: int
    length: int

    def __str__(self) -> str:
        return f"{self.first} {self.length}"


def _slices(pages: Pages, whole: Small, kept: set[str]) -> dict[str, _Slice]:
    """Return the pages that are a part of the whole list, in the order of those parts."""
    start, entries = _split(whole.data)
    places = {entry: number for number, entry in enumerate(entries)}
    slices = {}
    for file in pages.files:
        if file != whole and file.path not in kept:
            own_start, own = _split(file.data)
            first = places.get(own[0], 0) if own else 0
            if own_start == start and entries[first : first + len(own)] == own:
                slices[file.path] = _Slice(first, len(own))
    return dict(sorted(slices.items(), key=lambda item: item[1]))


def _split(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return what comes before the entries of a list, and the entries. No entry has a comma or a bracket in it."""
    start, _, rest = body.partition(b"[")
    entries, _, end = rest.partition(b"]")
    return start + end, entries.split(b",") if entries else []


def _target(path: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
