"""The one module that changes the disk. Everything appears under its name complete, or not at all.

A name that is free is taken by one system call. A name that is taken is replaced by a rename from SITE/.scr-export/tmp,
so whatever an interruption leaves half made lies there, and the next export empties it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import accumulate

from scr_export.images.content import Content, chunks, directory_at, open_directory, open_file, read_file
from scr_export.site import paths
from scr_export.site.pages import Link, Same

TEMPORARY = f"{paths.STATE}/tmp"

# What rename(2) says where a directory stands, or where one shall.
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST}
# ioctl_ficlone(2): share the extents of another file. Where the number is another, this fails and a copy is made.
_FICLONE = 0x40049409
_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)
# What link(2) says when this file cannot be linked here but can be copied.
_NO_LINK = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}


class How(StrEnum):
    """How content came into the site."""

    LINKED = "linked"
    REFLINKED = "reflinked"
    COPIED = "copied"


class ChangedMeanwhile(Exception):
    """A file of IMAGES is no longer what was verified. The text is its path."""


def before_change() -> None:
    """Called before every system call that changes the disk; a test may put its own in this place."""


class Tree:
    """SITE, open for changes; `images` is IMAGES, open for reading."""

    def __init__(self, site: int, images: int) -> None:
        self._site = site
        self._images = images
        self._way: list[tuple[str, int]] = []  # the open directories down to the one used last, with their paths
        self._serial = 0
        self._temporary = -1

    def __enter__(self) -> Tree:
        self._temporary = os.dup(self.directory(TEMPORARY))
        self._empty_temporary()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._empty_temporary()
        for opened in self._way:
            os.close(opened[1])
        os.close(self._temporary)

    def settle(self) -> None:
        """Wait until all that was changed so far, and what was linked, outlives a power cut (syncfs(2))."""
        before_change()
        if _LIBC.syncfs(self._site):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def try_names(self) -> None:
        """Raise OSError where there are no symbolic links or colons in names, FileExistsError where `A` is `a`."""
        for name in ("a:b", "A:B"):
            before_change()
            os.symlink("nowhere", name, dir_fd=self._temporary)

    def link(self, content: Content, directory: str, name: str, *, free: bool) -> None:
        """Give a file of IMAGES this name too. OSError of `cannot_link`: it has to be copied."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            try:
                os.link(content.path, new, src_dir_fd=self._images, dst_dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                raise ChangedMeanwhile(content.path) from None
            if not content.is_still(os.stat(new, dir_fd=parent, follow_symlinks=False)):
                before_change()
                os.unlink(new, dir_fd=parent)
                raise ChangedMeanwhile(content.path)

        self._put(link_to, directory, name, free)

    def link_within(self, path: str, directory: str, name: str, *, free: bool) -> None:
        """Give a file that the site has already this name too."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            os.link(path, new, src_dir_fd=self._site, dst_dir_fd=parent, follow_symlinks=False)

        self._put(link_to, directory, name, free)

    def copy(self, content: Content, directory: str, name: str) -> How:
        """Give the site its own copy, verified while it is made."""
        temporary = self._temporary_name()
        try:
            source = open_file(content.path, self._images)
        except FileNotFoundError:
            raise ChangedMeanwhile(content.path) from None
        try:
            how = self._copy_verified(content, source, temporary)
        finally:
            os.close(source)
        self._rename(temporary, self.directory(directory), name)
        return how

    def _copy_verified(self, content: Content, source: int, temporary: str) -> How:
        before_change()
        target = os.open(temporary, _NEW_FILE, _FILE_MODE, dir_fd=self._temporary)
        try:
            how = _clone(source, target)
            hasher = content.digest.hasher()
            for piece in chunks(target if how is How.REFLINKED else source):
                hasher.update(piece)
                if how is How.COPIED:
                    _write(target, piece)
            if not content.digest.is_of(hasher) or not content.is_still(os.fstat(source)):
                raise ChangedMeanwhile(content.path)
            os.fsync(target)
        finally:
            os.close(target)
        return how

    def symlink(self, target: str, directory: str, name: str, *, free: bool) -> None:
        """Make or move a symbolic link."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            os.symlink(target, new, dir_fd=parent)

        self._put(link_to, directory, name, free)

    def write(self, data: bytes, directory: str, name: str, *, free: bool = False) -> None:
        """Make or replace a file with these bytes; where there was one, they are on the disk before it goes."""
        temporary = self._temporary_name()
        before_change()
        _write_new(temporary, data, self._temporary, sync=not free)
        self._rename(temporary, self.directory(directory), name)

    def make_directory(self, directory: str, name: str) -> None:
        """Make one directory; it may be there already."""
        parent = self.directory(directory)
        before_change()
        try:
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
        except FileExistsError:
            os.close(_make_and_open(name, parent))

    def fill_directory(self, files: Iterable[tuple[str, bytes | Same | Link]], directory: str, name: str) -> None:
        """Make a directory with all that is in it."""
        temporary = self._temporary_name()
        top = _make_and_open(temporary, self._temporary)
        try:
            for path, held in files:
                _add(path, held, top)
        finally:
            os.close(top)
        self._rename(temporary, self.directory(directory), name)

    def remove(self, directory: str, name: str) -> None:
        """Remove a name and, if it is a directory, all that is in it, in one instant. No link is followed."""
        with self._existing(directory) as parent, contextlib.suppress(FileNotFoundError):
            try:
                before_change()
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                self._discard(parent, name)

    def _discard(self, parent: int, name: str) -> None:
        temporary = self._temporary_name()
        before_change()
        os.rename(name, temporary, src_dir_fd=parent, dst_dir_fd=self._temporary)
        _remove(self._temporary, temporary)

    def remove_directory(self, directory: str, name: str) -> None:
        """Remove a directory if nothing is left in it."""
        with self._existing(directory) as parent:
            before_change()
            os.rmdir(name, dir_fd=parent)

    @contextlib.contextmanager
    def _existing(self, path: str) -> Iterator[int]:
        # What is not there need not be removed.
        with contextlib.suppress(FileNotFoundError), directory_at(path, self._site) as descriptor:
            yield descriptor

    def directory(self, path: str) -> int:
        """A descriptor of this directory of the site, which is made if need be; good until the next call."""
        if self._way and self._way[-1][0] == path:
            return self._way[-1][1]
        while self._way and not f"{path}/".startswith(f"{self._way[-1][0]}/"):
            os.close(self._way.pop()[1])
        known = self._way[-1][0] if self._way else ""
        for name in filter(None, path.removeprefix(known).split("/")):
            below = _make_and_open(name, self._last())
            known = f"{known}/{name}".lstrip("/")
            self._way.append((known, below))
        return self._last()

    def _last(self) -> int:
        return self._way[-1][1] if self._way else self._site

    def _put(self, make: Callable[[int, str], None], directory: str, name: str, free: bool) -> None:
        parent = self.directory(directory)
        if free:
            with contextlib.suppress(FileExistsError):
                make(parent, name)
                return
        temporary = self._temporary_name()
        make(self._temporary, temporary)
        self._rename(temporary, parent, name)

    def _rename(self, temporary: str, parent: int, name: str) -> None:
        before_change()
        try:
            os.rename(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=parent)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._discard(parent, name)  # what no export of ours put there, or a directory that becomes a tag
            before_change()
            os.rename(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=parent)

    def _temporary_name(self) -> str:
        self._serial += 1
        return str(self._serial)

    def _empty_temporary(self) -> None:
        for name in os.listdir(self._temporary):
            _remove(self._temporary, name)


def cannot_link(error: OSError) -> bool:
    """Whether a refused link means that a copy would do."""
    return error.errno in _NO_LINK


def _make_and_open(name: str, parent: int) -> int:
    try:
        return open_directory(name, parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        before_change()
        os.unlink(name, dir_fd=parent)  # a link or a file stands where the site has a directory
    before_change()
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
    return open_directory(name, parent)


def _add(path: str, held: bytes | Same | Link, top: int) -> None:
    before_change()
    try:
        match held:
            case Link(target):
                os.symlink(target, path, dir_fd=top)
            case Same(other):
                _link_again(other, path, top)
            case bytes():
                _write_new(path, held, top)
    except FileNotFoundError:
        _make_parents(path, top)
        _add(path, held, top)


def _link_again(other: str, path: str, top: int) -> None:
    try:
        os.link(other, path, src_dir_fd=top, dst_dir_fd=top)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        directory, _, name = other.rpartition("/")
        with directory_at(directory, top) as descriptor:
            _write_new(path, read_file(name, descriptor, 2**30)[0], top)


def _make_parents(path: str, top: int) -> None:
    for parent in accumulate(path.split("/")[:-1], "{}/{}".format):
        before_change()
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent, _DIRECTORY_MODE, dir_fd=top)


def _write_new(name: str, data: bytes, directory: int, *, sync: bool = False) -> None:
    descriptor = os.open(name, _NEW_FILE, _FILE_MODE, dir_fd=directory)
    try:
        _write(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(parent: int, name: str) -> None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        before_change()
        os.unlink(name, dir_fd=parent)
        return
    with directory_at(name, parent) as descriptor:
        for inner in os.listdir(descriptor):
            _remove(descriptor, inner)
    before_change()
    os.rmdir(name, dir_fd=parent)


def _clone(source: int, target: int) -> How:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return How.COPIED
    return How.REFLINKED


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
