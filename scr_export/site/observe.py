"""Looking at a site as it is. Only reads, and follows no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from scr_export.images.content import directory_at, open_directory, read_file
from scr_export.site import paths


class Kind(Enum):
    """What a name in a directory is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


class Seen(NamedTuple):
    """A name in a directory of the site: what it is, and its inode."""

    kind: Kind
    inode: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the site, open while it is compared. `path` is relative to SITE."""

    path: str
    descriptor: int
    entries: dict[str, Seen]

    def status(self, name: str) -> os.stat_result | None:
        """What the system says of `name`, which may go one directory down; None if it is not there."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return None

    def target(self, name: str) -> str | None:
        """Where the link `name` points to; None if it is not a link."""
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except OSError:
            return None

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the file `name` can be read by everyone and has just these bytes."""
        try:
            held, status = read_file(name, self.descriptor, len(data))
        except (OSError, ValueError):
            return False
        return held == data and bool(status.st_mode & stat.S_IROTH)


def observe(site: int) -> Iterator[Directory]:
    """Every directory of a site, the inner ones first; what appears as a whole is not looked into."""
    with directory_at("", site) as root:
        here = {name: _seen(status) for name in paths.SNIPPETS if (status := _status(name, root))}
        if (registry := _status(paths.REGISTRY, root)) and stat.S_ISDIR(registry.st_mode):
            yield from _walk(site, paths.REGISTRY)
        yield Directory("", root, here)


def _walk(parent: int, path: str) -> Iterator[Directory]:
    descriptor = open_directory(path.rpartition("/")[2], parent)
    try:
        with os.scandir(descriptor) as listing:
            entries = {entry.name: Seen(_kind(entry), entry.inode()) for entry in listing}
        for name, seen in sorted(entries.items(), key=lambda item: item[0]):
            if seen.kind is Kind.DIRECTORY and not paths.is_whole(path, name):
                yield from _walk(descriptor, f"{path}/{name}")
        yield Directory(path, descriptor, entries)
    finally:
        os.close(descriptor)


def _status(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    if entry.is_dir(follow_symlinks=False):
        return Kind.DIRECTORY
    return Kind.LINK if entry.is_symlink() else Kind.OTHER


def _seen(status: os.stat_result) -> Seen:
    if stat.S_ISLNK(status.st_mode):
        return Seen(Kind.LINK, status.st_ino)
    return Seen(Kind.FILE if stat.S_ISREG(status.st_mode) else Kind.OTHER, status.st_ino)
