"""Names of repositories, tags and manifests (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from typing import NewType

from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import INDEXES, MANIFESTS, MediaType

RepositoryName = NewType("RepositoryName", str)
Tag = NewType("Tag", str)

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# Many clients refuse a longer one, and one component of it must fit into a file name.
_NAME_LENGTH = 255

_TREE = "application/"
_SUBTYPES = {media_type: media_type.removeprefix(_TREE) for media_type in MANIFESTS}
_MEDIA_TYPES = {subtype: media_type for media_type, subtype in _SUBTYPES.items()}


def parse_repository_name(text: str) -> RepositoryName:
    """Check a repository name. ValueError says what is wrong with it."""
    if len(text) > _NAME_LENGTH:
        raise ValueError(f"the repository name {text!r:.60} has {len(text)} characters, more than {_NAME_LENGTH}")
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r:.300} is not a repository name: components of a-z and 0-9, with single '.', '_', '-' inside"
        )
    return RepositoryName(text)


def parse_tag(text: str) -> Tag:
    """Check a tag. ValueError says what is wrong with it."""
    if not _TAG.fullmatch(text):
        raise ValueError(
            f"{text!r:.300} is not a tag: up to 128 of A-Z, a-z, 0-9, '_', '.' and '-', the first no '.' or '-'"
        )
    return Tag(text)


def is_tag(text: str) -> bool:
    """Tell whether a text is a tag."""
    return _TAG.fullmatch(text) is not None


class ManifestName(str):
    """`<subtype>@<digest>`: a manifest's media type without `application/`, and its digest.

    It names the manifest's file in a site, so that a web server has both headers from the name alone. `@` and `+`
    cannot occur in a tag. ValueError says what is wrong with any other text.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> ManifestName:
        """Check the text: there is no way to make a ManifestName of text that is none."""
        subtype, _, digest = text.partition("@")
        if subtype not in _MEDIA_TYPES:
            raise ValueError(f"{subtype!r:.160} is not the subtype of a manifest")
        Digest(digest)
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> ManifestName:
        """Check a text that comes from outside."""
        return text if isinstance(text, cls) else cls(text)

    @classmethod
    def of(cls, media_type: MediaType, digest: Digest) -> ManifestName:
        """Name a manifest of one of the MANIFESTS types."""
        return str.__new__(cls, f"{_SUBTYPES[media_type]}@{digest}")

    @property
    def media_type(self) -> MediaType:
        """The media type of the manifest."""
        return _MEDIA_TYPES[self[: self.index("@")]]

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return str.__new__(Digest, self[self.index("@") + 1 :])  # checked when the name was made

    @property
    def is_index(self) -> bool:
        """Whether the manifest is an index, which lists other manifests."""
        return self.media_type in INDEXES
