"""Files that must hold the bytes of a digest, and the proof that they do."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from typing import NamedTuple

from scr_export.oci.digest import Digest

_READ_SIZE = 1024 * 1024
# So many threads read files of less bytes. They hold the interpreter's lock most of the time, and more would be slower.
_SMALL, _SMALL_AT_ONCE = 64 * 1024, 2
# A FIFO must not make us wait, and a link must not lead us away.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Content(NamedTuple):
    """A regular file as it was when it was looked at, and the digest that its bytes must have.

    `path` is relative to the root that was read. `size` is in bytes, `mtime` in nanoseconds.
    """

    digest: Digest
    path: str
    device: int
    inode: int
    size: int
    mtime: int
    readable: bool  # by everyone, as a web server must

    @classmethod
    def of(cls, digest: Digest, path: str, status: os.stat_result) -> Content:
        """From what the system says of the file."""
        return cls(
            digest,
            path,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            bool(status.st_mode & stat.S_IROTH),
        )

    def is_still(self, status: os.stat_result) -> bool:
        """Whether this is the same file, unchanged since it was looked at."""
        return (self.inode, self.device, self.size, self.mtime) == (
            status.st_ino,
            status.st_dev,
            status.st_size,
            status.st_mtime_ns,
        )

    @property
    def identity(self) -> str:
        """One line that stays the same while the file does."""
        return f"{self.digest} {self.device} {self.inode} {self.size} {self.mtime}"


def open_untouched(path: str, flags: int, root: int | None = None) -> int:
    """Open without leaving an access time, which the system allows the owner alone; for others as usual."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=root)
    except PermissionError:
        return os.open(path, flags, dir_fd=root)


def open_directory(path: str, root: int) -> int:
    """A descriptor of the directory at `path` below the open directory `root`; no component of it may be a link."""
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
    """`open_directory` for the length of a block."""
    descriptor = open_directory(path, root)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(path: str, root: int) -> int:
    """A descriptor of the file at `path` below `root`, for reading; no component of it may be a link."""
    directory, _, name = path.rpartition("/")
    with directory_at(directory, root) as parent:
        return open_untouched(name, _READ_FLAGS, parent)


def read_file(name: str, directory: int, limit: int) -> tuple[bytes, os.stat_result]:
    """The whole of a regular file of at most `limit` bytes. ValueError: it is not that; OSError: it cannot be read."""
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise ValueError("is not a regular file")  # looked at before it is opened: opening a device can act on it
    descriptor = open_untouched(name, _READ_FLAGS, directory)
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
    data = b""
    while more := os.read(descriptor, count - len(data)):
        data += more
    return data


def chunks(descriptor: int) -> Iterator[bytes]:
    """The bytes of an open file, a piece at a time."""
    while piece := os.read(descriptor, _READ_SIZE):
        yield piece


class _Reader:
    """Reads files below a root; the directory of the last one stays open."""

    def __init__(self, root: int, read: Callable[[int], None]) -> None:
        self._root = root
        self._read = read
        self._directory: tuple[str, int] | None = None

    def close(self) -> None:
        if self._directory:
            os.close(self._directory[1])
            self._directory = None

    def defect(self, content: Content) -> str | None:
        """What is wrong with a file when it is read now, or None."""
        try:
            descriptor = self._open(content.path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        try:
            if not content.is_still(os.fstat(descriptor)):
                return "changed while it was read"
            hasher = content.digest.hasher()
            for piece in chunks(descriptor):
                hasher.update(piece)
                self._read(len(piece))
            if not content.is_still(os.fstat(descriptor)):
                return "changed while it was read"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)
        return None if content.digest.is_of(hasher) else f"holds {content.digest.algorithm}:{hasher.hexdigest()}"

    def _open(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        if not self._directory or self._directory[0] != directory:
            self.close()
            self._directory = directory, open_directory(directory, self._root)
        return open_untouched(name, _READ_FLAGS, self._directory[1])


def defects(
    contents: Collection[Content], root: int, jobs: int, read: Callable[[int], None] = lambda _: None
) -> list[tuple[Content, str]]:
    """Read files, the largest first and up to `jobs` at a time; tell which are not what they must be.

    `read` is told of every piece's length.
    """
    large = iter(sorted((c for c in contents if c.size >= _SMALL), key=lambda content: -content.size))
    # Of the small ones there are many; they come directory by directory.
    small = iter(sorted((c for c in contents if c.size < _SMALL), key=lambda content: content.path))
    lock, stopped = threading.Lock(), threading.Event()
    found: list[tuple[Content, str]] = []

    def counted(length: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        with lock:
            read(length)

    def work(number: int) -> None:
        queue = chain(large, small) if number < _SMALL_AT_ONCE else large
        with closing(_Reader(root, counted)) as reader:
            while not stopped.is_set():
                with lock:
                    content = next(queue, None)
                if content is None:
                    return
                if what := reader.defect(content):
                    found.append((content, what))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(work, range(jobs)))
        except BaseException:
            stopped.set()
            raise
    return sorted(found)
