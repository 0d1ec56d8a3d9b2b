"""Every path in a site, in one place. Pure.

v2/<name>/blobs/<digest>
v2/<name>/manifests/<manifest name>/<manifest name>     <manifest name> = <subtype>@<digest>: it has the headers
v2/<name>/manifests/<tag> -> <manifest name>
v2/<name>/referrers/<digest>/@all                       what refers to that digest
v2/<name>/referrers/<digest>/<type>                     what of it is of that type: application@vnd.example@json
v2/<name>/tags/_pages@<hash>/...                        the list of tags and its pages: see documents/listing.py
v2/<name>/tags/_pages -> _pages@<hash>
v2/<name>/tags/list -> _pages/@all                      marks a repository
v2/_catalog -> _pages/@all                              the list of repositories, beside its pages
v2/_sigstore/<name>@sha256=<hex>/signature-<number>     signatures of a manifest, where podman looks for them
nginx.conf, Caddyfile                                   the snippets
index.html                                              the page for people: see documents/index_page.py
images.txt                                              what the site is: see documents/images_txt.py
images.txt.asc, .sig, .bundle                           a signature of it, which the operator puts there
.scr-export/                                            the exporter's own files, never served
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from scr_export.oci.digest import Digest
from scr_export.oci.name import ManifestName, RepositoryName, parse_repository_name

REGISTRY = "v2"
CATALOG = "_catalog"
TAG_LIST = "list"
PAGES = "_pages"
SIGNATURES = "_sigstore"
STATE = ".scr-export"
SNIPPETS = ("nginx.conf", "Caddyfile")
INDEX_PAGE = "index.html"
IMAGES_TXT = "images.txt"
IMAGES_TXT_SIGNATURES = tuple(f"{IMAGES_TXT}.{suffix}" for suffix in ("asc", "bundle", "sig"))
GENERATED_AT_TOP = (*SNIPPETS, INDEX_PAGE, IMAGES_TXT)

ALL = "@all"

# The types that a client can filter by: `a/b` or `a/b+c`. The snippets have the same pattern.
_ARTIFACT_TYPE = re.compile(r"([A-Za-z0-9][\w.-]{0,63})/([A-Za-z0-9][\w.-]{0,119})(?:\+([\w.-]{1,60}))?", re.ASCII)


class Part(Enum):
    """What a directory of a repository holds. A repository below it can carry one of these names too."""

    BLOBS = "blobs"
    MANIFESTS = "manifests"
    REFERRERS = "referrers"
    TAGS = "tags"
    SIGNATURES = SIGNATURES


_PARTS = {part.value: part for part in Part if part is not Part.SIGNATURES}
_LOOKASIDE = f"{REGISTRY}/{SIGNATURES}"
_SIGNATURE = re.compile(r"signature-[1-9][0-9]{0,5}")


class Place(NamedTuple):
    """What a directory is: a part of a repository, the lists of referrers of one digest, or something else.

    `subject` is the manifest whose signatures are in the directory.
    """

    name: RepositoryName | None = None
    part: Part | None = None
    subject: Digest | None = None


ELSEWHERE = Place()


@lru_cache(maxsize=16)
def place(directory: str) -> Place:
    """Parse the path of a directory below SITE."""
    if directory.startswith(f"{_LOOKASIDE}/"):
        return _of_signatures(directory.removeprefix(f"{_LOOKASIDE}/"))
    above, _, last = directory.rpartition("/")
    if part := _PARTS.get(last):
        return _of_repository(above, part)
    above, _, middle = above.rpartition("/")
    if middle == Part.REFERRERS.value and is_digest(last):
        return _of_repository(above, Part.REFERRERS)
    return ELSEWHERE


def _of_repository(path: str, part: Part) -> Place:
    if not path.startswith(f"{REGISTRY}/"):
        return ELSEWHERE
    try:
        return Place(parse_repository_name(path.removeprefix(f"{REGISTRY}/")), part)
    except ValueError:
        return ELSEWHERE


def _of_signatures(path: str) -> Place:
    name, _, digest = path.partition("@")
    try:
        return Place(parse_repository_name(name), Part.SIGNATURES, Digest(digest.replace("=", ":")))
    except ValueError:
        return ELSEWHERE


def blobs(name: RepositoryName) -> str:
    """Return the directory of a repository's blobs; each is named by its digest."""
    return f"{REGISTRY}/{name}/blobs"


def manifests(name: RepositoryName) -> str:
    """Return the directory of a repository's manifests and tags."""
    return f"{REGISTRY}/{name}/manifests"


def referrers(name: RepositoryName, subject: Digest) -> str:
    """Return the directory of the lists of what refers to a digest."""
    return f"{REGISTRY}/{name}/referrers/{subject}"


def tags(name: RepositoryName) -> str:
    """Return the directory of a repository's list of tags."""
    return f"{REGISTRY}/{name}/tags"


def signatures(name: RepositoryName, subject: Digest) -> str:
    """Return the directory of a manifest's signatures (containers/image, docs/signature-protocols.md)."""
    return f"{_LOOKASIDE}/{name}@{subject.algorithm}={subject.encoded}"


def signature(number: int) -> str:
    """Return the name of a signature. Clients count from 1 and stop where none is."""
    return f"signature-{number}"


def is_signature(name: str) -> bool:
    """Tell whether a file name is that of a signature."""
    return _SIGNATURE.fullmatch(name) is not None


def artifact_type(text: str) -> str | None:
    """Return the name of the list of the referrers of this type. None: a client cannot ask for it."""
    match = _ARTIFACT_TYPE.fullmatch(text)
    return "@".join(match.groups("")) if match else None


def is_digest(name: str) -> bool:
    """Tell whether a file name is a digest."""
    try:
        Digest.parse(name)
    except ValueError:
        return False
    return True


def is_manifest_name(name: str) -> bool:
    """Tell whether a file name is that of a manifest."""
    if "@" not in name:
        return False
    try:
        ManifestName.parse(name)
    except ValueError:
        return False
    return True


def is_pages(name: str) -> bool:
    """Tell whether a name is that of a directory which holds a list and its pages."""
    return name.startswith(f"{PAGES}@")


def is_unfinished(path: str) -> bool:
    """Tell whether a path is one that a transfer makes until it has finished, as rsync and `examples/mirror` name them.

    `.NAME.XXXXXX`, `.partial/NAME`, `v2/.transfer`: no name in a registry begins with a dot.
    """
    return path.startswith(".") or "/." in path


def is_opaque(directory: str, name: str) -> bool:
    """Tell whether a directory appears and goes as a whole, and is not walked: a manifest's, pages, a transfer's."""
    return (
        name.startswith(".") or is_pages(name) or (place(directory).part is Part.MANIFESTS and is_manifest_name(name))
    )
