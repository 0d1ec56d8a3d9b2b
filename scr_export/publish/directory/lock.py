"""Open SITE for a run that writes it, or for one that only reads it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator

from scr_export.errors import SiteError, SiteLockedError, reraise_oserror
from scr_export.fs.safe import DIRECTORY_FLAGS, directory_at, open_directory, read_file
from scr_export.publish.directory.state import State
from scr_export.publish.directory.tree import Tree
from scr_export.site import paths
from scr_export.text import printable

FORMAT = b"1\n"
_HARMLESS = {paths.STATE, "lost+found"}
_STATE_MODE = 0o700  # anyone who can open the lock could hold it for ever
_SITE_MODE = 0o755


@contextlib.contextmanager
def open_site(path: str) -> Iterator[int | None]:
    """Open SITE for reading. None: it does not exist. SiteError: it is not a site of this program."""
    try:
        descriptor = os.open(path, DIRECTORY_FLAGS)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise SiteError(f"{printable(path)}: cannot be opened: {error.strerror}") from error
    try:
        _refuse_others(path, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_others(path: str, site: int) -> None:
    try:
        names = set(os.listdir(site))
        if paths.STATE not in names:
            if names - _HARMLESS:
                raise SiteError(
                    f"{printable(path)}: has files, but no {paths.STATE}: not a site; give an empty directory"
                )
            return
        with directory_at(paths.STATE, site) as directory:
            found = read_file("format", directory, 100)[0]
    except FileNotFoundError:
        if paths.REGISTRY in names:  # no export makes that before `format`
            raise SiteError(f"{printable(path)}: a mirror of a site; export to another directory") from None
        return  # an export was interrupted while it made its first files
    except (OSError, ValueError) as error:
        raise SiteError(
            f"{printable(path)}/{paths.STATE}: cannot be read: {error}; run as the user who made the site"
        ) from error
    if found != FORMAT:
        raise SiteError(
            f"{printable(path)}: was written by another version of scr-export; use that one, or an empty directory"
        )


@contextlib.contextmanager
def read_site(path: str) -> Iterator[tuple[int, State | None]]:
    """Open a site that no export is changing, and its state. None: no export wrote it, or it is closed to this user."""
    with reraise_oserror(SiteError, f"open {printable(path)}"):
        site = os.open(path, DIRECTORY_FLAGS)
    try:
        with reraise_oserror(SiteError, f"list {printable(path)}"):
            names = os.listdir(site)
        if paths.REGISTRY not in names:
            raise SiteError(f"{printable(path)}: has no {paths.REGISTRY}/: not a site")
        lock = _existing_lock(site)
        if lock is None:
            yield site, None
            return
        try:
            _take(lock, path, fcntl.LOCK_SH)
            # `receive` takes the lock too, and has notes of its own
            yield site, State.load(site) if is_marked(site) else None
        finally:
            os.close(lock)
    finally:
        os.close(site)


def _existing_lock(site: int) -> int | None:
    try:
        with directory_at(paths.STATE, site) as directory:
            return os.open("lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None


@contextlib.contextmanager
def lock_site(path: str) -> Iterator[int]:
    """Open SITE, which is made if need be, and lock it against other runs. SiteLockedError: another run has the lock.

    Directories created for a site that stays empty are removed again.
    """
    created = _missing(path)
    with reraise_oserror(SiteError, f"make {printable(path)}"):
        os.makedirs(path, exist_ok=True)
        for each in created:
            os.chmod(each, _SITE_MODE)  # an ACL of the parent may have taken rights away
    with open_site(path) as site:
        if site is None:
            raise SiteError(f"{printable(path)}: was removed by another program")
        with reraise_oserror(SiteError, f"write to {printable(path)}"):
            directory = _state_directory(site)
        lock = _lock(path, directory)
        try:
            yield site
        finally:
            is_marked = _is_marked(directory)
            if not is_marked:
                _remove_quietly("lock", directory)
            os.close(lock)  # before its directory goes: some file systems keep an open file's name
            if not is_marked:
                _remove_created(path, directory, created)
            os.close(directory)


def _missing(path: str) -> list[str]:
    """Return the directories of a path that do not exist, the innermost first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path.rstrip("/"))
    return missing


def _state_directory(site: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(paths.STATE, _STATE_MODE, dir_fd=site)
    directory = open_directory(paths.STATE, site)
    _set_mode(directory, _STATE_MODE)
    return directory


def _set_mode(descriptor: int, mode: int) -> None:
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, mode)


def _lock(path: str, directory: int) -> int:
    with reraise_oserror(SiteError, f"lock {printable(path)}"):
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        _take(lock, path, fcntl.LOCK_EX)
    except SiteLockedError:
        os.close(lock)
        raise
    if os.fstat(lock).st_nlink == 0:
        os.close(lock)
        raise SiteLockedError(f"{printable(path)}: an export that failed is removing it; try again")
    if os.fstat(lock).st_nlink > 1:  # it has another name somewhere, and must not be written to
        os.unlink("lock", dir_fd=directory)
        os.close(lock)
        return _lock(path, directory)
    with contextlib.suppress(OSError):  # on a full disk a run can still remove files
        _set_mode(lock, 0o600)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    return lock


def _take(lock: int, path: str, kind: int) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = printable(os.read(lock, 200).decode(errors="replace").strip()) or "an unnamed process"
        raise SiteLockedError(f"{printable(path)}: held by {holder}; try again when it has finished") from None
    except OSError as error:
        raise SiteError(f"cannot lock {printable(path)}: {error.strerror}") from error


def is_locked(descriptor: int) -> bool:
    """Tell whether another process holds the lock of an open file or directory."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def mark(tree: Tree) -> None:
    """Mark the site as one of this program, before anything else is written."""
    tree.write(FORMAT, paths.STATE, "format")


def is_marked(site: int) -> bool:
    """Tell whether an export wrote to this site before."""
    with directory_at(paths.STATE, site) as directory:
        return _is_marked(directory)


def _is_marked(directory: int) -> bool:
    return "format" in os.listdir(directory)


def _remove_created(path: str, directory: int, created: list[str]) -> None:
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir("tmp", dir_fd=directory)
        os.rmdir(os.path.join(path, paths.STATE))
        for each in created:
            os.rmdir(each)


def _remove_quietly(name: str, directory: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)
