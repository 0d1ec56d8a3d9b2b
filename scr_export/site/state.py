"""SITE/.scr-export: who writes the site now, and what one export leaves for the next. Never served.

format      marks a site of this program, and the version of its layout
lock        held by the kernel while an export runs; its text names the holder
state.json  what is waiting to be removed, and which files could not be linked
verified    the files whose bytes were found right, a line each
tmp/        what is not finished yet
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from scr_export.errors import BadSite, SiteHeld, printable, told_as
from scr_export.images.content import DIRECTORY_FLAGS, directory_at, open_directory, read_file
from scr_export.site import paths
from scr_export.site.files import Tree

FORMAT = b"1\n"
_HARMLESS = {paths.STATE, "lost+found"}
_LIMIT = 2**31
_UNUSABLE = (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


@dataclass(slots=True)
class State:
    """What the last export noted. Losing it costs time only: files are hashed again, and waiting begins anew."""

    verified: set[str] = field(default_factory=set)  # Content.identity
    released: dict[str, float] = field(default_factory=dict)  # path in SITE -> seconds since 1970
    unlinkable: set[str] = field(default_factory=set)  # Content.identity

    @classmethod
    def load(cls, site: int) -> State:
        """The state of this site; empty where there is none that can be read."""
        state = cls()
        with contextlib.suppress(OSError, ValueError), directory_at(paths.STATE, site) as directory:
            state.verified = set(read_file("verified", directory, _LIMIT)[0].decode().splitlines())
        with contextlib.suppress(*_UNUSABLE), directory_at(paths.STATE, site) as directory:
            noted = json.loads(read_file("state.json", directory, _LIMIT)[0])
            state.released = {str(path): float(since) for path, since in noted["released"].items()}
            state.unlinkable = {str(line) for line in noted["unlinkable"]}
        return state

    def save(self, tree: Tree, before: State) -> None:
        """Write what differs from `before`."""
        if self.verified != before.verified:
            tree.write("".join(f"{line}\n" for line in sorted(self.verified)).encode(), paths.STATE, "verified")
        if (self.released, self.unlinkable) != (before.released, before.unlinkable):
            noted = {"released": self.released, "unlinkable": sorted(self.unlinkable)}
            tree.write(json.dumps(noted, indent=1).encode() + b"\n", paths.STATE, "state.json")


@contextlib.contextmanager
def open_site(path: str) -> Iterator[int | None]:
    """SITE, open for reading; None if it does not exist. BadSite if it is not one of ours."""
    try:
        descriptor = os.open(path, DIRECTORY_FLAGS)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise BadSite(f"{printable(path)}: cannot be opened: {error.strerror}") from error
    try:
        _refuse_strangers(path, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_strangers(path: str, site: int) -> None:
    try:
        names = set(os.listdir(site))
        if paths.STATE not in names:
            if names - _HARMLESS:
                raise BadSite(
                    f"{printable(path)}: has files, but no {paths.STATE}: not a site; give an empty directory"
                )
            return
        with directory_at(paths.STATE, site) as directory:
            found = read_file("format", directory, 100)[0]
    except FileNotFoundError:
        return  # an export was interrupted while it made its first files
    except (OSError, ValueError) as error:
        raise BadSite(f"{printable(path)}/{paths.STATE}: cannot be read: {error}") from error
    if found != FORMAT:
        raise BadSite(
            f"{printable(path)}: was written by another version of scr-export; use that one, or an empty directory"
        )


@contextlib.contextmanager
def read_site(path: str) -> Iterator[tuple[int, State | None]]:
    """A site that no export is changing, and its notes if it has any: one that was carried elsewhere has none."""
    with told_as(BadSite, f"open {printable(path)}"):
        site = os.open(path, DIRECTORY_FLAGS)
    try:
        if paths.REGISTRY not in os.listdir(site):
            raise BadSite(f"{printable(path)}: has no {paths.REGISTRY}/: not a site")
        lock = _existing_lock(site)
        if lock is None:
            yield site, None
            return
        try:
            _take(lock, path, fcntl.LOCK_SH)
            yield site, State.load(site)
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
def hold_site(path: str) -> Iterator[tuple[int, bool]]:
    """SITE, made if need be and locked against other exports; and whether it is new. SiteHeld at once if it is locked.

    What was made for a site that nothing was published to is gone again at the end.
    """
    made = _missing(path)
    with told_as(BadSite, f"make {printable(path)}"):
        os.makedirs(path, exist_ok=True)
    with open_site(path) as site:
        if site is None:
            raise BadSite(f"{printable(path)}: was removed meanwhile")
        with told_as(BadSite, f"write to {printable(path)}"):
            directory = _state_directory(site)
        lock = _lock(path, directory)
        try:
            yield site, not _is_marked(directory)
        finally:
            is_marked = _is_marked(directory)
            if not is_marked:
                _remove_quietly("lock", directory)
            os.close(lock)  # before its directory goes: some file systems keep an open file's name
            if not is_marked:
                _leave(path, directory, made)
            os.close(directory)


def _missing(path: str) -> list[str]:
    """What of a path is not there yet, the innermost directory first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path.rstrip("/"))
    return missing


def _state_directory(site: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(paths.STATE, dir_fd=site)
    return open_directory(paths.STATE, site)


def _lock(path: str, directory: int) -> int:
    with told_as(BadSite, f"lock {printable(path)}"):
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=directory)
    try:
        _take(lock, path, fcntl.LOCK_EX)
    except SiteHeld:
        os.close(lock)
        raise
    if os.fstat(lock).st_nlink == 0:
        os.close(lock)
        raise SiteHeld(f"{printable(path)}: an export that failed is taking it away; try again")
    if os.fstat(lock).st_nlink > 1:  # it has another name somewhere, and is not ours to write to
        os.unlink("lock", dir_fd=directory)
        os.close(lock)
        return _lock(path, directory)
    with contextlib.suppress(OSError):  # a full disk may still be made emptier
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    return lock


def _take(lock: int, path: str, kind: int) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = printable(os.read(lock, 200).decode(errors="replace").strip()) or "an unnamed process"
        raise SiteHeld(f"{printable(path)}: held by {holder}; try again when it has finished") from None
    except OSError as error:
        raise BadSite(f"cannot lock {printable(path)}: {error.strerror}") from error


def mark(tree: Tree) -> None:
    """Make the site one of ours, before anything else is written."""
    tree.write(FORMAT, paths.STATE, "format")


def _is_marked(directory: int) -> bool:
    return "format" in os.listdir(directory)


def _leave(path: str, directory: int, made: list[str]) -> None:
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir("tmp", dir_fd=directory)
        os.rmdir(os.path.join(path, paths.STATE))
        for missed in made:
            os.rmdir(missed)


def _remove_quietly(name: str, directory: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)
