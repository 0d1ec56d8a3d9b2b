"""The one module that changes SITE. Everything appears under its name complete, or not at all.

A new name is made by one system call. An existing one is replaced by a rename from SITE/.scr-export/tmp, so whatever an
interruption leaves unfinished lies there, and the next export empties it.
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

from scr_export.fs.file import SourceFile
from scr_export.fs.safe import chunks, directory_at, open_directory, open_file_at, read_file
from scr_export.site import paths
from scr_export.site.entries import HardLink, Symlink

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


class Placement(StrEnum):
    """How content came into the site."""

    LINKED = "linked"
    REFLINKED = "reflinked"
    COPIED = "copied"


class SourceChangedError(Exception):
    """A file of IMAGES is no longer what was verified. The text is its path."""


def before_change() -> None:
    """Called before every system call that changes the disk; a test can replace it."""


class Tree:
    """SITE, open for changes; `images` is IMAGES, open for reading."""

    def __init__(self, site: int, images: int) -> None:
        self._site = site
        self._images = images
        self._open: list[tuple[str, int]] = []  # the directories down to the one used last, with their paths
        self._serial = 0
        self._temporary = -1

    def __enter__(self) -> Tree:
        self._temporary = os.dup(self.directory(TEMPORARY))
        self._empty_temporary()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._empty_temporary()
        for opened in self._open:
            os.close(opened[1])
        os.close(self._temporary)

    def sync(self) -> None:
        """Write all changes so far, and the data of linked files, to the disk (syncfs(2))."""
        before_change()
        if _LIBC.syncfs(self._site):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def can_link(self, file: SourceFile) -> bool:
        """Tell whether the system makes a hard link of a file of IMAGES in the site now."""
        temporary = self._temporary_name()
        before_change()
        try:
            os.link(file.path, temporary, src_dir_fd=self._images, dst_dir_fd=self._temporary, follow_symlinks=False)
        except OSError:
            return False
        before_change()
        os.unlink(temporary, dir_fd=self._temporary)
        return True

    def try_names(self) -> None:
        """Raise OSError where there are no symbolic links or colons in names, FileExistsError where `A` is `a`."""
        for name in ("a:b", "A:B"):
            before_change()
            os.symlink("nowhere", name, dir_fd=self._temporary)

    def link(self, file: SourceFile, directory: str, name: str, *, overwrite: bool) -> None:
        """Give a file of IMAGES another name in the site. OSError of `cannot_link`: it has to be copied."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            try:
                os.link(file.path, new, src_dir_fd=self._images, dst_dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                raise SourceChangedError(file.path) from None
            if not file.is_unchanged(os.stat(new, dir_fd=parent, follow_symlinks=False)):
                before_change()
                os.unlink(new, dir_fd=parent)
                raise SourceChangedError(file.path)

        self._put(link_to, directory, name, overwrite)

    def link_within(self, path: str, directory: str, name: str, *, overwrite: bool) -> None:
        """Give a file of the site another name."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            os.link(path, new, src_dir_fd=self._site, dst_dir_fd=parent, follow_symlinks=False)

        self._put(link_to, directory, name, overwrite)

    def copy(
        self, file: SourceFile, directory: str, name: str, advance: Callable[[int], None]
    ) -> tuple[Placement, SourceFile]:
        """Give the site its own copy, hashed while it is made. Returns the copy too, with its path in the site.

        `advance` is called with the length of each piece.
        """
        temporary = self._temporary_name()
        try:
            source = open_file_at(file.path, self._images)
        except FileNotFoundError:
            raise SourceChangedError(file.path) from None
        try:
            placement, status = self._copy_hashed(file, source, temporary, advance)
        finally:
            os.close(source)
        self._rename(temporary, self.directory(directory), name)
        return placement, SourceFile.of(file.digest, directory, name, status)

    def _copy_hashed(
        self, file: SourceFile, source: int, temporary: str, advance: Callable[[int], None]
    ) -> tuple[Placement, os.stat_result]:
        before_change()
        target = _create(temporary, self._temporary)
        try:
            placement = _clone(source, target)
            hasher = file.digest.hasher()
            for piece in chunks(target if placement is Placement.REFLINKED else source):
                hasher.update(piece)
                if placement is Placement.COPIED:
                    _write(target, piece)
                advance(len(piece))
            if not file.digest.is_of(hasher) or not file.is_unchanged(os.fstat(source)):
                raise SourceChangedError(file.path)
            os.fsync(target)
            return placement, os.fstat(target)
        finally:
            os.close(target)

    def symlink(self, target: str, directory: str, name: str, *, overwrite: bool) -> None:
        """Make or move a symbolic link."""

        def link_to(parent: int, new: str) -> None:
            before_change()
            os.symlink(target, new, dir_fd=parent)

        self._put(link_to, directory, name, overwrite)

    def write(self, data: bytes, directory: str, name: str, *, overwrite: bool = True, mode: int = _FILE_MODE) -> None:
        """Make or replace a file with these bytes. Before they replace others, they are on the disk."""
        temporary = self._temporary_name()
        before_change()
        _write_new(temporary, data, self._temporary, mode=mode, sync=overwrite)
        self._rename(temporary, self.directory(directory), name)

    def make_directory(self, directory: str, name: str) -> None:
        """Make one directory, if it does not exist."""
        parent = self.directory(directory)
        try:
            _make_directory(name, parent)
        except FileExistsError:
            os.close(_make_and_open(name, parent))

    def make_public(self, directory: str) -> None:
        """Let every user list and enter a directory."""
        with self._existing(directory) as descriptor:
            before_change()
            os.fchmod(descriptor, _DIRECTORY_MODE)

    def fill_directory(
        self, files: Iterable[tuple[str, bytes | HardLink | Symlink]], directory: str, name: str
    ) -> None:
        """Make a directory with all its files, which appears as a whole."""
        temporary = self._temporary_name()
        top = _make_and_open(temporary, self._temporary)
        try:
            for path, file in files:
                _add(path, file, top)
        finally:
            os.close(top)
        self._rename(temporary, self.directory(directory), name)

    def set_aside(self, names: Iterable[str]) -> None:
        """Move files at the top of SITE into SITE/.scr-export, as far as they exist."""
        state = self.directory(paths.STATE)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.stat(name, dir_fd=self._site, follow_symlinks=False).st_mode):
                    before_change()
                    os.rename(name, name, src_dir_fd=self._site, dst_dir_fd=state)

    def remove(self, directory: str, name: str) -> None:
        """Remove a name and, if it is a directory, everything in it, in one instant. No link is followed."""
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
        # A directory that does not exist needs no change.
        with contextlib.suppress(FileNotFoundError), directory_at(path, self._site) as descriptor:
            yield descriptor

    def directory(self, path: str) -> int:
        """Return a descriptor of this directory, which is made if need be. It is valid until the next call."""
        if self._open and self._open[-1][0] == path:
            return self._open[-1][1]
        while self._open and not f"{path}/".startswith(f"{self._open[-1][0]}/"):
            os.close(self._open.pop()[1])
        known = self._open[-1][0] if self._open else ""
        for name in filter(None, path.removeprefix(known).split("/")):
            below = _make_and_open(name, self._last())
            known = f"{known}/{name}".lstrip("/")
            self._open.append((known, below))
        return self._last()

    def _last(self) -> int:
        return self._open[-1][1] if self._open else self._site

    def _put(self, make: Callable[[int, str], None], directory: str, name: str, overwrite: bool) -> None:
        parent = self.directory(directory)
        if not overwrite:
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
            self._discard(parent, name)  # a directory that becomes a tag, or something that no export made
            before_change()
            os.rename(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=parent)

    def _temporary_name(self) -> str:
        self._serial += 1
        return str(self._serial)

    def _empty_temporary(self) -> None:
        for name in os.listdir(self._temporary):
            _remove(self._temporary, name)


def cannot_link(error: OSError) -> bool:
    """Tell whether a refused link means that a copy is possible."""
    return error.errno in _NO_LINK


def is_across_mounts(error: OSError) -> bool:
    """Tell whether a link was refused since the file is on another file system, or on another mount of the same."""
    return error.errno == errno.EXDEV


def _make_and_open(name: str, parent: int) -> int:
    try:
        return open_directory(name, parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        before_change()
        os.unlink(name, dir_fd=parent)  # a link or a file has the name of a directory of the site
    with contextlib.suppress(FileExistsError):
        _make_directory(name, parent)
    return open_directory(name, parent)


def _make_directory(name: str, parent: int) -> None:
    before_change()
    os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
    os.chmod(name, _DIRECTORY_MODE, dir_fd=parent)  # an ACL of the parent may have taken rights away


def _create(name: str, directory: int, mode: int = _FILE_MODE) -> int:
    descriptor = os.open(name, _NEW_FILE, mode, dir_fd=directory)
    os.fchmod(descriptor, mode)  # an ACL of the directory may have taken rights away
    return descriptor


def _add(path: str, file: bytes | HardLink | Symlink, top: int) -> None:
    before_change()
    try:
        match file:
            case Symlink(target):
                os.symlink(target, path, dir_fd=top)
            case HardLink(other):
                _link_again(other, path, top)
            case bytes():
                _write_new(path, file, top)
    except FileNotFoundError:
        _make_parents(path, top)
        _add(path, file, top)


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
        with contextlib.suppress(FileExistsError):
            _make_directory(parent, top)


def _write_new(name: str, data: bytes, directory: int, *, mode: int = _FILE_MODE, sync: bool = False) -> None:
    descriptor = _create(name, directory, mode)
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


def _clone(source: int, target: int) -> Placement:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return Placement.COPIED
    return Placement.REFLINKED


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
