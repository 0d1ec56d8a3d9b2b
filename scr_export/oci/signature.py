"""Signatures of images: simple signing (containers/image, docs/signature-protocols.md), and cosign's."""

from __future__ import annotations

from enum import Enum

from scr_export.oci.digest import Digest
from scr_export.oci.name import Tag
from scr_export.oci.referrers import subject_of

SIZE_LIMIT = 4 * 1024 * 1024  # clients refuse a larger signature

# The types of a referrer that is a signature: cosign's before version 3, and the sigstore bundle.
_COSIGN_TYPES = ("application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.")

# The first byte of an OpenPGP message that is compressed, one-pass signed, or signed (RFC 9580, 4.2 and 5).
_OPENPGP = tuple(bytes([byte]) for byte in b"\xa0\xa1\xa2\xa3\xc8\x90\x91\x92\x3d\xc4\x88\x89\x8a\x8b\xc2")
_SUFFIX = ".sig"
_COMPANIONS = (_SUFFIX, ".att", ".sbom")  # what cosign puts beside an image, under a tag made of its digest


class SignatureFormat(Enum):
    """How a signature file is written."""

    SIMPLE = "simple"
    SIGSTORE = "sigstore"

    @classmethod
    def of(cls, blob: bytes) -> SignatureFormat | None:
        """Return the format of a signature file. None: clients refuse it, and every signature after it."""
        if blob.startswith((*_OPENPGP, b"\0simple-signing\n")):
            return cls.SIMPLE
        return cls.SIGSTORE if blob.startswith(b"\0sigstore-json\n") else None


def signed_by_tag(tag: Tag) -> Digest | None:
    """Return the digest whose cosign signatures this tag has: `sha256-<hex>.sig`. None: it is another tag."""
    return subject_of(Tag(tag.removesuffix(_SUFFIX))) if tag.endswith(_SUFFIX) else None


def is_companion(tag: Tag) -> bool:
    """Tell whether a tag is made of the digest of another image: its signatures, attestations, SBOM or referrers."""
    return any(subject_of(Tag(tag.removesuffix(suffix))) for suffix in _COMPANIONS)


def is_cosign_type(artifact_type: str | None) -> bool:
    """Tell whether a referrer of this artifact type is a signature."""
    return artifact_type is not None and artifact_type.startswith(_COSIGN_TYPES)
