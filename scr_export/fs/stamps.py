"""What shows that nothing in a tree has changed: a stamp of every file and directory. No file is opened."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice

from scr_export.fs.safe import open_directory

_DEEPEST = 200  # every level holds a file descriptor
_TEXTS_IN_A_SUM = 100


class Stamps:
    """Stamps of trees. `newest` is the latest change that was seen, in nanoseconds since 1970.

    A file that has several names is looked at once: the names cannot change unless their directories do.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._seen: defaultdict[int, set[int]] = defaultdict(set)  # inodes by device

    def of_tree(
        self, directory: int, is_entered: Callable[[str], bool], *, follow: bool, depth: int = 0
    ) -> Iterator[str]:
        """Yield a text for an open directory and for each one below it, links and those not `is_entered` excepted.

        It has the time of the directory's last change, which no program can set, the names in it, and of files the
        mode, owner, inode, size and time of modification. `follow`: of links, whether they lead to a directory.
        OSError: a directory cannot be read, or lies too deep.
        """
        if depth > _DEEPEST:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=_name_of)
        status = os.fstat(directory)
        seen = self._seen[status.st_dev]
        texts, below = [f"{status.st_dev} {self._of_directory(status)}"], []
        for entry in entries:
            name, inode = entry.name, entry.inode()
            if entry.is_symlink():
                texts.append(f"{name} {follow and entry.is_dir()}")
            elif entry.is_dir(follow_symlinks=False):
                if is_entered(name):
                    below.append(name)
                else:
                    texts.append(f"{name} {self._of_directory(entry.stat(follow_symlinks=False))}")
            elif inode not in seen:
                seen.add(inode)
                texts.append(f"{name} {self._of_file(entry.stat(follow_symlinks=False))}")
        yield "\n".join(texts)
        for name in below:
            descriptor = open_directory(name, directory)
            try:
                yield from self.of_tree(descriptor, is_entered, follow=follow, depth=depth + 1)
            finally:
                os.close(descriptor)

    def of_files(self, directory: int, names: Iterable[str]) -> Iterator[str]:
        """Yield a text for each of these names in an open directory, which may lack it."""
        for name in names:
            try:
                yield f"{name} {self._of_file(os.stat(name, dir_fd=directory, follow_symlinks=False))}"
            except FileNotFoundError:
                yield f"{name} -"

    def _of_directory(self, status: os.stat_result) -> str:
        self._note(status.st_ctime_ns)
        return f"{status.st_mode} {status.st_uid} {status.st_ino} {status.st_ctime_ns}"

    def _of_file(self, status: os.stat_result) -> str:
        # Not the time of its last change: a hard link, which others may make at any time, changes no file.
        self._note(status.st_mtime_ns)
        mode, inode, _, _, owner, group, size, *_ = status  # quicker than by name, which counts here
        return f"{mode} {owner} {group} {inode} {size} {status.st_mtime_ns}"

    def _note(self, changed: int) -> None:
        if changed > self.newest:
            self.newest = changed


def sums(texts: Iterable[str]) -> Iterator[str]:
    """Yield a hash for every hundred texts, so that most differences show before all texts were made."""
    texts = iter(texts)
    while portion := list(islice(texts, _TEXTS_IN_A_SUM)):
        yield blake2b("\n".join(portion).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _name_of(entry: os.DirEntry[str]) -> str:
    return entry.name
