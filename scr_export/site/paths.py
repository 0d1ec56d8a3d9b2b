"""Every name in a site, in one place. Pure.

v2/_catalog
v2/<name>/blobs/<digest>
v2/<name>/manifests/<head>/<head>      <head> = <subtype>@<digest>: the name is the headers
v2/<name>/manifests/<tag> -> <head>
v2/<name>/tags/list                    marks a repository
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import MediaType, from_subtype, subtype
from scr_export.oci.name import RepositoryName

REGISTRY = "v2"
CATALOG = "_catalog"
TAG_LIST = "list"
STATE = ".scr-export"
SNIPPETS = ("nginx.conf", "Caddyfile")

# What a repository's directory holds. A repository below it may carry one of these names too.
BLOBS, MANIFESTS, TAGS = "blobs", "manifests", "tags"


def blobs(name: RepositoryName) -> str:
    """The directory of a repository's blobs; each is named by its digest."""
    return f"{REGISTRY}/{name}/{BLOBS}"


def manifests(name: RepositoryName) -> str:
    """The directory of a repository's heads and tags."""
    return f"{REGISTRY}/{name}/{MANIFESTS}"


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
