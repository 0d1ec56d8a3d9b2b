"""names.tar: what of a site is small. It grows while the site is read, in a temporary file.

First comes `.scr-export/sizes`, with a line for each line of `content`: the size in bytes. If pages do not come as a
whole directory, `.scr-export/pages` has these lines for each such directory:

    DIRECTORY OLD-DIRECTORY    the new one, and an older one of the same list
    NAME                       a page, or a link, that both have
    NAME FIRST COUNT           a page that is a part of the whole list, counted from 0. FIRST rises from line to line

A long images.txt does not come if the receiver has an older one, since `links` say most of it: `.scr-export/untagged`
has its lines of images without a tag.

Then come the files that the receiver does not have at their path, and the links that lead to content among them, in the
order of a walk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from scr_export.errors import BundleError, reraise_oserror
from scr_export.publish.bundle import form
from scr_export.publish.bundle.form import long_header, padding
from scr_export.publish.bundle.pages import Pages, Sent, Small

# Equal pages of a list are one file with several names, as in the site. ext4 allows 65,000, and `receive` needs some.
_MOST_NAMES = 20_000
_SPOOLED = 256 * 1024
_ACTION = f"write {form.NAMES} to a temporary file"
_DISK_BLOCK = 4096
_INLINE_TARGET = 60  # a symbolic link of this length takes a block of its own on ext4


class _Member(NamedTuple):
    """A member: its path, all its bytes with its header, and what it takes on the receiver's disk."""

    path: str
    data: bytes
    room: int

    @classmethod
    def of_file(cls, file: Small) -> _Member:
        head = long_header(file.path, size=len(file.data))
        return cls(file.path, head + file.data + padding(len(file.data)), on_disk(len(file.data)))

    @classmethod
    def of_link(cls, path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> _Member:
        is_inline = kind == tarfile.LNKTYPE or len(target) < _INLINE_TARGET
        return cls(path, long_header(path, kind=kind, target=target), 0 if is_inline else _DISK_BLOCK)


class Names:
    """`size` is what names.tar takes, `full_size` what it would take for a receiver that has nothing, in bytes.

    Without a `spool` members are only counted.
    """

    def __init__(self, spool: BinaryIO | None) -> None:
        self.size = self.full_size = self._blocks = 0
        self.pages: list[str] = []
        self.untagged: list[str] | None = None
        self._spool = spool
        self._directories: set[str] = set()

    @property
    def room(self) -> int:
        """What the members take on the receiver's disk, with their directories."""
        return self._blocks + _DISK_BLOCK * (len(self._directories) + len(self.pages))

    def add(self, file: Small, *, is_sent: bool) -> None:
        """Add a file."""
        self._add([_Member.of_file(file)], is_sent=is_sent)

    def add_link(self, path: str, target: str, *, is_sent: bool) -> None:
        """Add a symbolic link."""
        self._add([_Member.of_link(path, target)], is_sent=is_sent)

    def add_pages(self, pages: Pages, sent: Sent | None) -> None:
        """Add a directory of pages, of which this is sent."""
        if sent and sent.members is pages:
            self._add(_members(pages), is_sent=True)
            return
        self._add(_members(pages), is_sent=False)
        if sent:
            full_size = self.full_size
            self._add(_members(sent.members), is_sent=True)
            self.full_size = full_size
            self.pages += sent.lines

    def _add(self, members: Iterable[_Member], *, is_sent: bool) -> None:
        for path, data, room in members:
            self.full_size += len(data)
            if is_sent:
                self._send(path, data, room)

    def _send(self, path: str, data: bytes, room: int) -> None:
        self.size += len(data)
        self._blocks += room
        while (path := path.rpartition("/")[0]) not in self._directories:
            self._directories.add(path)
        if self._spool:
            with reraise_oserror(BundleError, _ACTION):
                self._spool.write(data)

    def flush(self) -> None:
        """Write what is in memory to the temporary file."""
        if self._spool:
            with reraise_oserror(BundleError, _ACTION):
                self._spool.flush()


class FinishedNames:
    """names.tar as it goes out, piece by piece; sizes are in bytes.

    `sizes` are those of the files that `content` lists, `all_sizes` those of the files that it lists when all is sent.
    """

    def __init__(self, names: Names, spool: BinaryIO | None, sizes: Iterable[int], all_sizes: Iterable[int]) -> None:
        self._first = _list(form.SIZES, sizes)
        if names.pages:
            self._first += _list(form.PAGES, names.pages)
        if names.untagged is not None:
            self._first += _list(form.UNTAGGED, names.untagged)
        self._spool = spool
        self.size = len(self._first) + names.size + len(form.end_of_names())
        self.full_size = len(_list(form.SIZES, all_sizes)) + names.full_size + len(form.end_of_names())

    def __iter__(self) -> Iterator[bytes]:
        """Yield its bytes."""
        yield self._first
        if self._spool:
            self._spool.seek(0)
            while piece := self._spool.read(_SPOOLED):
                yield piece
        yield form.end_of_names()


def _list(path: str, lines: Iterable[object]) -> bytes:
    return _Member.of_file(Small(path, "", "".join(f"{line}\n" for line in lines).encode())).data


def _members(pages: Pages) -> Iterator[_Member]:
    """Yield files, then links. Of equal files the first comes, and the others as its names."""
    first: dict[str, tuple[str, int]] = {}
    for file in pages.files:
        path, names = first.get(file.sum, ("", _MOST_NAMES))
        if names < _MOST_NAMES:
            first[file.sum] = path, names + 1
            yield _Member.of_link(file.path, path, tarfile.LNKTYPE)
        else:
            first[file.sum] = file.path, 1
            yield _Member.of_file(file)
    for path, target in pages.links:
        yield _Member.of_link(path, target)


def on_disk(size: int) -> int:
    """Return what a file of so many bytes takes on a disk with the usual blocks."""
    return size + -size % _DISK_BLOCK
