"""Manifests in which one thing was changed: which of them an export refuses, and a client that refuses each of those.

What the exporter refuses is learnt from clients: a rule is a row with the client that has it, and what no client
refuses is a row without.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.support.builders import Built, write_artifact, write_image, write_index

Json = dict[str, Any]
Kind = Literal["image", "docker", "index", "list", "artifact"]
Change = Callable[[Json], bytes | None]

SKOPEO, LIBRARY, CONTAINERD, CRANE, ORAS = "skopeo", "image/v5", "containerd", "crane", "oras"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
ODD = "application/vnd.example.odd+json"
HEX = "0123456789abcdef" * 4
LIMIT = 4 * 2**20
IMAGES: tuple[Kind, ...] = ("image", "docker")
INDEXES: tuple[Kind, ...] = ("index", "list")
OF_OCI: tuple[Kind, ...] = ("image", "index")
OF_DOCKER: tuple[Kind, ...] = ("docker", "list")
FIRST = {"config": ("config",), "layers[0]": ("layers", 0), "manifests[0]": ("manifests", 0)}


def _build(write: Callable[..., Built], **options: Any) -> Built:
    with tempfile.TemporaryDirectory() as directory:
        return write(Path(directory), **options)


BUILT: dict[Kind, Built] = {
    "image": _build(write_image),
    "docker": _build(write_image, docker=True),
    "index": _build(write_index),
    "list": _build(write_index, docker=True),
    "artifact": _build(write_artifact),
}
SUBJECT = _build(write_artifact, seed=9)


@dataclass(frozen=True, slots=True)
class Row:
    """A changed manifest. A `client` refuses it and an export `says` so; without a client, every client takes it.

    `served_as` is the media type that a registry gives it, where it is not that of its kind. `children` are
    manifests that only it needs.
    """

    name: str
    kind: Kind
    change: Change
    says: str = ""
    client: str = ""
    served_as: str = ""

    @property
    def raw(self) -> bytes:
        """The bytes of the manifest."""
        document = json.loads(BUILT[self.kind].raw)
        changed = self.change(document)
        return json.dumps(document).encode() if changed is None else changed

    @property
    def media_type(self) -> str:
        """The Content-Type that a registry serves it with."""
        return self.served_as or BUILT[self.kind].media_type

    def __str__(self) -> str:
        return f"{self.kind}, {self.name}"


def put(*path: str | int, value: object) -> Change:
    """Set what stands at a path."""

    def change(document: Json) -> None:
        _node(document, path[:-1])[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    """Remove what stands at a path."""

    def change(document: Json) -> None:
        del _node(document, path[:-1])[path[-1]]

    return change


def _node(document: Json, path: Sequence[str | int]) -> Any:
    node: Any = document
    for key in path:
        node = node[key]
    return node


def text(change: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the document."""
    return lambda document: change(json.dumps(document).encode())


def instead(raw: bytes) -> Change:
    """Other bytes altogether."""
    return text(lambda _: raw)


def ending(end: bytes) -> Change:
    """One more field at the end."""
    return text(lambda raw: raw[:-1] + b", " + end + b"}")


def starting(start: bytes) -> Change:
    """One more field at the start."""
    return text(lambda raw: b"{" + start + b", " + raw[1:])


def respelt(field: str, other: str) -> Change:
    """A field in another spelling, wherever it stands."""
    return text(lambda raw: raw.replace(f'"{field}":'.encode(), f'"{other}":'.encode()))


def embedded(kind: Kind, *path: str | int, change: Callable[[str], object] = str) -> Change:
    """A descriptor with `data`: the right bytes in base64, and then changed."""
    built = BUILT[kind]
    digest = _node(json.loads(built.raw), path)["digest"]
    data = built.blobs.get(digest) or built.manifests[digest][1]
    return put(*path, "data", value=change(base64.b64encode(data).decode()))


def rows() -> Iterator[Row]:
    """Every row."""
    for kind in BUILT:
        yield Row("as it was built", kind, text(bytes))
    for part in (json_rows, spelling_rows, version_rows, type_rows, ambiguous_rows, structure_rows):
        yield from part()
    for part in (field_rows, data_rows, size_rows, subject_rows, child_rows):
        yield from part()


def json_rows() -> Iterator[Row]:
    """What is JSON, and what is a manifest's size."""
    for name, change, says in (
        ("empty", instead(b""), "not JSON"),
        ("cut off", text(lambda raw: raw[:-1]), "not JSON"),
        ("in UTF-16", text(lambda raw: raw.decode().encode("utf-16")), "not JSON"),
        ("with a byte order mark", text(lambda raw: b"\xef\xbb\xbf" + raw), "not JSON"),
        ("followed by another", text(lambda raw: raw + b"{}"), "not JSON"),
        ("followed by a NUL", text(lambda raw: raw + b"\0"), "not JSON"),
        ("with NaN", ending(b'"x": NaN'), "NaN"),
        ("with Infinity", ending(b'"x": -Infinity'), "Infinity"),
        ("with a control character", ending(b'"x": "a\tb"'), "not JSON"),
        ("too deep", ending(b'"x": ' + b"[" * 100_000 + b"]" * 100_000), "too deep"),
        ("a list", instead(b"[]"), "not a JSON object"),
        ("a number", instead(b"7"), "not a JSON object"),
        ("a text", instead(b'"text"'), "not a JSON object"),
    ):
        yield Row(name, "image", change, says, SKOPEO)
    yield Row("null", "image", instead(b"null"), "not a JSON object", ORAS)
    yield Row("above 4 MiB", "image", text(lambda raw: raw.ljust(LIMIT + 1)), "larger than 4194304", SKOPEO)
    yield Row("of 4 MiB", "image", text(lambda raw: raw.ljust(LIMIT)))
    for kind in IMAGES:
        yield Row("with bytes that are no UTF-8", kind, ending(b'"x": "\xe4"'))
    yield Row("with an annotation that is no UTF-8", "image", ending(b'"annotations": {"a": "\xe4"}'))
    yield Row("with half of a character", "image", ending(b'"x": "\\ud800"'))
    yield Row("with a long number", "image", ending(b'"x": ' + b"9" * 100_000))
    yield Row("with a large number", "image", ending(b'"x": 1e999'))


def spelling_rows() -> Iterator[Row]:
    """Clients take a name in any case, and of a name that stands twice the last value."""
    for kind in IMAGES:
        yield Row("schemaVersion twice", kind, starting(b'"schemaVersion": 2'))
        yield Row("layers twice", kind, starting(b'"layers": []'))
        yield Row("config twice", kind, starting(b'"config": {}'))
        yield Row("size twice", kind, text(lambda raw: raw.replace(b'"size":', b'"size": 1, "size":')))
        for field in ("layers", "config", "size", "mediaType", "schemaVersion"):
            yield Row(f"{field} in capitals", kind, respelt(field, field.upper()))
    for kind in INDEXES:
        yield Row("manifests twice", kind, starting(b'"manifests": []'))
        yield Row("platform twice", kind, text(lambda raw: raw.replace(b'"platform":', b'"platform": {}, "platform":')))
        yield Row("manifests in capitals", kind, respelt("manifests", "MANIFESTS"))
        yield Row("platform in capitals", kind, respelt("platform", "Platform"))
    yield Row("an unknown name twice", "image", ending(b'"x": 1, "x": 2'))
    yield Row("mediaType twice", "image", starting(b'"mediaType": "application/json"'))
    yield Row("an annotation twice", "image", ending(b'"annotations": {"a": "1", "a": "2"}'))
    yield Row("another digest in capitals", "image", put("config", "DIGEST", value=f"sha256:{HEX}"), "missing", SKOPEO)
    yield Row("another size in capitals", "image", put("layers", 0, "SIZE", value=8), "says 8", CONTAINERD)
    yield Row("manifests in capitals", "image", put("MANIFESTS", value=[]), "'manifests'", SKOPEO)
    yield Row("fsLayers in small letters", "image", put("fslayers", value=[]), "'fsLayers'", SKOPEO)
    yield Row("layers in capitals", "index", put("LAYERS", value=[]), "'layers'", SKOPEO)
    other_type = put("MediaType", value=OCI_INDEX)
    yield Row("another mediaType in capitals", "image", other_type, "'config'", CONTAINERD)


def version_rows() -> Iterator[Row]:
    """`schemaVersion`."""
    value: object
    for value in ("2", 2.0, True, [2], 2**63, 10**200):
        for kind in (*IMAGES, *INDEXES):
            change = put("schemaVersion", value=value)
            yield Row(f"of schemaVersion {value!r:.9}", kind, change, "the schemaVersion", SKOPEO)
    for kind in (*IMAGES, "index"):
        yield Row("without schemaVersion", kind, drop("schemaVersion"))
        for version in (0, 1, 3, None):
            yield Row(f"of schemaVersion {version}", kind, put("schemaVersion", value=version))
    for version in (0, 1, 3, None):
        change = put("schemaVersion", value=version)
        yield Row(f"of schemaVersion {version}", "list", change, "must have 2", LIBRARY)
    yield Row("without schemaVersion", "list", drop("schemaVersion"), "must have 2", LIBRARY)
    first = b'{"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [], "history": []}'
    yield Row("schema 1", "docker", instead(first), "schema 1", CONTAINERD, SCHEMA_1)


def type_rows() -> Iterator[Row]:
    """`mediaType`."""
    value: object
    for name, change in (
        ("without mediaType", drop("mediaType")),
        ("mediaType empty", put("mediaType", value="")),
        ("mediaType null", put("mediaType", value=None)),
    ):
        yield Row(name, "image", change)
        yield Row(name, "artifact", change)
        yield Row(name, "index", change)
        yield Row(name, "list", change, served_as=OCI_INDEX)
        yield Row(name, "docker", change, "without mediaType", SKOPEO)
    for value in (7, [], {}):
        for kind in IMAGES:
            yield Row(f"mediaType {value}", kind, put("mediaType", value=value), "the mediaType", SKOPEO)
    for odd in ("application/json", ODD, f"{OCI}; charset=utf-8", "../../../etc/passwd"):
        # a registry serves the media type that was sent when the manifest was pushed, which cannot be seen in IMAGES
        yield Row(f"of the type {odd}", "docker", put("mediaType", value=odd), "the mediaType", SKOPEO)
    yield Row("of an unknown type", "image", put("mediaType", value=ODD), "the mediaType", SKOPEO, ODD)
    for layer in (OCI_LAYER, f"{OCI_LAYER}+gzip", "application/vnd.docker.plugin.v1+json", "x", ""):
        change = put("layers", 0, "mediaType", value=layer)
        yield Row(f"a layer of the type {layer!r}", "docker", change, "which no docker layer has", SKOPEO)
        if not layer.startswith(OCI_LAYER):  # which crane then unpacks
            yield Row(f"a layer of the type {layer!r}", "artifact", change)
    yield Row("a layer without type", "docker", drop("layers", 0, "mediaType"), "which no docker layer has", SKOPEO)
    for kind in IMAGES:
        yield Row("a config of an unknown type", kind, put("config", "mediaType", value=ODD))
        yield Row("a config without type", kind, drop("config", "mediaType"))


def ambiguous_rows() -> Iterator[Row]:
    """What could be read as another kind of manifest (CVE-2021-41190)."""
    value: object
    entry = json.loads(BUILT["index"].raw)["manifests"][0]
    for kind in IMAGES:
        for value in ([], [entry], {}):
            yield Row(f"manifests {value!r:.9}", kind, put("manifests", value=value), "has 'manifests'", SKOPEO)
        yield Row("manifests null", kind, put("manifests", value=None), "has 'manifests'", CONTAINERD)
    for index in INDEXES:
        for key in ("config", "layers"):
            yield Row(f"{key} []", index, put(key, value=[]), f"has '{key}'", SKOPEO)
            yield Row(f"{key} {{}}", index, put(key, value={}), f"has '{key}'", SKOPEO)
            yield Row(f"{key} null", index, put(key, value=None), f"has '{key}'", CONTAINERD)
    for kind in (*IMAGES, *INDEXES):
        for key in ("fsLayers", "history"):
            for value in ([], {}, "x", [{"blobSum": f"sha256:{HEX}", "v1Compatibility": "{}"}]):
                yield Row(f"{key} {value!r:.9}", kind, put(key, value=value), f"has '{key}'", SKOPEO)
        yield Row("fsLayers null", kind, put("fsLayers", value=None), "has 'fsLayers'", CONTAINERD)
        yield Row("history null", kind, put("history", value=None))
        yield Row("a name, a tag and signatures", kind, ending(b'"name": "app", "tag": "v1", "signatures": []'))


def structure_rows() -> Iterator[Row]:
    """What lists and descriptors must be."""
    value: object
    for kind in (*IMAGES, "artifact"):
        yield Row("without config", kind, drop("config"), "config is missing", ORAS)
        yield Row("config null", kind, put("config", value=None), "config is missing", ORAS)
        for value in ([], "x"):
            yield Row(f"config {value!r}", kind, put("config", value=value), "config is not a descriptor", SKOPEO)
        for value in ({}, "x"):
            yield Row(f"layers {value!r}", kind, put("layers", value=value), "layers is not a list", SKOPEO)
        yield Row("layers [null]", kind, put("layers", value=[None]), "layers[0] is missing", SKOPEO)
        yield Row("layers [7]", kind, put("layers", value=[7]), "layers[0] is not a descriptor", SKOPEO)
    yield Row("without layers", "artifact", drop("layers"))
    yield Row("layers null", "artifact", put("layers", value=None))
    for index in INDEXES:
        for value in ({}, "x"):
            yield Row(f"manifests {value!r}", index, put("manifests", value=value), "manifests is not a list", SKOPEO)
        yield Row("manifests [null]", index, put("manifests", value=[None]), "manifests[0] is missing", SKOPEO)
        yield Row("manifests [7]", index, put("manifests", value=[7]), "manifests[0] is not a descriptor", SKOPEO)
        yield Row("manifests []", index, put("manifests", value=[]))
    for kind in (*IMAGES, *INDEXES):
        for value in (7, [], {"a": 1}):
            change = put("artifactType", value=value)
            yield Row(f"artifactType {value!r}", kind, change, "the artifactType", CRANE)
        for value in (7, [], "a", {"a": 1}, {"a": {"b": "c"}}):
            yield Row(f"annotations {value!r}", kind, put("annotations", value=value), "annotations", CRANE)
        yield Row("artifactType null", kind, put("artifactType", value=None))
        yield Row("an annotation null", kind, put("annotations", value={"a": None}))


def _places() -> Iterator[tuple[Kind, str, tuple[str | int, ...]]]:
    for kind in (*IMAGES, "artifact"):
        yield kind, "config", FIRST["config"]
        yield kind, "layers[0]", FIRST["layers[0]"]
    for index in INDEXES:
        yield index, "manifests[0]", FIRST["manifests[0]"]


def field_rows() -> Iterator[Row]:
    """The fields of a descriptor, wherever it stands."""
    platform: Json = {"os": "linux", "architecture": "amd64"}
    value: object
    for kind, place, path in _places():
        for digest in (None, 7, "", "sha256:../../../etc/passwd", f"md5:{HEX[:32]}", f"sha256:{HEX}\n", HEX):
            yield Row(f"{place}.digest {digest!r:.20}", kind, put(*path, "digest", value=digest), f"{place}: ", ORAS)
        upper = put(*path, "digest", value=f"sha256:{HEX.upper()}")
        yield Row(f"{place}.digest in capitals", kind, upper, f"{place}: ", ORAS)
        yield Row(f"{place} without digest", kind, drop(*path, "digest"), f"{place}: ", ORAS)
        for field, value in (
            ("mediaType", ["a"]),
            ("artifactType", 7),
            ("data", {}),
            ("data", 7),
            ("data", [300]),
            ("urls", "http://127.0.0.1:9/"),
            ("urls", {}),
            ("urls", [7]),
            ("annotations", []),
            ("annotations", {"a": 1}),
            ("platform", "linux/amd64"),
            ("platform", []),
            ("platform", platform | {"architecture": 64}),
            ("platform", platform | {"os": 7}),
            ("platform", platform | {"os.version": 7}),
            ("platform", platform | {"os.features": "win32k"}),
            ("platform", platform | {"variant": 7}),
            ("platform", platform | {"features": "sse4"}),
            ("platform", platform | {"features": [7]}),
        ):
            change = put(*path, field, value=value)
            yield Row(f"{place}.{field} {value}", kind, change, f"{place} has the {field}", CRANE)
        for field, value in (("data", None), ("annotations", {"a": None}), ("platform", None), ("x", 7)):
            yield Row(f"{place}.{field} {value}", kind, put(*path, field, value=value))
        odd = platform | {"x": 7, "variant": None}
        if kind in IMAGES:
            yield Row(f"{place}.platform with more", kind, put(*path, "platform", value=odd))


def data_rows() -> Iterator[Row]:
    """`data` must be base64, and the bytes of the digest."""
    for kind, place, path in _places():
        for data in ("!!", "bGF5ZXI", " AAAA"):
            change = put(*path, "data", value=data)
            yield Row(f"{place}.data {data!r}", kind, change, f"{place} has the data", CRANE)
        for data in ("", "AAAA"):
            yield Row(f"{place}.data {data!r}", kind, put(*path, "data", value=data), "the bytes of its digest", CRANE)
        yield Row(f"{place}.data right", kind, embedded(kind, *path))
        lines = embedded(kind, *path, change=lambda data: f"{data[:8]}\r\n{data[8:]}\n")
        yield Row(f"{place}.data on lines", kind, lines)
        numbers = embedded(kind, *path, change=lambda data: list(base64.b64decode(data)))
        yield Row(f"{place}.data as numbers", kind, numbers)


def size_rows() -> Iterator[Row]:
    """`size` is a number of bytes, and that of the file."""
    size: object
    for kind, place, path in _places():
        for size in (-1, 2**63, 10**200, 7.0, "7", True, [], {}):
            change = put(*path, "size", value=size)
            yield Row(f"{place}.size {size!r:.9}", kind, change, "is not a size in bytes", ORAS)
        for size in (0, 1, None):
            yield Row(f"{place}.size {size}", kind, put(*path, "size", value=size), f"says {size or 0}", ORAS)
        yield Row(f"{place} without size", kind, drop(*path, "size"), "says 0", ORAS)


def subject_rows() -> Iterator[Row]:
    """The subject, which clients follow from OCI's manifests alone."""
    right = SUBJECT.descriptor
    value: object
    for kind in (*IMAGES, *INDEXES):
        yield Row("a subject", kind, put("subject", value=right))
        yield Row("subject null", kind, put("subject", value=None))
        yield Row("a subject with urls", kind, put("subject", value=right | {"urls": ["http://127.0.0.1:9/"]}))
        yield Row("a subject with other data", kind, put("subject", value=right | {"data": "AAAA"}))
        for value in (7, [], right["digest"]):
            yield Row(f"subject {value!r:.9}", kind, put("subject", value=value), "subject is not a descriptor", CRANE)
        for digest in (None, 7, "", "sha256:../../x", f"md5:{HEX[:32]}"):
            change = put("subject", value=right | {"digest": digest})
            yield Row(f"subject.digest {digest!r:.20}", kind, change, "subject: ", CRANE)
        for field, value in (("mediaType", 7), ("data", "!"), ("urls", 7), ("annotations", 7), ("platform", 7)):
            change = put("subject", value=right | {field: value})
            yield Row(f"subject.{field} {value!r}", kind, change, f"subject has the {field}", CRANE)
        change = put("subject", value=right | {"size": "7"})
        yield Row("subject.size '7'", kind, change, "subject: '7' is not a size", CRANE)
    for kind in OF_OCI:
        yield Row("subject {}", kind, put("subject", value={}), "subject: ", ORAS)
        yield Row("subject.size -1", kind, put("subject", value=right | {"size": -1}), "subject: -1", ORAS)
    for kind in OF_DOCKER:
        yield Row("subject {}", kind, put("subject", value={}))
        for size in (-1, 1, None):
            yield Row(f"subject.size {size}", kind, put("subject", value=right | {"size": size}))


def child_rows() -> Iterator[Row]:
    """An index tells the media type of each child, and it is that which the child is served with."""
    for kind in INDEXES:
        right = OCI if kind == "index" else DOCKER
        for other in (OCI, DOCKER, OCI_INDEX, DOCKER_LIST, OCI_LAYER, ODD, SCHEMA_1, "", None):
            change = put("manifests", 0, "mediaType", value=other)
            if other != right:
                yield Row(f"a child called {other}", kind, change, "the index says", LIBRARY)
        yield Row("a child without mediaType", kind, drop("manifests", 0, "mediaType"), "the index says", CRANE)
        yield Row("a child twice", kind, text(_doubled))
        yield Row("a child without platform", kind, drop("manifests", 0, "platform"))


def _doubled(raw: bytes) -> bytes:
    document = json.loads(raw)
    document["manifests"] *= 2
    return json.dumps(document).encode()
