"""File systems in files, to cut their power."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mounts import mounted

FSYNC = os.fsync  # an exporter in a forked process goes without it elsewhere

# Nothing is written unasked while a test runs: no tables left for later, no journal every five seconds.
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
OPTIONS = {"ext4": "loop,commit=300", "xfs": "loop", "btrfs": "loop,commit=300"}
SIZE = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}  # bytes, most of them holes
KINDS = tuple(MAKE)
BTRFS_START_SYNC, BTRFS_WAIT_SYNC = 0x80089418, 0x40089416  # linux/btrfs.h


class Disk:
    """A file system in a file. A copy of that file is the disk after a power cut."""

    def __init__(self, kind: str, image: Path, path: Path) -> None:
        self.path = path
        self._kind = kind
        self._image = image
        with image.open("wb") as file:
            file.truncate(SIZE[kind])
        subprocess.run([*MAKE[kind], image], check=True, capture_output=True)
        path.mkdir()

    @contextmanager
    def mounted(self, image: Path | None = None) -> Iterator[None]:
        """Mount the disk, or a copy of it after a power cut."""
        with mounted("-o", OPTIONS[self._kind], image or self._image, self.path):
            yield

    def flush(self) -> None:
        """Write all that is in memory."""
        subprocess.run(["sync", "--file-system", self.path], check=True)

    def commit(self) -> None:
        """Write names and no bytes, as the system does every few seconds: a file that was never flushed is empty."""
        with (self.path / "other").open("ab", buffering=0) as other:
            if self._kind == "btrfs":
                transaction = bytearray(8)
                fcntl.ioctl(other, BTRFS_START_SYNC, transaction)
                fcntl.ioctl(other, BTRFS_WAIT_SYNC, bytes(transaction))
            else:
                other.write(b".")
                FSYNC(other.fileno())  # the journal takes along all that came before

    def commit_blobs(self) -> None:
        """Write the names of blobs, and no others: btrfs keeps directories in no order."""
        self._commit_directories("blobs")

    def commit_manifests(self) -> None:
        """Write the names of manifests and tags, and no others."""
        self._commit_directories("manifests")

    def _commit_directories(self, name: str) -> None:
        for path in self.path.glob(f"site/v2/*/{name}"):
            directory = os.open(path, os.O_RDONLY)
            FSYNC(directory)
            os.close(directory)

    def cut(self, image: Path) -> None:
        """Keep what is on the disk now."""
        subprocess.run(["cp", "--sparse=always", self._image, image], check=True)
