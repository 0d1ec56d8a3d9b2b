"""Referrers: manifests whose `subject` is another manifest (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scr_export.oci import mediatype
from scr_export.oci.digest import ALGORITHMS, Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.mediatype import MediaType
from scr_export.oci.name import Tag


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another, as its descriptor in the list describes it. `size` is in bytes."""

    media_type: MediaType
    digest: Digest
    size: int
    artifact_type: str | None
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> Referrer:
        """Describe a manifest by its own bytes: the descriptor in an index may lack annotations and artifact type."""
        return cls(manifest.media_type, manifest.digest, manifest.size, manifest.artifact_type, manifest.annotations)

    def as_descriptor(self) -> dict[str, Any]:
        """Return its descriptor (image-spec, descriptor.md)."""
        descriptor: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            descriptor["artifactType"] = self.artifact_type
        if self.annotations:
            descriptor["annotations"] = self.annotations
        return descriptor

    @property
    def descriptor_size(self) -> int:
        """How many bytes of a list its descriptor takes, the comma with it."""
        return len(json.dumps(self.as_descriptor(), separators=(",", ":"))) + 1


def subject_of(tag: Tag) -> Digest | None:
    """Return the digest whose referrers an index with this tag lists ("Referrers Tag Schema"). None: another tag."""
    algorithm, _, encoded = tag.partition("-")
    if algorithm not in ALGORITHMS:
        return None
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except ValueError:
        return None


# Subject -> digest of the referrer -> referrer.
Referrers = dict[Digest, dict[Digest, Referrer]]


def referrers_in(manifests: Mapping[Digest, Manifest], tags: Mapping[Tag, Digest]) -> Referrers:
    """Return the referrers among the manifests of one repository: by `subject`, and by tags of the tag schema."""
    found: defaultdict[Digest, dict[Digest, Referrer]] = defaultdict(dict)
    for digest, manifest in manifests.items():
        if manifest.subject:
            found[manifest.subject][digest] = Referrer.of(manifest)
    for tag, digest in tags.items():
        if (subject := subject_of(tag)) and (index := manifests.get(digest)):
            listed = (child.digest for child in index.children if child.digest in manifests)
            found[subject] |= {child: Referrer.of(manifests[child]) for child in listed}
    return dict(found)


def referrers_index(referrers: Iterable[Referrer]) -> bytes:
    """Return the body of `/v2/<name>/referrers/<digest>`, sorted by digest."""
    manifests = [referrer.as_descriptor() for referrer in sorted(referrers, key=lambda each: each.digest)]
    index = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": manifests}
    return json.dumps(index, separators=(",", ":")).encode() + b"\n"
