"""What the names in a site's directories stand for: as planned, and as observed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from scr_export.fs.file import SourceFile
from scr_export.oci.listing import Listing
from scr_export.oci.repository import Keep

if TYPE_CHECKING:
    from os import stat_result


@dataclass(frozen=True, slots=True)
class ManifestDirectory:
    """A directory that holds one manifest, both named by the manifest's name."""

    file: SourceFile


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link: a tag to the manifest beside it, or a step to a list."""

    target: str


@dataclass(frozen=True, slots=True)
class HardLink:
    """Another name of a file of the same directory that came before."""

    path: str


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file that the exporter writes itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PagesDirectory:
    """A directory that holds a list and its pages."""

    listing: Listing


# A blob is planned as the very file that it is linked to.
Entry = SourceFile | ManifestDirectory | Symlink | GeneratedFile | PagesDirectory | Keep


class PlannedDirectory(NamedTuple):
    """A directory that the site must have, with all its entries. `path` is relative to SITE."""

    path: str
    entries: Mapping[str, Entry]


class Kind(Enum):
    """What the file system says that a name is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


class Observed(NamedTuple):
    """A name in a directory of the site: what it is, and its inode."""

    kind: Kind
    inode: int


class ObservedDirectory(Protocol):
    """A directory of the site as it is, open while it is compared. `path` is relative to SITE."""

    @property
    def path(self) -> str:
        """The path below SITE."""

    @property
    def entries(self) -> Mapping[str, Observed]:
        """Every name in it."""

    @property
    def is_public(self) -> bool:
        """Whether every user may list and enter it."""

    def status(self, name: str) -> stat_result | None:
        """Return the status of `name`, which may be one directory further down. None: it does not exist."""

    def names_in(self, name: str) -> list[str]:
        """Return the names in the directory `name`; none where it cannot be listed."""

    def target(self, name: str) -> str | None:
        """Return the target of the link `name`. None: it is no link."""

    def holds(self, name: str, data: bytes) -> bool:
        """Tell whether the file `name` has just these bytes and is readable by all."""

    def manifest(self, name: str) -> bytes:
        """Return the bytes of the manifest in the directory `name`. OSError, ValueError: it cannot be read."""


def walk_order(path: str) -> list[str]:
    """Return the sort key of the order in which a site is walked: by name, inner directories before outer ones."""
    return [*path.split("/"), "\U0010ffff"] if path else ["\U0010ffff"]
