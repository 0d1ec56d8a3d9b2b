"""A snapshot of a site's content, in SITE/.scr-export: hard links, so that an export need not wait for a slow receiver.

COMMAND/           locked while snapshots are made and removed; COMMAND is `pack` or `push`
COMMAND/NUMBER/    the snapshot of one run, which holds a lock on it; each file is named by its digest

What a killed run left is not locked, and the next run of that command removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterable, Iterator

from scr_export.fs.safe import DIRECTORY_FLAGS, directory_at, open_directory, open_file, open_file_at
from scr_export.oci.digest import Digest
from scr_export.publish.directory.lock import is_locked
from scr_export.publish.directory.prove import Blob
from scr_export.site import paths

_MODE = 0o700


@contextlib.contextmanager
def snapshot_directory(site: int, command: str) -> Iterator[int | None]:
    """Make the directory of a command's snapshot, and remove it at the end. None: this user cannot write to SITE."""
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(_own_directory(site, f"{paths.STATE}/{command}"))
        except OSError:
            directory = None
        yield directory


@contextlib.contextmanager
def _own_directory(site: int, snapshots: str) -> Iterator[int]:
    is_new = _make(paths.STATE, site)
    _make(snapshots, site)
    top = open_directory(snapshots, site)
    name = ""
    try:
        fcntl.flock(top, fcntl.LOCK_EX)
        _remove_dead(top)
        name = _free_name(top)
        os.mkdir(name, _MODE, dir_fd=top)
        directory = open_directory(name, top)
        fcntl.flock(directory, fcntl.LOCK_EX)
        fcntl.flock(top, fcntl.LOCK_UN)
        try:
            yield directory
        finally:
            os.close(directory)
    finally:
        with _without_signals():
            _clean_up(site, top, name, snapshots if is_new else "")
            os.close(top)


def _clean_up(site: int, top: int, name: str, new: str) -> None:
    with contextlib.suppress(OSError):
        if name:
            _remove(name, top)
    with contextlib.suppress(OSError):
        if new:  # in a mirror, which has no notes of an export
            os.rmdir(new, dir_fd=site)
            os.rmdir(paths.STATE, dir_fd=site)


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Let a signal that ends the program wait for the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_snapshot(site: int, directory: int, content: Iterable[tuple[Digest, Blob]]) -> bool:
    """Link each file into the directory of a snapshot. False: the system refused to link one."""
    above: tuple[str, int] | None = None
    try:
        for digest, blob in sorted(content, key=lambda item: item[1].path):
            parent, _, name = blob.path.rpartition("/")
            if not above or above[0] != parent:
                if above:
                    os.close(above[1])
                above = parent, open_directory(parent, site)
            os.link(name, digest, src_dir_fd=above[1], dst_dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    finally:
        if above:
            os.close(above[1])
    return True


def open_in_snapshot(snapshot: int, digest: Digest, blob: Blob) -> int:
    """Return a descriptor of a file in a snapshot."""
    return open_file(digest, snapshot)


def open_in_site(site: int, digest: Digest, blob: Blob) -> int:
    """Return a descriptor of a file in the site itself, where no snapshot could be taken of it."""
    return open_file_at(blob.path, site)


def _make(path: str, site: int) -> bool:
    try:
        os.mkdir(path, _MODE, dir_fd=site)
    except FileExistsError:
        return False
    return True


def _free_name(top: int) -> str:
    taken = set(os.listdir(top))
    return next(name for name in map(str, range(1, len(taken) + 2)) if name not in taken)


def _remove_dead(top: int) -> None:
    for name in os.listdir(top):
        with contextlib.suppress(OSError):
            if not _is_at_work(name, top):
                _remove(name, top)


def _is_at_work(name: str, top: int) -> bool:
    """Tell whether the run of a snapshot still holds it."""
    descriptor = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=top)
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)


def _remove(name: str, top: int) -> None:
    with directory_at(name, top) as directory:
        for each in os.listdir(directory):
            os.unlink(each, dir_fd=directory)
    os.rmdir(name, dir_fd=top)
