"""Open and read files without following links, blocking on a FIFO or leaving an access time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

# A FIFO must not block, and a link must not be followed.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_SIZE = 256 * 1024


def open_untouched(path: str, flags: int, root: int | None = None) -> int:
    """Open without leaving an access time, which the system allows the owner alone; for others as usual."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=root)
    except PermissionError:
        return os.open(path, flags, dir_fd=root)


def open_directory(path: str, root: int) -> int:
    """Return a descriptor of the directory at `path` below the open directory `root`. No component may be a link."""
    flags = DIRECTORY_FLAGS | os.O_NOFOLLOW
    first, *rest = path.split("/")
    descriptor = open_untouched(first or ".", flags, root)
    for component in rest:
        try:
            below = open_untouched(component, flags, descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


@contextmanager
def directory_at(path: str, root: int) -> Iterator[int]:
    """Open a directory as `open_directory` does, and close it at the end of the block."""
    descriptor = open_directory(path, root)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(name: str, directory: int) -> int:
    """Return a descriptor of the file `name` in an open directory, for reading."""
    return open_untouched(name, _READ_FLAGS, directory)


def open_file_at(path: str, root: int) -> int:
    """Return a descriptor of the file at `path` below `root`, for reading. No component may be a link."""
    directory, _, name = path.rpartition("/")
    with directory_at(directory, root) as parent:
        return open_file(name, parent)


def read_file(name: str, directory: int, limit: int) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file and its status.

    ValueError: it is not a regular file of at most `limit` bytes. OSError: it cannot be read.
    """
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise ValueError("is not a regular file")  # checked before opening: to open a device can act on it
    descriptor = open_file(name, directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > limit:
            raise ValueError(f"is larger than {limit} bytes")
        data = _read_up_to(descriptor, status.st_size + 1)
    finally:
        os.close(descriptor)
    if len(data) != status.st_size:
        raise ValueError("changed while it was read")
    return data, status


def _read_up_to(descriptor: int, count: int) -> bytes:
    data = os.read(descriptor, count)
    while len(data) < count - 1 and (more := os.read(descriptor, count - len(data))):
        data += more
    return data


def chunks(descriptor: int) -> Iterator[bytes]:
    """Yield the bytes of an open file in pieces."""
    while piece := os.read(descriptor, _READ_SIZE):
        yield piece
