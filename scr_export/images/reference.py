"""What the path of an image directory says: its repository and its tag or digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scr_export.oci import name
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag

_PORT = re.compile(r":([0-9]+)$")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is to be found in the site. Without a tag it is found by its digest alone."""

    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None = None  # what the path says the manifest's digest is


def parse_path(path: str, prefix: str = "") -> Reference:
    """The reference of the image directory at this path below IMAGES; ValueError says why it is none.

    `NAME/TAG` is how people lay images out; `NAME:TAG` and `NAME@DIGEST` are what `skopeo sync` writes. A parent
    `HOST:PORT`, of `skopeo sync --scoped`, becomes `HOST_PORT`, since a repository name cannot hold a colon.
    """
    parents, last = _parents(path, prefix)
    last, _, digest = last.partition("@")
    base, colon, tag = last.rpartition(":")
    if colon:
        parents.append(base)
    elif digest:
        parents.append(last)
    else:
        tag = last
    if len(parents) == bool(prefix):
        raise ValueError(f"{path!r:.300} names no tag: an image directory is NAME/TAG, NAME:TAG or NAME@DIGEST")
    return Reference(
        name.repository_name("/".join(parents)),
        name.tag(tag) if colon or not digest else None,
        Digest.parse(digest) if digest else None,
    )


def repositories_below(path: str, prefix: str = "") -> str:
    """What the names of all repositories begin with whose images lie in this directory; IMAGES itself is ''."""
    parents, last = _parents(path, prefix)
    return "/".join(part for part in (*parents, _PORT.sub(r"_\1", last)) if part)


def _parents(path: str, prefix: str) -> tuple[list[str], str]:
    *parents, last = path.split("/")
    return ([prefix] if prefix else []) + [_PORT.sub(r"_\1", parent) for parent in parents], last
