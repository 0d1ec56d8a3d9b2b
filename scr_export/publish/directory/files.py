"""What is known of files: which of IMAGES can be linked into the site, and which of the site hold their digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from scr_export.fs.file import SourceFile
from scr_export.fs.hashing import find_damaged, ignore


@dataclass(slots=True)
class KnownFiles:
    """Implements `site.compare.Files` for a site on one file system.

    `verified` and `link_refused` are what the last export noted, see State. `device` is the site's file system. Without
    `hash_unknown`, a file of the right size whose digest is not known counts as sound. `can_link_at_all` is False where
    a mount lies between IMAGES and SITE. `kept` has the identities of the site's files that were found sound, by path.
    `advance` is called with the length of each piece that is read for that.
    """

    site: int
    device: int
    verified: set[bytes]
    link_refused: set[bytes] = field(default_factory=set)
    hash_unknown: bool = True
    can_link_at_all: bool = True
    looked_at: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    advance: Callable[[int], None] = ignore

    def can_link(self, source: SourceFile) -> bool:
        """Tell whether this file of IMAGES can have another name in the site."""
        if source.device != self.device or not source.is_public or not self.can_link_at_all:
            return False
        return not self.link_refused or source.identity not in self.link_refused

    def prove(self, file: SourceFile) -> bool:
        """Tell whether a file of the site holds its digest; it is read where that is not known."""
        identity = file.identity
        is_known = identity in self.verified or not self.hash_unknown
        if not is_known and find_damaged([file], self.site, jobs=1, advance=self.advance):
            return False
        self.kept[file.path] = identity
        return True


def device_of(path: str) -> int:
    """Return the file system that a directory is on, or will be on when it is made."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev
