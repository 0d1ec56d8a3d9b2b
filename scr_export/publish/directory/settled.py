"""Read a site that something changes which takes no lock, as rsync does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scr_export.errors import SiteError
from scr_export.publish.directory.observe import observe
from scr_export.site import paths
from scr_export.site.entries import Kind
from scr_export.text import printable

_TRIES, _PAUSE = 10, 1.0  # the pause is in seconds

T = TypeVar("T")


def read_settled(path: str, site: int, is_locked: bool, read: Callable[[], T]) -> T:
    """Read a site. One that is not locked, a mirror, must have the same names before and after, else it is read again.

    SiteError: it changes all the time.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        before = {} if is_locked else _names(site)
        found = read()
        if is_locked or _names(site) == before:
            return found
    raise SiteError(f"{printable(path)}: changes all the time; try again when no transfer to it is at work")


def _names(site: int) -> dict[str, str]:
    """Return every name that leads to content, and those of manifests."""
    found = {}
    for directory in observe(site):
        for name, observed in directory.entries.items():
            if observed.kind is Kind.LINK or paths.is_opaque(directory.path, name):
                found[f"{directory.path}/{name}"] = directory.target(name) or ""
    return found
