"""Every name in a site, in one place. Pure.

v2/<name>/blobs/<digest>
v2/<name>/manifests/<head>/<head>      <head> = <subtype>@<digest>: the name is the headers
v2/<name>/manifests/<tag> -> <head>
v2/<name>/referrers/<digest>/@all      what refers to that digest
v2/<name>/referrers/<digest>/<type>    what of it is of that type: application@vnd.example@json
v2/<name>/tags/_pages@<hash>/...       the list of tags and its pages: see pages.py
v2/<name>/tags/_pages -> _pages@<hash>
v2/<name>/tags/list -> _pages/@all     marks a repository
v2/_catalog -> _pages/@all             the list of repositories, beside its pages
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import INDEXES, MediaType, from_subtype, subtype
from scr_export.oci.name import RepositoryName

REGISTRY = "v2"
CATALOG = "_catalog"
TAG_LIST = "list"
PAGES = "_pages"
STATE = ".scr-export"
SNIPPETS = ("nginx.conf", "Caddyfile")

ALL = "@all"

_INDEXES = tuple(f"{subtype(media_type)}@" for media_type in INDEXES)

# The types that one can ask for: `a/b` or `a/b+c`. The snippets have the same pattern.
_ARTIFACT_TYPE = re.compile(r"([A-Za-z0-9][\w.-]{0,63})/([A-Za-z0-9][\w.-]{0,119})(?:\+([\w.-]{1,60}))?", re.ASCII)

# What a repository's directory holds. A repository below it may carry one of these names too.
BLOBS, MANIFESTS, REFERRERS, TAGS = "blobs", "manifests", "referrers", "tags"


def blobs(name: RepositoryName) -> str:
    """The directory of a repository's blobs; each is named by its digest."""
    return f"{REGISTRY}/{name}/{BLOBS}"


def manifests(name: RepositoryName) -> str:
    """The directory of a repository's heads and tags."""
    return f"{REGISTRY}/{name}/{MANIFESTS}"


def referrers(name: RepositoryName, subject: Digest) -> str:
    """The directory of the lists of what refers to a digest."""
    return f"{REGISTRY}/{name}/{REFERRERS}/{subject}"


def tags(name: RepositoryName) -> str:
    """The directory of a repository's lists."""
    return f"{REGISTRY}/{name}/{TAGS}"


def head(media_type: MediaType, digest: Digest) -> str:
    """The name of a manifest's directory, and of the file in it. `@` keeps it apart from every tag."""
    return f"{subtype(media_type)}@{digest}"


def parse_head(name: str) -> tuple[MediaType, Digest]:
    """What a head's name says; ValueError if it is not one."""
    media_subtype, _, digest = name.partition("@")
    return from_subtype(media_subtype), Digest.parse(digest)


def artifact_type(text: str) -> str | None:
    """The name of the list of the referrers of this type; None if one cannot ask for it."""
    match = _ARTIFACT_TYPE.fullmatch(text)
    return "@".join(match.groups("")) if match else None


def is_whole(directory: str, name: str) -> bool:
    """Whether a directory of a site appears and goes as a whole, and is not looked into: a head, or pages."""
    return is_head(directory, name) or is_pages(name)


def is_pages(name: str) -> bool:
    """Whether a directory holds a list and its pages."""
    return name.startswith(f"{PAGES}@")


def is_index(head: str) -> bool:
    """Whether a head is that of a manifest that lists others."""
    return head.startswith(_INDEXES)


def is_blob(directory: str, name: str) -> bool:
    """Whether a name in a site's directory is that of a blob."""
    return directory.endswith(f"/{BLOBS}") and _is(Digest.parse, name)


def is_head(directory: str, name: str) -> bool:
    """Whether a name in a site's directory is that of a manifest."""
    return directory.endswith(f"/{MANIFESTS}") and _is(parse_head, name)


def _is(parse: Callable[[str], object], name: str) -> bool:
    try:
        parse(name)
    except ValueError:
        return False
    return True


def snippet(name: str) -> bytes:
    """The bytes of one of SNIPPETS, which are the same in every site."""
    return (resources.files("scr_export.site") / "snippets" / name).read_bytes()
