"""Snapshots that killed runs of `examples/mirror` and of `scr-export pack` left in SITE/.scr-export.

mirror/to-NUMBER/destination   the destination, as it was typed
mirror/to-NUMBER/lock          held by the kernel while a run is at work
mirror/to-NUMBER/run/          the snapshot of a run: hard links to content
pack/NUMBER/                   the snapshot of a run, which locks it: hard links to blobs
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

_MIRRORS, _PACKS = f"{paths.STATE}/mirror", f"{paths.STATE}/pack"


def warn_of_snapshots(site: str, problems: Problems) -> None:
    """Warn of content that exists only in the snapshot of a killed run: destination, since when, how many bytes."""
    with contextlib.suppress(OSError):  # there was no run, or one removes its snapshot now
        stores = _directories(site, _MIRRORS)
        snapshots = {store: _content(store / "run") for store in stores if not _is_held(store / "lock")}
        snapshots |= {store: _files(store) for store in _directories(site, _PACKS) if not _is_held(store)}
        names = Counter(inode for snapshot in snapshots.values() for inode, _ in snapshot)
        for store, snapshot in snapshots.items():
            held = {inode: status.st_size for inode, status in snapshot if names[inode] == status.st_nlink}
            if held:
                _warn(store, sum(held.values()), problems)


def _warn(store: Path, count: int, problems: Problems) -> None:
    noted, run, again = store, "a pack run", "run scr-export pack again"
    if store.parent.name == "mirror":
        noted = store / "destination"
        run = f"a mirror run for {noted.read_text(errors='replace').strip()}"
        again = "run examples/mirror for it again"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(noted.stat().st_mtime))
    what = f"{run} was killed; since {since} its snapshot holds {size(count)} of old content"
    remedy = f"{again} or, to give it up, rm -r {shlex.quote(str(store))}"
    problems.warning(str(store.relative_to(store.parents[2])), store.parent.name, what, remedy, "SITE")


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
