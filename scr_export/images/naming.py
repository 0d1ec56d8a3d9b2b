"""From the path of an image directory below IMAGES to its reference."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag, parse_repository_name, parse_tag
from scr_export.oci.reference import Reference

_PORT = re.compile(r":([0-9]+)$")


def parse_path(path: str, prefix: str = "") -> Reference:
    """Return the reference of the image directory at this path below IMAGES. ValueError says why it has none.

    `NAME/TAG` is how people lay images out; `NAME:TAG` and `NAME@DIGEST` are what `skopeo sync` writes. A parent
    `HOST:PORT`, of `skopeo sync --scoped`, becomes `HOST_PORT`, since a repository name cannot hold a colon.
    """
    parents, last = _split(path, prefix)
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
        parse_repository_name("/".join(parents)),
        parse_tag(tag) if colon or not digest else None,
        Digest.parse(digest) if digest else None,
    )


def names_no_tag(path: str) -> bool:
    """Tell whether this is the path of an image directory directly below IMAGES, with neither a tag nor a digest."""
    return path != "" and not set(path) & set("/:@")


def repositories_below(path: str, prefix: str = "") -> str:
    """Return the common start of the names of all repositories whose images lie in this directory; '' for IMAGES."""
    parents, last = _split(path, prefix)
    return "/".join(part for part in (*parents, _PORT.sub(r"_\1", last)) if part)


def _split(path: str, prefix: str) -> tuple[list[str], str]:
    *parents, last = path.split("/")
    return ([prefix] if prefix else []) + [_PORT.sub(r"_\1", parent) for parent in parents], last


class FaultyReferences:
    """The references that paths below IMAGES stand for whose images cannot be read or published."""

    def __init__(self, paths: Iterable[str], prefix: str) -> None:
        self._references: defaultdict[str, list[Reference]] = defaultdict(list)
        self._prefixes: list[str] = []
        for path in set(paths):
            self._prefixes.append(repositories_below(path, prefix))
            try:
                reference = parse_path(path, prefix)
            except ValueError:
                continue
            self._references[reference.repository].append(reference)

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def has(self, name: RepositoryName, tag: Tag | None, digest: Digest) -> bool:
        """Tell whether this tag, or this digest without a tag, may be one of them."""
        if any(f"{name}/".startswith(f"{prefix}/" if prefix else "") for prefix in self._prefixes):
            return True
        references = self._references.get(name, ())
        return any(r.tag == tag if r.tag else tag is None and r.digest == digest for r in references)
