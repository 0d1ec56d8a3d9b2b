"""A file as it was when it was seen, and the digest that its bytes must have."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from typing import NamedTuple

from scr_export.oci.digest import Digest

IDENTITY_SIZE = 16  # bytes
COARSEST_CLOCK = 2 * 10**9  # nanoseconds; file systems note the time of a change this exactly at least


class FileStamp(NamedTuple):
    """What stays the same while a file is not written. `size` is in bytes, `mtime` in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """Take the stamp from a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


_DEVICES: dict[int, int] = {}  # each by itself: one object for the number of a device, not one for each file


class SourceFile(NamedTuple):
    """A regular file that must hold the bytes of a digest. `directory` is relative to the root that was read.

    `size` is in bytes, `mtime` in nanoseconds. There are many of these: so the stamp's fields stand here themselves,
    and `own_name` is empty where the name is the digest's digits.
    """

    digest: Digest
    directory: str
    own_name: str
    device: int
    inode: int
    size: int
    mtime: int
    is_public: bool  # readable by all, as a web server needs it

    @classmethod
    def of(cls, digest: Digest, directory: str, name: str, status: os.stat_result) -> SourceFile:
        """Describe a file by its status."""
        mode, inode, device, _, _, _, size, *_ = status  # quicker than by name, which counts here
        own_name = "" if digest.endswith(name) and digest.encoded == name else name
        device = _DEVICES.setdefault(device, device)
        return cls(digest, directory, own_name, device, inode, size, status.st_mtime_ns, bool(mode & stat.S_IROTH))

    @property
    def name(self) -> str:
        """Its name in the directory."""
        return self.own_name or self.digest.encoded

    @property
    def path(self) -> str:
        """Its path below the root."""
        return f"{self.directory}/{self.name}" if self.directory else self.name

    @property
    def stamp(self) -> FileStamp:
        """The stamp of the file when it was seen."""
        return FileStamp(self.device, self.inode, self.size, self.mtime)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Tell whether this status is of the same file, not written since it was seen."""
        return (self.device, self.inode, self.size, self.mtime) == FileStamp.of(status)

    @property
    def identity(self) -> bytes:
        """IDENTITY_SIZE bytes that stand for the digest and the stamp."""
        text = f"{self.digest} {self.device} {self.inode} {self.size} {self.mtime}"
        return blake2b(text.encode(), digest_size=IDENTITY_SIZE).digest()
