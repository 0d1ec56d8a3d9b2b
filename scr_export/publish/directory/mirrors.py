"""Snapshots that killed runs of `examples/mirror`, `scr-export pack` and `scr-export push` left in SITE/.scr-export.

mirror/to-NUMBER/destination   the destination, as it was typed
mirror/to-NUMBER/lock          held by the kernel while a run is at work
mirror/to-NUMBER/run/          the snapshot of a run: hard links to content
pack/NUMBER/, push/NUMBER/     the snapshot of a run, which locks it: hard links to content
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections import Counter
from pathlib import Path

from scr_export.problems import Problems
from scr_export.publish.directory.lock import is_locked
from scr_export.site import paths
from scr_export.text import size

_MIRRORS = f"{paths.STATE}/mirror"
_COMMANDS = ("pack", "push")


def warn_of_snapshots(site: str, problems: Problems) -> None:
    """Warn of content that exists only in the snapshot of a killed run: destination, since when, how many bytes."""
    with contextlib.suppress(OSError):  # there was no run, or one removes its snapshot now
        stores = _directories(site, _MIRRORS)
        snapshots = {store: _content(store / "run") for store in stores if not _is_held(store / "lock")}
        for command in _COMMANDS:
            runs = _directories(site, f"{paths.STATE}/{command}")
            snapshots |= {store: _files(store) for store in runs if not _is_held(store)}
        names = Counter(inode for snapshot in snapshots.values() for inode, _ in snapshot)
        for store, snapshot in snapshots.items():
            held = {inode: status.st_size for inode, status in snapshot if names[inode] == status.st_nlink}
            if held:
                _warn(store, sum(held.values()), problems)


def _warn(store: Path, count: int, problems: Problems) -> None:
    command = store.parent.name
    noted, run, again = store, f"a {command} run", f"run scr-export {command} again"
    if command == "mirror":
        noted = store / "destination"
        run = f"a mirror run for {noted.read_text(errors='replace').strip()}"
        again = "run examples/mirror for it again"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(noted.stat().st_mtime))
    what = f"{run} was killed; since {since} its snapshot holds {size(count)} of old content"
    remedy = f"{again} or, to give it up, rm -r {shlex.quote(str(store))}"
    problems.warning(str(store.relative_to(store.parents[2])), command, what, remedy, "SITE")


def _directories(site: str, notes: str) -> list[Path]:
    try:
        return sorted(Path(os.path.abspath(site), notes).iterdir())
    except OSError:  # there was no run
        return []


def _files(snapshot: Path) -> list[tuple[int, os.stat_result]]:
    return [(status.st_ino, status) for status in map(os.lstat, snapshot.iterdir())]


def _content(snapshot: Path) -> list[tuple[int, os.stat_result]]:
    """Return the inode and status of every blob and manifest, once for each name."""
    found = []
    for directory, _, files in os.walk(snapshot):
        if directory.endswith("/blobs") or "/manifests/" in directory:
            for name in files:
                status = os.lstat(os.path.join(directory, name))
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_ino, status))
    return found


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return is_locked(lock)
    finally:
        os.close(lock)
