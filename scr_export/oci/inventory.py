"""What one repository holds, image by image. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from scr_export.oci.digest import Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.mediatype import DOCKER_CONFIG, OCI_CONFIG
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.reference import Reference
from scr_export.oci.referrers import Referrer, referrers_in
from scr_export.oci.signature import SignatureFormat, is_cosign_type, signed_by_tag

_CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Part:
    """An image manifest that an index lists and that is there. `size` is what a pull of it fetches, in bytes."""

    digest: Digest
    platforms: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class ListedImage:
    """What a registry has under a tag, or under a digest alone.

    `size` is in bytes: its manifests, configs and layers, each digest once; for an index, of all platforms together.
    None: its manifest cannot be read. `cosign` and `simple` count signatures of it and of its parts, `referrers` are
    what refers to these, by subject.
    """

    reference: Reference
    name: ManifestName
    size: int | None = None
    platforms: tuple[str, ...] = ()
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    cosign: int = 0
    simple: int = 0
    referrers: tuple[tuple[Digest, Referrer], ...] = ()


@dataclass(frozen=True, slots=True)
class Absent:
    """A blob that a manifest needs and that is not there."""

    manifest: Digest
    place: str
    blob: Digest


@dataclass(slots=True)
class Inventory:
    """What one repository holds.

    `manifests` are those that can be read, `blobs` all that are there, `signatures` count the files of each manifest by
    format. `platforms` are those of image manifests: see `needs_config`.
    """

    name: RepositoryName
    tags: Mapping[Tag, ManifestName] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    names: dict[Digest, ManifestName] = field(default_factory=dict)
    blobs: Set[Digest] = frozenset()
    platforms: dict[Digest, list[str]] = field(default_factory=dict)
    signatures: dict[Digest, Counter[SignatureFormat]] = field(default_factory=dict)

    def needs_config(self) -> Iterator[tuple[Digest, Digest]]:
        """Yield image manifests whose platform no index states, each with the digest of its config."""
        for digest, manifest in self.manifests.items():
            if digest not in self.platforms and manifest.blobs and manifest.blobs[0].place == _CONFIG:
                config = manifest.blobs[0]
                if config.media_type in (OCI_CONFIG, DOCKER_CONFIG):
                    yield digest, config.digest

    def add_platform(self, manifest: Digest, platform: str | None) -> None:
        """Note the platform of a manifest. None: it is known that it has none."""
        known = self.platforms.setdefault(manifest, [])
        if platform and platform not in known:
            known.append(platform)

    def untagged(self) -> list[Digest]:
        """Return the manifests to which neither a tag nor an index leads."""
        led_to = {name.digest for name in self.tags.values()}
        led_to |= {child.digest for manifest in self.manifests.values() for child in manifest.children}
        return [digest for digest in self.names if digest not in led_to]

    def closure(self, digest: Digest) -> list[Manifest]:
        """Return a manifest and all that it lists and that is there, each once, in the order of the indexes."""
        found: dict[Digest, Manifest] = {}
        unvisited = [digest]
        while unvisited:
            digest = unvisited.pop()
            if digest not in found and (manifest := self.manifests.get(digest)):
                found[digest] = manifest
                unvisited += [child.digest for child in reversed(manifest.children)]
        return list(found.values())

    def absent(self, digest: Digest) -> Iterator[Absent]:
        """Yield the blobs that a pull of this manifest, on any platform, would miss."""
        for manifest in self.closure(digest):
            for blob in manifest.blobs:
                if blob.digest not in self.blobs and not blob.has_urls:
                    yield Absent(manifest.digest, blob.place, blob.digest)

    def content(self, digest: Digest) -> dict[Digest, int]:
        """Return the size in bytes of everything that pulls of this manifest fetch from here, by digest."""
        sizes: dict[Digest, int] = {}
        for manifest in self.closure(digest):
            sizes[manifest.digest] = manifest.size
            sizes |= {blob.digest: blob.size for blob in manifest.blobs if blob.digest in self.blobs}
        return sizes

    def images(self, untagged: Set[Digest]) -> Iterator[ListedImage]:
        """Yield what is under each tag, and then the `untagged` images, both sorted."""
        referrers = referrers_in(self.manifests, {tag: name.digest for tag, name in self.tags.items()})
        by_cosign = self._by_cosign()
        for subject, each in referrers.items():
            by_cosign[subject] += sum(is_cosign_type(referrer.artifact_type) for referrer in each.values())
        references = [(Reference(self.name, tag), name) for tag, name in sorted(self.tags.items())]
        references += [
            (Reference(self.name, None, digest), self.names[digest])
            for digest in sorted(untagged)
            if digest in self.names
        ]
        for reference, name in references:
            yield self._image(reference, name, referrers, by_cosign)

    def _by_cosign(self) -> Counter[Digest]:
        """Count the signatures under tags `sha256-<hex>.sig`, a layer each, and in files of their own."""
        found: Counter[Digest] = Counter()
        for tag, name in self.tags.items():
            if (subject := signed_by_tag(tag)) and (manifest := self.manifests.get(name.digest)):
                found[subject] += sum(blob.place != _CONFIG for blob in manifest.blobs)
        for subject, formats in self.signatures.items():
            found[subject] += formats[SignatureFormat.SIGSTORE]
        return found

    def _image(
        self,
        reference: Reference,
        name: ManifestName,
        referrers: Mapping[Digest, Mapping[Digest, Referrer]],
        by_cosign: Mapping[Digest, int],
    ) -> ListedImage:
        closure = self.closure(name.digest)
        if not closure:
            return ListedImage(reference, name)
        top, *others = closure
        digests = [manifest.digest for manifest in closure]
        parts = [self._part(manifest) for manifest in others if not manifest.children]
        platforms = [platform for digest in digests for platform in self.platforms.get(digest, ())]
        return ListedImage(
            reference,
            name,
            sum(self.content(name.digest).values()),
            tuple(dict.fromkeys(platforms)),
            None if top.artifact_type in (OCI_CONFIG, DOCKER_CONFIG) else top.artifact_type,
            top.annotations,
            tuple(parts),
            sum(by_cosign.get(digest, 0) for digest in digests),
            sum(self.signatures[each][SignatureFormat.SIMPLE] for each in digests if each in self.signatures),
            tuple((subject, each) for subject in digests for each in referrers.get(subject, {}).values()),
        )

    def _part(self, manifest: Manifest) -> Part:
        platforms = tuple(self.platforms.get(manifest.digest, ()))
        return Part(manifest.digest, platforms, sum(self.content(manifest.digest).values()))
