"""Image manifests and indexes, OCI's and docker's (image-spec, manifest.md, image-index.md, descriptor.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scr_export.oci import mediatype
from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import MediaType

# Clients refuse a larger one: containers/image and oras at 4 MiB, containerd a little above.
SIZE_LIMIT = 4 * 1024 * 1024

_LARGEST_SIZE = 2**63 - 1

# All that is read of a manifest or a descriptor, by anyone. Clients written in Go read `Layers` for `layers`.
_FIELDS = {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"}
_FIELDS |= {"digest", "size", "urls", "data", "platform"}
_FOLDED = {field.casefold(): field for field in _FIELDS}


class InvalidManifest(ValueError):
    """Bytes that are no manifest which a client would take. `problems` has every defect found, each in words."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Descriptor(NamedTuple):
    """What a manifest says of a blob or of another manifest (image-spec, descriptor.md). `size` is in bytes."""

    place: str
    digest: Digest
    size: int
    has_urls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest's own descriptor, and what it points at: config and layers, or an index's manifests.

    `artifact_type` is the config's media type where an image manifest states none.
    """

    media_type: MediaType
    digest: Digest
    size: int
    blobs: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Digest | None
    artifact_type: str | None
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, raw: bytes, algorithm: str = "sha256") -> Manifest:
        """Read the exact bytes of a manifest; InvalidManifest tells everything that is wrong with them."""
        document = _document(raw)
        reader = _Reader(document)
        reader.refuse_misspelt(document)
        media_type = reader.media_type()
        is_index = media_type in mediatype.INDEXES
        children = reader.descriptors("manifests") if is_index else ()
        blobs = () if is_index else (*reader.config(), *reader.descriptors("layers"))
        subject, artifact_type, annotations = reader.subject(), reader.artifact_type(), reader.annotations()
        if reader.problems:
            raise InvalidManifest(reader.problems)
        return cls(
            media_type=media_type,
            digest=Digest.of(raw, algorithm),
            size=len(raw),
            blobs=blobs,
            children=children,
            subject=subject,
            artifact_type=artifact_type,
            annotations=annotations,
        )


def _document(raw: bytes) -> Mapping[str, Any]:
    try:
        document = _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise InvalidManifest(["is nested too deep"]) from None
    except ValueError as error:
        raise InvalidManifest([f"is not JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise InvalidManifest(["is not a JSON object"])
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two equal keys counts differs between clients: one manifest would be two images.
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has the same key twice")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


class _Reader:
    """Takes a document apart and gathers problems, so that one reading tells them all."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.problems: list[str] = []

    def media_type(self) -> MediaType:
        """The document's `mediaType`; where it has none, what skopeo takes it for."""
        version, stated = self.document.get("schemaVersion"), self.document.get("mediaType")
        if type(version) is not int or version not in (1, 2):
            self.problems.append(f"has the schemaVersion {version!r:.80}, not 2")
        elif version == 1 or (isinstance(stated, str) and stated in mediatype.SCHEMA_1):
            self.problems.append("is of docker's schema 1, which clients refuse")
        elif stated in (None, ""):
            return self._inferred()
        elif not isinstance(stated, str) or stated not in mediatype.MANIFESTS:
            self.problems.append(f"has the mediaType {stated!r:.160}, which is not a manifest's that clients pull")
        else:
            self._refuse_ambiguity(is_index=stated in mediatype.INDEXES)
            return MediaType(stated)
        return mediatype.OCI_MANIFEST

    def _inferred(self) -> MediaType:
        # Before image-spec 1.0.2 an OCI manifest had no mediaType. The order of the questions is skopeo's.
        config = self.document.get("config")
        config_type = config.get("mediaType") if isinstance(config, dict) else None
        if config_type == mediatype.DOCKER_CONFIG:
            media_type = mediatype.DOCKER_MANIFEST
        elif config_type != mediatype.OCI_CONFIG and self.document.get("manifests"):
            media_type = mediatype.OCI_INDEX
        else:
            media_type = mediatype.OCI_MANIFEST
        self._refuse_ambiguity(is_index=media_type in mediatype.INDEXES)
        return media_type

    def _refuse_ambiguity(self, *, is_index: bool) -> None:
        # image-spec, manifest.md and image-index.md: what can be read as either must not be taken (CVE-2021-41190).
        for key in ("config", "layers") if is_index else ("manifests",):
            if key in self.document:
                self.problems.append(
                    f"has {key!r}, which {'an index' if is_index else 'an image manifest'} must not have"
                )

    def subject(self) -> Digest | None:
        item = self.document.get("subject")
        found = self._descriptor("subject", item) if item is not None else ()
        return found[0].digest if found else None

    def artifact_type(self) -> str | None:
        stated, config = self.document.get("artifactType"), self.document.get("config")
        if stated in (None, "") and isinstance(config, dict):
            stated = config.get("mediaType")
        if stated is not None and not isinstance(stated, str):
            self.problems.append(f"has the artifactType {stated!r:.80}, which is no text")
            return None
        return stated or None

    def annotations(self) -> Mapping[str, str]:
        stated = self.document.get("annotations")
        if not _is_map_of_texts(stated):
            self.problems.append("has annotations that are not all texts, which clients refuse")
            return {}
        return {key: value or "" for key, value in (stated or {}).items()}

    def refuse_misspelt(self, item: Mapping[str, Any], place: str = "") -> None:
        # One client would read a field there, and another would not: one manifest would be two images.
        if item.keys() <= _FIELDS:
            return
        for key in item.keys() - _FIELDS:
            if field := _FOLDED.get(key.casefold()):
                where = f"{place}: " if place else ""
                self.problems.append(f"{where}has the key {key!r:.80}, which some clients take for {field!r}")

    def _refuse_mistyped(self, item: Mapping[str, Any], place: str) -> None:
        for key, value in item.items():
            if key in _OF_DESCRIPTOR and not _OF_DESCRIPTOR[key](value):
                self.problems.append(f"{place} has the {key} {value!r:.80}, which clients cannot read")

    def config(self) -> tuple[Descriptor, ...]:
        return self._descriptor("config", self.document.get("config"))

    def descriptors(self, key: str) -> tuple[Descriptor, ...]:
        items = self.document.get(key)
        if items is None:  # an empty list, as Go writes it
            return ()
        if not isinstance(items, list):
            self.problems.append(f"{key} is not a list")
            return ()
        return tuple(found for place, item in enumerate(items) for found in self._descriptor(f"{key}[{place}]", item))

    def _descriptor(self, place: str, item: object) -> tuple[Descriptor, ...]:
        if not isinstance(item, dict):
            self.problems.append(f"{place} is not a descriptor" if item is not None else f"{place} is missing")
            return ()
        self.refuse_misspelt(item, place)
        self._refuse_mistyped(item, place)
        try:
            digest, size = Digest.parse(item.get("digest")), _size(item.get("size"))
        except ValueError as error:
            self.problems.append(f"{place}: {error}")
            return ()
        return (Descriptor(place, digest, size, bool(item.get("urls"))),)


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_SIZE:
        raise ValueError(f"{value!r:.80} is not a size in bytes")
    return value


def _is_text(value: object) -> bool:
    # Clients written in Go read null as if the field were absent.
    return value is None or isinstance(value, str)


def _is_texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_text, value)))


def _is_map_of_texts(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text, value.values())))


def _is_platform(value: object) -> bool:
    if not isinstance(value, dict):
        return value is None
    return all(_OF_PLATFORM[key](each) for key, each in value.items() if key in _OF_PLATFORM)


# What fields must be: clients written in Go refuse a manifest whole where one of them is something else.
_OF_PLATFORM = dict.fromkeys(("architecture", "os", "os.version", "variant"), _is_text) | {"os.features": _is_texts}
_OF_DESCRIPTOR = {
    "mediaType": _is_text,
    "artifactType": _is_text,
    "data": _is_text,
    "urls": _is_texts,
    "annotations": _is_map_of_texts,
    "platform": _is_platform,
}
