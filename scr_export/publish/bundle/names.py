"""names.tar: what of a site is small. It grows while the site is read, in a temporary file.

`.scr-export/sizes` comes first: a line for each line of `content`, the size in bytes. Then come the files that the
receiver does not have at their path, and the links that lead to content among them, in the order of a walk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from scr_export.errors import BundleError, reraise_oserror
from scr_export.publish.bundle.form import NAMES, SIZES, end_of_names, long_header, padding

# Equal pages of a list are one file with several names, as in the site. ext4 allows 65,000, and `receive` needs some.
_MOST_NAMES = 20_000
_SPOOLED = 256 * 1024
_ACTION = f"write {NAMES} to a temporary file"
_DISK_BLOCK = 4096
_INLINE_TARGET = 60  # a symbolic link of this length takes a block of its own on ext4


class Small(NamedTuple):
    """A small file of the site."""

    path: str
    sum: str
    data: bytes


class Names:
    """`size` is what names.tar takes, `full_size` what it would take for a receiver that has nothing, in bytes.

    Without a `spool` members are only counted.
    """

    def __init__(self, spool: BinaryIO | None) -> None:
        self.size = self.full_size = self._blocks = 0
        self._spool = spool
        self._directories: set[str] = set()

    @property
    def room(self) -> int:
        """What the members take on the receiver's disk, with their directories."""
        return self._blocks + _DISK_BLOCK * len(self._directories)

    def add(self, file: Small, *, is_sent: bool) -> None:
        """Add a file."""
        head = long_header(file.path, size=len(file.data))
        self._put(file.path, head, file.data, is_sent, on_disk(len(file.data)))

    def add_link(self, path: str, target: str, *, is_sent: bool) -> None:
        """Add a symbolic link."""
        room = _DISK_BLOCK if len(target) >= _INLINE_TARGET else 0
        self._put(path, long_header(path, kind=tarfile.SYMTYPE, target=target), b"", is_sent, room)

    def add_directory(self, files: Sequence[Small], links: Iterable[tuple[str, str]], *, is_sent: bool) -> None:
        """Add a directory with all its files and links. Of equal files the first comes, and the others as its names."""
        first: dict[str, tuple[str, int]] = {}
        for file in files:
            path, names = first.get(file.sum, ("", _MOST_NAMES))
            if names < _MOST_NAMES:
                first[file.sum] = path, names + 1
                self._put(file.path, long_header(file.path, kind=tarfile.LNKTYPE, target=path), b"", is_sent, 0)
            else:
                first[file.sum] = file.path, 1
                self.add(file, is_sent=is_sent)
        for path, target in links:
            self.add_link(path, target, is_sent=is_sent)

    def _put(self, path: str, head: bytes, data: bytes, is_sent: bool, room: int) -> None:
        member = head + data + padding(len(data))
        self.full_size += len(member)
        if is_sent:
            self.size += len(member)
            self._blocks += room
            while (path := path.rpartition("/")[0]) not in self._directories:
                self._directories.add(path)
            if self._spool:
                with reraise_oserror(BundleError, _ACTION):
                    self._spool.write(member)

    def flush(self) -> None:
        """Write what is in memory to the temporary file."""
        if self._spool:
            with reraise_oserror(BundleError, _ACTION):
                self._spool.flush()


class FinishedNames:
    """names.tar as it goes out, piece by piece; sizes are in bytes."""

    def __init__(self, names: Names, spool: BinaryIO | None, sizes: Iterable[int]) -> None:
        text = "".join(f"{size}\n" for size in sizes).encode()
        self._first = long_header(SIZES, size=len(text)) + text + padding(len(text))
        self._spool = spool
        fixed = len(self._first) + len(end_of_names())
        self.size, self.full_size = names.size + fixed, names.full_size + fixed

    def __iter__(self) -> Iterator[bytes]:
        """Yield its bytes."""
        yield self._first
        if self._spool:
            self._spool.seek(0)
            while piece := self._spool.read(_SPOOLED):
                yield piece
        yield end_of_names()


def on_disk(size: int) -> int:
    """Return what a file of so many bytes takes on a disk with the usual blocks."""
    return size + -size % _DISK_BLOCK
