"""Look at a site as it is. Only reads, and follows no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scr_export.fs.safe import directory_at, open_directory, read_file
from scr_export.oci.manifest import SIZE_LIMIT
from scr_export.site import paths
from scr_export.site.entries import Kind, Observed

_PUBLIC = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the site, open while it is looked at. `path` is relative to SITE."""

    path: str
    descriptor: int
    entries: dict[str, Observed]

    @property
    def is_public(self) -> bool:
        """Whether every user may list and enter it."""
        return os.fstat(self.descriptor).st_mode & _PUBLIC == _PUBLIC

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of `name`, which may be one directory further down. None: it does not exist."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return None

    def names_in(self, name: str) -> list[str]:
        """Return the names in the directory `name`; none where it cannot be listed."""
        try:
            return os.listdir(f"/proc/self/fd/{self.descriptor}/{name}")  # quicker than to open it
        except OSError:
            return []

    def target(self, name: str) -> str | None:
        """Return the target of the link `name`. None: it is no link."""
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except OSError:
            return None

    def holds(self, name: str, data: bytes) -> bool:
        """Tell whether the file `name` has just these bytes and is readable by all."""
        try:
            found, status = read_file(name, self.descriptor, len(data))
        except (OSError, ValueError):
            return False
        return found == data and bool(status.st_mode & stat.S_IROTH)

    def manifest(self, name: str) -> bytes:
        """Return the bytes of the manifest in the directory `name`. OSError, ValueError: it cannot be read."""
        with directory_at(name, self.descriptor) as inner:
            return read_file(name, inner, SIZE_LIMIT)[0]


def observe(site: int) -> Iterator[Directory]:
    """Yield every directory of a site in the order of `walk_order`; opaque directories are not entered."""
    with directory_at("", site) as root:
        entries = {name: observed for name in paths.GENERATED_AT_TOP if (observed := _observed(name, root))}
        registry = _observed(paths.REGISTRY, root)
        if registry and registry.kind is Kind.DIRECTORY:
            yield from _walk(site, paths.REGISTRY)
        yield Directory("", root, entries)


@contextmanager
def observe_one(site: int, path: str) -> Iterator[Directory]:
    """Look at one directory of a site. OSError: it cannot be listed, or is not there."""
    with directory_at(path, site) as descriptor:
        yield Directory(path, descriptor, _entries(descriptor))


def _walk(parent: int, path: str) -> Iterator[Directory]:
    descriptor = open_directory(path.rpartition("/")[2], parent)
    try:
        entries = _entries(descriptor)
        for name, observed in sorted(entries.items(), key=lambda item: item[0]):
            if observed.kind is Kind.DIRECTORY and not paths.is_opaque(path, name):
                yield from _walk(descriptor, f"{path}/{name}")
        yield Directory(path, descriptor, entries)
    finally:
        os.close(descriptor)


def _entries(descriptor: int) -> dict[str, Observed]:
    with os.scandir(descriptor) as listing:
        return {entry.name: Observed(_kind(entry), entry.inode()) for entry in listing}


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    if entry.is_dir(follow_symlinks=False):
        return Kind.DIRECTORY
    return Kind.LINK if entry.is_symlink() else Kind.OTHER


def _observed(name: str, directory: int) -> Observed | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    for is_kind, kind in ((stat.S_ISREG, Kind.FILE), (stat.S_ISDIR, Kind.DIRECTORY), (stat.S_ISLNK, Kind.LINK)):
        if is_kind(status.st_mode):
            return Observed(kind, status.st_ino)
    return Observed(Kind.OTHER, status.st_ino)
