"""Snapshots that killed runs of `examples/mirror` left in SITE/.scr-export/mirror.

to-NUMBER/destination   the destination, as it was typed
to-NUMBER/lock          held by the kernel while a run is at work
to-NUMBER/run/          the snapshot of a run: hard links to content
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import time
from collections import Counter
from pathlib import Path

from scr_export.problems import Problems
from scr_export.site import paths
from scr_export.text import size

_NOTES = f"{paths.STATE}/mirror"


def warn_of_snapshots(site: str, problems: Problems) -> None:
    """Warn of content that exists only in the snapshot of a killed run: destination, since when, how many bytes."""
    with contextlib.suppress(OSError):  # there was no run, or one removes its snapshot now
        stores = sorted(Path(os.path.abspath(site), _NOTES).iterdir())
        snapshots = {store: _content(store / "run") for store in stores if not _is_at_work(store)}
        names = Counter(inode for snapshot in snapshots.values() for inode, _ in snapshot)
        for store, snapshot in snapshots.items():
            held = {inode: status.st_size for inode, status in snapshot if names[inode] == status.st_nlink}
            if held:
                _warn(store, sum(held.values()), problems)


def _warn(store: Path, count: int, problems: Problems) -> None:
    noted = store / "destination"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(noted.stat().st_mtime))
    destination = noted.read_text(errors="replace").strip()
    what = f"a mirror run for {destination} was killed; since {since} its snapshot holds {size(count)} of old content"
    remedy = f"run examples/mirror for it again or, to give it up, rm -r {shlex.quote(str(store))}"
    problems.warning(str(store.relative_to(store.parents[2])), "mirror", what, remedy, "SITE")


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


def _is_at_work(store: Path) -> bool:
    try:
        lock = os.open(store / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
