"""A file as it was when it was seen, and the digest that its bytes must have."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from typing import NamedTuple

from scr_export.oci.digest import Digest

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


class SourceFile(NamedTuple):
    """A regular file that must hold the bytes of a digest. `path` is relative to the root that was read.

    `size` is in bytes, `mtime` in nanoseconds. There are many of these, so the stamp's fields stand here themselves.
    """

    digest: Digest
    path: str
    device: int
    inode: int
    size: int
    mtime: int
    is_public: bool  # readable by all, as a web server needs it

    @classmethod
    def of(cls, digest: Digest, path: str, status: os.stat_result) -> SourceFile:
        """Describe a file by its status."""
        mode, inode, device, _, _, _, size, *_ = status  # quicker than by name, which counts here
        return cls(digest, path, device, inode, size, status.st_mtime_ns, bool(mode & stat.S_IROTH))

    @property
    def stamp(self) -> FileStamp:
        """The stamp of the file when it was seen."""
        return FileStamp(self.device, self.inode, self.size, self.mtime)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Tell whether this status is of the same file, not written since it was seen."""
        return (self.device, self.inode, self.size, self.mtime) == FileStamp.of(status)

    @property
    def identity(self) -> bytes:
        """16 bytes that stand for the digest and the stamp."""
        text = f"{self.digest} {self.device} {self.inode} {self.size} {self.mtime}"
        return blake2b(text.encode(), digest_size=16).digest()
