"""One image of IMAGES: all that it gives to a registry."""

from __future__ import annotations

from typing import NamedTuple

from scr_export.fs.file import SourceFile
from scr_export.oci.digest import Digest
from scr_export.oci.name import ManifestName
from scr_export.oci.reference import Reference
from scr_export.oci.referrers import Referrer
from scr_export.oci.signature import SignatureFormat


class StoredManifest(NamedTuple):
    """A manifest: its name, the file that holds its exact bytes, and the digests of the manifests that it lists."""

    name: ManifestName
    file: SourceFile
    children: tuple[Digest, ...] = ()


class StoredSignature(NamedTuple):
    """A signature of a manifest in a file of its own."""

    subject: Digest
    format: SignatureFormat
    file: SourceFile


class Image(NamedTuple):
    """Everything that one image directory holds. The first of `manifests` is the one that its reference names.

    `referrers` are pairs of a subject and a manifest that refers to it. `unresolved_referrers` are pairs of a subject
    and the digest of a manifest that an index under a tag of the referrers tag schema lists, and that lies elsewhere.
    `left_out` are manifests of docker's schema 1 that an index lists.
    """

    path: str
    reference: Reference
    manifests: tuple[StoredManifest, ...]
    blobs: tuple[SourceFile, ...]
    referrers: tuple[tuple[Digest, Referrer], ...] = ()
    unresolved_referrers: tuple[tuple[Digest, Digest], ...] = ()
    left_out: tuple[Digest, ...] = ()
    signatures: tuple[StoredSignature, ...] = ()

    @property
    def top(self) -> StoredManifest:
        """The manifest that the reference names."""
        return self.manifests[0]
