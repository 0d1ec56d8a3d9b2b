"""The publication order, for every kind of destination. Pure."""

from __future__ import annotations

from enum import IntEnum

from scr_export.oci.name import ManifestName
from scr_export.site import paths
from scr_export.site.paths import Part


class Role(IntEnum):
    """What an entry of a site is for.

    Entries appear in this order and go in the reverse one, so that nothing is named before it is there. Up to LIST_PAGE
    they are content: nothing but its own name leads to it until an entry of a later role does.
    """

    BLOB = 1
    MANIFEST = 2
    INDEX = 3
    REFERRERS = 4
    SIGNATURE = 5
    LIST_PAGE = 6
    TAG = 7
    LIST = 8
    CATALOG = 9
    SNIPPET = 10
    INDEX_PAGE = 11
    IMAGES_TXT = 12
    OTHER = 13

    @property
    def is_pulled_by_digest(self) -> bool:
        """Whether a pull that began earlier may still ask for it by its digest, or by that of its manifest."""
        return self <= Role.INDEX or self is Role.SIGNATURE


_AT_TOP = dict.fromkeys(paths.SNIPPETS, Role.SNIPPET)
_AT_TOP |= {paths.INDEX_PAGE: Role.INDEX_PAGE, paths.IMAGES_TXT: Role.IMAGES_TXT}


def role_of(directory: str, name: str) -> Role:
    """Return the role of an entry by its path below SITE. OTHER: it is none of a site's."""
    if not directory:
        return _AT_TOP.get(name, Role.OTHER)
    if paths.is_pages(name):
        return Role.LIST_PAGE
    if directory == paths.REGISTRY:
        return Role.CATALOG if name in (paths.CATALOG, paths.PAGES) else Role.OTHER
    match paths.place(directory).part:
        case Part.BLOBS if paths.is_digest(name):
            return Role.BLOB
        case Part.MANIFESTS if "@" not in name and not name.startswith("."):
            return Role.TAG
        case Part.MANIFESTS if paths.is_manifest_name(name):
            return Role.INDEX if ManifestName(name).is_index else Role.MANIFEST
        case Part.REFERRERS if "@" in name:
            return Role.REFERRERS
        case Part.SIGNATURES if paths.is_signature(name):
            return Role.SIGNATURE
        case Part.TAGS if name in (paths.TAG_LIST, paths.PAGES):
            return Role.LIST
    return Role.OTHER
