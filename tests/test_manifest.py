from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scr_export.oci import mediatype
from scr_export.oci.manifest import InvalidManifest, Manifest

HEX = "0123456789abcdef" * 4
BLOB = {"mediaType": "application/octet-stream", "digest": f"sha256:{HEX}", "size": 7}
OCI = {"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST, "config": BLOB, "layers": [BLOB]}
INDEX = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": [BLOB]}


def config(media_type: str) -> dict[str, Any]:
    return {"config": BLOB | {"mediaType": media_type}}


def parse(document: object) -> Manifest:
    return Manifest.parse(json.dumps(document).encode())


def problems(raw: bytes) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        Manifest.parse(raw)
    texts = [defect.what for defect in caught.value.defects]
    assert texts
    assert all(len(problem) < 400 for problem in texts)
    return texts


@pytest.mark.parametrize("media_type", sorted(mediatype.MANIFESTS))
def test_a_manifest_with_a_media_type_is_parsed(media_type: str) -> None:
    layer = BLOB | {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    fields = {"manifests": [BLOB]} if media_type in mediatype.INDEXES else {"config": BLOB, "layers": [layer, layer]}
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
    manifest = Manifest.parse(raw)
    assert (manifest.media_type, manifest.size) == (media_type, len(raw))
    assert [each.place for each in manifest.blobs + manifest.children] == (
        ["manifests[0]"] if media_type in mediatype.INDEXES else ["config", "layers[0]", "layers[1]"]
    )
    assert {(each.digest, each.size) for each in manifest.blobs + manifest.children} == {(f"sha256:{HEX}", 7)}


def test_the_digest_is_that_of_the_exact_bytes() -> None:
    raw = json.dumps(OCI).encode()
    assert Manifest.parse(raw).digest != Manifest.parse(raw + b"\n").digest
    assert Manifest.parse(raw, "sha512").digest.algorithm == "sha512"


@pytest.mark.parametrize(
    ("fields", "media_type"),
    [
        (config(mediatype.OCI_CONFIG), mediatype.OCI_MANIFEST),
        (config("application/vnd.cncf.helm.config.v1+json"), mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"layers": [BLOB]}, mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"mediaType": ""}, mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"mediaType": None}, mediatype.OCI_MANIFEST),
        ({"manifests": [BLOB]}, mediatype.OCI_INDEX),
        ({"manifests": [BLOB], "annotations": {"a": "b"}}, mediatype.OCI_INDEX),
    ],
)
def test_a_missing_media_type_is_inferred_as_skopeo_does(fields: dict[str, Any], media_type: str) -> None:
    assert parse({"schemaVersion": 2, **fields}).media_type == media_type


@pytest.mark.parametrize("absent", ["layers", "manifests"])
def test_null_is_an_empty_list(absent: str) -> None:
    document = OCI if absent == "layers" else INDEX
    manifest = parse(document | {absent: None})
    assert [each.place for each in manifest.blobs + manifest.children] == (["config"] if absent == "layers" else [])


def test_urls_are_noted() -> None:
    manifest = parse(OCI | {"layers": [BLOB | {"urls": ["http://127.0.0.1/"]}, BLOB | {"urls": []}]})
    assert [each.has_urls for each in manifest.blobs] == [False, True, False]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"not json", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (json.dumps(OCI).encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf" + json.dumps(OCI).encode(), "not JSON"),
        (json.dumps(OCI).encode() + b"{}", "not JSON"),
        (json.dumps(OCI).encode() + b"\0", "not JSON"),
        (b'{"schemaVersion": 2, "x": NaN}', "NaN"),
        (b'{"schemaVersion": 2, "x": -Infinity}', "Infinity"),
        (b"[" * 100_000 + b"]" * 100_000, "too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
        (b"[" * 100_000, "deep|not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'"text"', "not a JSON object"),
    ],
)
def test_a_text_that_is_no_json_object_is_refused(raw: bytes, says: str) -> None:
    [problem] = problems(raw)
    assert re.search(says, problem)


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_sizes_at_the_limits_are_accepted(size: int) -> None:
    assert parse(OCI | {"layers": [BLOB | {"size": size}]}).blobs[1].size == size


def test_all_faults_are_reported_at_once() -> None:
    document = OCI | {"manifests": [], "config": None, "layers": [BLOB | {"size": -1}, BLOB | {"digest": "x"}]}
    assert len(problems(json.dumps(document).encode())) == 4


def test_a_large_index_is_parsed() -> None:
    entries = [BLOB | {"digest": f"sha256:{number:064x}"} for number in range(20_000)]
    assert len(parse(INDEX | {"manifests": entries}).children) == 20_000


def test_a_deeply_nested_annotation_is_refused_without_a_crash() -> None:
    depth = 100_000
    raw = json.dumps(OCI)[:-1].encode() + b', "annotations": ' + b"[" * depth + b"]" * depth + b"}"
    assert "deep" in problems(raw)[0]


SIG = "application/vnd.example.sig"


@pytest.mark.parametrize(
    ("document", "artifact_type"),
    [
        (OCI, "application/octet-stream"),
        (OCI | config(mediatype.OCI_CONFIG), mediatype.OCI_CONFIG),
        (OCI | {"artifactType": SIG}, SIG),
        (OCI | {"artifactType": ""}, "application/octet-stream"),
        (OCI | {"artifactType": None}, "application/octet-stream"),
        (OCI | {"artifactType": "no type, but a text"}, "no type, but a text"),
        (OCI | {"config": {key: BLOB[key] for key in ("digest", "size")}}, None),
        (OCI | config(""), None),
        (INDEX | {"artifactType": SIG}, SIG),
        (INDEX, None),
        (INDEX | {"artifactType": ""}, None),
    ],
)
def test_the_artifact_type_is_parsed(document: dict[str, Any], artifact_type: str | None) -> None:
    """distribution-spec, "Listing Referrers": the config's media type stands in, and an index has none."""
    assert parse(document).artifact_type == artifact_type


@pytest.mark.parametrize("document", [OCI, INDEX])
def test_the_subject_is_parsed(document: dict[str, Any]) -> None:
    assert parse(document).subject is None
    assert parse(document | {"subject": None}).subject is None
    assert parse(document | {"subject": BLOB}).subject == f"sha256:{HEX}"
    for algorithm, encoded in (("sha384", HEX + HEX[:32]), ("sha512", HEX * 2)):
        digest = f"{algorithm}:{encoded}"
        assert parse(document | {"subject": BLOB | {"digest": digest}}).subject == digest


@pytest.mark.parametrize("document", [OCI, INDEX])
def test_the_annotations_are_parsed(document: dict[str, Any]) -> None:
    assert parse(document).annotations == parse(document | {"annotations": None}).annotations == {}
    texts = {"a": "", "": "b", "\u00e9": "\U0001f600", "<>&": '"\\\n'}
    assert parse(document | {"annotations": texts}).annotations == texts


def test_unknown_keys_may_have_any_value() -> None:
    document = OCI | {"Labels": {"Layers": 1}, "annotations": {"Layers": "1", "SIZE": "2"}, "layers": [BLOB | {"X": 1}]}
    assert len(parse(document).blobs) == 2
    assert parse(document).annotations == {"Layers": "1", "SIZE": "2"}


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ('"layers": []', [7]),
        ('"layers": [{"digest": "D", "size": 8}]', [7, 8]),
        ('"LAYERS": [{"digest": "D", "size": 8}]', [7, 8]),
        ('"layer\u017f": [{"digest": "D", "size": 8}]', [7, 8]),  # a long s, which Go takes for an s
        ('"LAYERS": [], "layers": [{"digest": "D", "size": 8}]', [7, 8]),
        ('"LAYERS": [{"digest": "D", "size": 8}], "layers": []', [7]),
        ('"config": {"size": 9}', [9, 7]),
        ('"CONFIG": {"Size": 9}', [9, 7]),
    ],
)
def test_the_last_of_equal_keys_counts(more: str, sizes: list[int]) -> None:
    """As clients written in Go read it; an object is read into the one before it."""
    raw = json.dumps(OCI)[:-1] + ", " + more.replace("D", f"sha256:{HEX}") + "}"
    assert [each.size for each in Manifest.parse(raw.encode()).blobs] == sizes


def test_null_is_read_as_an_absent_key() -> None:
    fields = dict.fromkeys(("mediaType", "artifactType", "data", "urls", "annotations", "platform"))
    platform = {
        "platform": {"architecture": None, "os.features": None, "x": 7},
        "urls": [None],
        "annotations": {"a": None},
    }
    manifest = parse(OCI | {"annotations": {"a": None, "b": "c"}, "layers": [BLOB | fields, BLOB | platform]})
    assert manifest.annotations == {"a": "", "b": "c"}
