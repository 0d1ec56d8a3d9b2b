"""Image manifests and indexes, OCI's and docker's (image-spec, manifest.md, image-index.md, descriptor.md)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from scr_export.oci import document, mediatype
from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import MediaType

# Clients refuse a larger one: containers/image and oras at 4 MiB, containerd a little above.
SIZE_LIMIT = 4 * 1024 * 1024

_LARGEST = 2**63 - 1

# All that is read of a manifest, a descriptor or a platform, by anyone.
_FIELDS = {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"}
_FIELDS |= {"digest", "size", "urls", "data", "platform", "fsLayers", "history"}
_FIELDS |= {"architecture", "os", "os.version", "os.features", "variant", "features"}
_FOLDED = {field.casefold(): field for field in _FIELDS}

# What skopeo, podman and CRI-O read of a docker image; they refuse it whole where a layer has another type.
_DOCKER_LAYERS = {
    f"application/vnd.docker.image.rootfs.{kind}diff.tar{suffix}"
    for kind in ("", "foreign.")
    for suffix in ("", ".gzip", ".zstd")
}


class Reason(Enum):
    """Why a manifest is refused, as far as the remedy depends on it."""

    DAMAGED = auto()  # no registry would have taken these bytes
    REFUSED = auto()  # a client refuses the manifest as it was made
    UNTYPED = auto()  # a docker manifest without mediaType
    SCHEMA_1 = auto()


class Defect(NamedTuple):
    """One thing that is wrong with a manifest, in words that continue its file's name."""

    what: str
    reason: Reason = Reason.REFUSED


_PLAIN = {"mediaType", "digest", "size"}
_PLAIN_TYPES = (str, str, int)


class InvalidManifest(ValueError):
    """Bytes that are no manifest which clients take. `defects` has everything found."""

    def __init__(self, defects: list[Defect]) -> None:
        super().__init__("; ".join(defect.what for defect in defects))
        self.defects = defects


class Descriptor(NamedTuple):
    """What a manifest says of a blob or of another manifest (image-spec, descriptor.md). `size` is in bytes."""

    place: str
    digest: Digest
    size: int
    has_urls: bool = False
    media_type: str = ""


class Manifest(NamedTuple):
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
        reader = _Reader(_document(raw))
        media_type = reader.media_type()
        is_index = media_type in mediatype.INDEXES
        children = reader.descriptors("manifests") if is_index else ()
        blobs = () if is_index else (*reader.config(), *reader.descriptors("layers"))
        if media_type == mediatype.DOCKER_MANIFEST:
            reader.refuse_unknown_layers(blobs[1:])
        subject = reader.subject(media_type)
        artifact_type, annotations = reader.artifact_type(), reader.annotations()
        if reader.defects:
            raise InvalidManifest(reader.defects)
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


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return _folded(document.read(raw))
    except ValueError as error:
        raise InvalidManifest([Defect(str(error), Reason.DAMAGED)]) from None


def _folded(item: dict[str, Any]) -> dict[str, Any]:
    return item if item.keys() <= _FIELDS else document.folded(item, _FOLDED)


class _Reader:
    """Takes a document apart and gathers defects, so that one reading tells them all."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.defects: list[Defect] = []

    def _refuse(self, what: str, reason: Reason = Reason.REFUSED) -> None:
        self.defects.append(Defect(what, reason))

    def media_type(self) -> MediaType:
        """The document's `mediaType`; where it has none, what skopeo takes it for."""
        version, stated = self.document.get("schemaVersion"), self.document.get("mediaType")
        self._refuse_schema_1(version, stated)
        if version is not None and not _is_integer(version):
            self._refuse(f"has the schemaVersion {version!r:.80}, which is not a whole number")
        if stated in (None, ""):
            media_type = self._inferred()
        elif isinstance(stated, str) and stated in mediatype.MANIFESTS:
            media_type = MediaType(stated)
        else:
            self._refuse(f"has the mediaType {stated!r:.160}, which is not a manifest's that clients pull")
            return mediatype.OCI_MANIFEST
        if media_type == mediatype.DOCKER_LIST and _is_integer(version or 0) and version != 2:
            self._refuse(f"has the schemaVersion {version!r:.80}, and a docker manifest list must have 2")
        self._refuse_ambiguity(is_index=media_type in mediatype.INDEXES)
        return media_type

    def _refuse_schema_1(self, version: object, stated: object) -> None:
        untyped = not stated and version == 1 and not self.document.keys() & {"config", "manifests"}
        if untyped or (isinstance(stated, str) and stated in mediatype.SCHEMA_1):
            raise InvalidManifest([Defect("is of docker's schema 1, which clients refuse", Reason.SCHEMA_1)])

    def _inferred(self) -> MediaType:
        # Before image-spec 1.0.2 an OCI manifest had no mediaType. The order of the questions is skopeo's.
        config = self.document.get("config")
        config_type = _folded(config).get("mediaType") if isinstance(config, dict) else None
        if config_type == mediatype.DOCKER_CONFIG:
            self._refuse("is a docker manifest without mediaType, which clients refuse", Reason.UNTYPED)
            return mediatype.DOCKER_MANIFEST
        if config_type != mediatype.OCI_CONFIG and self.document.get("manifests"):
            return mediatype.OCI_INDEX
        return mediatype.OCI_MANIFEST

    def _refuse_ambiguity(self, *, is_index: bool) -> None:
        # image-spec, manifest.md and image-index.md: what can be read as either must not be taken (CVE-2021-41190).
        for key in ("config", "layers", "fsLayers") if is_index else ("manifests", "fsLayers"):
            if key in self.document:
                self._refuse_key(key, is_index=is_index)
        if self.document.get("history") is not None:
            self._refuse_key("history", is_index=is_index)

    def _refuse_key(self, key: str, *, is_index: bool) -> None:
        self._refuse(f"has {key!r}, which {'an index' if is_index else 'an image manifest'} must not have")

    def refuse_unknown_layers(self, layers: tuple[Descriptor, ...]) -> None:
        """Refuse layers of types that a docker image cannot have; OCI's may have any."""
        for layer in layers:
            if layer.media_type not in _DOCKER_LAYERS:
                self._refuse(f"{layer.place} has the mediaType {layer.media_type!r:.160}, which no docker layer has")

    def subject(self, media_type: MediaType) -> Digest | None:
        """The digest of the subject. Of a docker manifest's no client reads more, and it may lack it."""
        item = self.document.get("subject")
        if item is None:
            return None
        if media_type in mediatype.DOCKER and isinstance(item, dict):
            item = _folded(item)
            if "digest" not in item:
                self._refuse_mistyped(item, "subject")
                return None
            if _is_integer(item.get("size")):
                item = item | {"size": 0}
        found = self._descriptor("subject", item)
        return found[0].digest if found else None

    def artifact_type(self) -> str | None:
        stated, config = self.document.get("artifactType"), self.document.get("config")
        if stated in (None, "") and isinstance(config, dict):
            stated = _folded(config).get("mediaType")
        if stated is not None and not isinstance(stated, str):
            self._refuse(f"has the artifactType {stated!r:.80}, which is no text")
            return None
        return stated or None

    def annotations(self) -> Mapping[str, str]:
        stated = self.document.get("annotations")
        if not _is_map_of_texts(stated):
            self._refuse("has annotations that are not all texts, which clients refuse")
            return {}
        return {key: value or "" for key, value in (stated or {}).items()}

    def _refuse_mistyped(self, item: dict[str, Any], place: str) -> None:
        for key, value in item.items():
            if key in _OF_DESCRIPTOR and not _OF_DESCRIPTOR[key](value):
                self._refuse(f"{place} has the {key} {value!r:.80}, which clients cannot read")

    def config(self) -> tuple[Descriptor, ...]:
        return self._descriptor("config", self.document.get("config"))

    def descriptors(self, key: str) -> tuple[Descriptor, ...]:
        items = self.document.get(key)
        if items is None:  # an empty list, as Go writes it
            return ()
        if not isinstance(items, list):
            self._refuse(f"{key} is not a list")
            return ()
        found: list[Descriptor] = []
        for place, item in enumerate(items):
            found += self._descriptor(f"{key}[{place}]", item)
        return tuple(found)

    def _descriptor(self, place: str, item: object) -> tuple[Descriptor, ...]:
        if not isinstance(item, dict):
            self._refuse(f"{place} is not a descriptor" if item is not None else f"{place} is missing")
            return ()
        is_plain = _is_plain(item)
        if not is_plain:
            item = _folded(item)
            self._refuse_mistyped(item, place)
        try:
            digest, size = Digest(item.get("digest")), _size(item.get("size"))
        except ValueError as error:
            self._refuse(f"{place}: {error}")
            return ()
        if is_plain:
            return (Descriptor(place, digest, size, False, item["mediaType"]),)
        if place != "subject":  # of a subject, no client compares them
            self._refuse_other_data(item.get("data"), digest, place)
        return (Descriptor(place, digest, size, bool(item.get("urls")), _text(item.get("mediaType"))),)

    def _refuse_other_data(self, data: object, digest: Digest, place: str) -> None:
        # image-spec, descriptor.md, "Embedded Content"
        if data is not None and _is_data(data) and Digest.of(_data(data) or b"", digest.algorithm) != digest:
            self._refuse(f"{place} has data that are not the bytes of its digest")


def _is_plain(item: dict[str, Any]) -> bool:
    """Whether a descriptor has just the three fields that every one has, of their types, as nearly all do."""
    return item.keys() == _PLAIN and (type(item["mediaType"]), type(item["digest"]), type(item["size"])) == _PLAIN_TYPES


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_integer(value: object) -> bool:
    """Whether Go can read it into an int64. JSON's true is no number."""
    return type(value) is int and -_LARGEST - 1 <= value <= _LARGEST


def _size(value: object) -> int:
    if value is None:  # as Go reads it, and then it must be that of the file
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{value!r:.80} is not a size in bytes")
    return value


def _data(value: object) -> bytes | None:
    """The bytes that a descriptor embeds as `data`; ValueError if clients cannot read them."""
    if value is None:
        return None
    try:
        if isinstance(value, list):  # of numbers, which Go reads too
            return bytes(value)
        if isinstance(value, str):  # Go passes over the ends of lines
            return base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True)
    except TypeError:
        pass
    raise ValueError("is neither base64 nor a list of bytes")


def _is_data(value: object) -> bool:
    try:
        _data(value)
    except ValueError:
        return False
    return True


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
    return all(_OF_PLATFORM[key](each) for key, each in _folded(value).items() if key in _OF_PLATFORM)


# What fields must be: clients written in Go refuse a manifest whole where one of them is something else.
_OF_PLATFORM = dict.fromkeys(("architecture", "os", "os.version", "variant"), _is_text)
_OF_PLATFORM |= dict.fromkeys(("os.features", "features"), _is_texts)
_OF_DESCRIPTOR = {
    "mediaType": _is_text,
    "artifactType": _is_text,
    "data": _is_data,
    "urls": _is_texts,
    "annotations": _is_map_of_texts,
    "platform": _is_platform,
}
