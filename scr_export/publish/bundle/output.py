"""Where a bundle goes: a file that appears when it is complete, a device or a pipe, or standard output."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import stat
import sys
from collections.abc import Iterator

from scr_export.errors import BundleError, SiteLockedError, UsageError, reason, reraise_oserror
from scr_export.text import printable

STDOUT = "-"
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Output:
    """Bytes that go out: counted, and hashed."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.size = 0
        self.hasher = hashlib.sha256()
        self._descriptor = descriptor
        self._name = name

    def write(self, data: bytes) -> None:
        """Write all the bytes. BundleError: they cannot be written."""
        self.size += len(data)
        self.hasher.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._write(view) :]
        except BrokenPipeError:
            raise BundleError(
                f"{self._name}: its reader ended before the bundle did; the bundle is not complete"
            ) from None
        except OSError as error:
            raise BundleError(f"{self._name}: cannot be written: {reason(error)}") from error

    def _write(self, view: memoryview) -> int:
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:  # the other end of a pipe can set this
            select.select([], [self._descriptor], [])
            return 0


@contextlib.contextmanager
def open_output(path: str) -> Iterator[Output]:
    """Open BUNDLE. A file gets its name at the end of the block, when it is on the disk; until then nothing changes."""
    name = printable(path)
    if path == STDOUT:
        if sys.stdout.isatty():
            raise UsageError("standard output is a terminal: give a file, or lead it into a pipe")
        yield Output(sys.stdout.fileno(), "standard output")
    elif _is_file(path):
        with _temporary(os.path.realpath(path), name) as descriptor:
            yield Output(descriptor, name)
    else:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{name}: cannot be written: {error.strerror}") from error
        try:
            yield Output(descriptor, name)
        finally:
            os.close(descriptor)


def _is_file(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UsageError(f"{printable(path)}: cannot be written: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{printable(path)}: is a directory; give the name of a file in it")
    return stat.S_ISREG(mode)


@contextlib.contextmanager
def _temporary(path: str, name: str) -> Iterator[int]:
    above, _, last = path.rpartition("/")
    temporary = f"{above}/.{last}.part"
    descriptor = _open_locked(temporary, name)
    try:
        with reraise_oserror(BundleError, f"write {name}"):
            os.ftruncate(descriptor, 0)  # what a killed run left
        yield descriptor
        with reraise_oserror(BundleError, f"write {name}"):
            os.fsync(descriptor)
            os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def _open_locked(temporary: str, name: str) -> int:
    while True:
        try:
            descriptor = os.open(temporary, _NEW_FILE, 0o644)
        except OSError as error:
            raise UsageError(f"{name}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise SiteLockedError(f"{name}: another run writes it; try again when it has finished") from None
        except OSError:
            return descriptor  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary, follow_symlinks=False), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # the other run finished, and has renamed it
