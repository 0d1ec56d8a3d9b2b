"""Every key in a bucket, in one place. Pure.

blobs/<digest>                              the bytes of a blob, once, however many repositories have it
v2/<name>/blobs/<digest>                    empty: this repository has that blob
v2/<name>/manifests/<digest>, /<tag>        a manifest; its media type is the object's Content-Type
v2/<name>/referrers/<digest>/@all, /<type>  the lists of what refers to that digest, as in a site
v2/<name>/tags/list                         the list of tags; its metadata has the hash of its pages; marks a repository
v2/<name>/tags/_pages@<hash>/<last>@<size>  the page of that size behind <last>; its metadata says where the next begins
                                            and, in the page of one entry, which sizes begin there
v2/_catalog/list, /_pages@<hash>/...        the list of repositories, in the same way
v2/_ns/<component>                          empty: the names of some repositories begin with it
v2/_sigstore/<name>@sha256=<hex>/signature-<number>     as in a site
v2/_images.txt                              the site's images.txt
.scr-export/                                the exporter's own objects, never served

No key is also a directory of another one, so that a store may be a file system; a site has no such clash either.
No key has a `+`, which some stores read as a blank.
"""

from __future__ import annotations

from typing import NamedTuple

from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag, is_tag
from scr_export.site import paths
from scr_export.site.paths import Part
from scr_export.site.roles import Role

BLOBS = "blobs"
IMAGES_TXT = f"{paths.REGISTRY}/_{paths.IMAGES_TXT}"
FORMAT = f"{paths.STATE}/format"
LOCK = f"{paths.STATE}/lock"
CLOCK = f"{paths.STATE}/clock"
UNREFERENCED = f"{paths.STATE}/unreferenced"

_CATALOG = f"{paths.REGISTRY}/{paths.CATALOG}"
_UPSTREAMS = f"{paths.REGISTRY}/_ns"


class Step(NamedTuple):
    """A step of publication. All of it is there before the next begins. Removal goes the other way.

    `number` divides a role: the bytes of blobs come before what says that a repository has them, an index before those
    that list it.
    """

    role: Role
    number: int = 0

    @property
    def is_content(self) -> bool:
        """Whether it is pulled by a digest, or is a page. Content stays for the grace period."""
        return self.role.is_pulled_by_digest or self.role is Role.LIST_PAGE


BYTES = Step(Role.BLOB, 0)
MARKER = Step(Role.BLOB, 1)
UPSTREAM = Step(Role.CATALOG, 1)  # requests lead through it once the repositories are there


def blob(digest: Digest) -> str:
    """Return the key of a blob's bytes."""
    return f"{BLOBS}/{digest}"


def marker(name: RepositoryName, digest: Digest) -> str:
    """Return the key that says that a repository has a blob."""
    return f"{paths.blobs(name)}/{digest}"


def manifest(name: RepositoryName, reference: Digest | Tag) -> str:
    """Return the key of a manifest, by its digest or by a tag."""
    return f"{paths.manifests(name)}/{reference}"


def listing(name: RepositoryName | None) -> str:
    """Return the directory of a list and its pages: of a repository's tags, or of all repositories."""
    return paths.tags(name) if name else _CATALOG


def pages(name: RepositoryName | None, content_hash: str) -> str:
    """Return the directory of the pages of a list with this hash."""
    return f"{listing(name)}/{paths.PAGES}@{content_hash}"


def upstream(component: str) -> str:
    """Return the key that says that names of repositories begin with this component."""
    return f"{_UPSTREAMS}/{component}"


def is_named_by_content(key: str) -> bool:
    """Tell whether a key has a digest of what is stored there, or, of a page, the hash of its list. Quick."""
    return ":" in key[key.rfind("/") :] or f"/{paths.PAGES}@" in key


def step_of(key: str) -> Step | None:
    """Return the step of a key. None: it is none of a bucket's.

    Of a manifest the key does not tell whether it is an index.
    """
    if key == IMAGES_TXT:
        return Step(Role.IMAGES_TXT)
    directory, pages_mark, _ = key.partition(f"/{paths.PAGES}@")
    if pages_mark:
        return Step(Role.LIST_PAGE) if _is_listing(directory) else None
    directory, _, name = key.rpartition("/")
    if directory == BLOBS:
        return BYTES if paths.is_digest(name) else None
    if directory == _UPSTREAMS:
        return UPSTREAM
    if name == paths.TAG_LIST and _is_listing(directory):
        return Step(Role.CATALOG if directory == _CATALOG else Role.LIST)
    return _step_in(directory, name)


def _is_listing(directory: str) -> bool:
    return directory == _CATALOG or paths.place(directory).part is Part.TAGS


def _step_in(directory: str, name: str) -> Step | None:
    """Return the step of an entry of a repository's directory, as a site has them too."""
    match paths.place(directory).part:
        case Part.MANIFESTS if paths.is_digest(name):
            return Step(Role.MANIFEST)
        case Part.MANIFESTS if is_tag(name):
            return Step(Role.TAG)
        case Part.BLOBS if paths.is_digest(name):
            return MARKER
        case Part.REFERRERS if "@" in name and paths.is_digest(directory.rpartition("/")[2]):
            return Step(Role.REFERRERS)
        case Part.SIGNATURES if paths.is_signature(name):
            return Step(Role.SIGNATURE)
    return None
