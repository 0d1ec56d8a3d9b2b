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
    assert caught.value.problems
    assert all(len(problem) < 400 for problem in caught.value.problems)
    return caught.value.problems


def with_descriptor(place: str, descriptor: dict[str, Any]) -> bytes:
    """A manifest that has this descriptor at `config`, `subject`, `layers[0]` or `manifests[0]`."""
    key, bracket, _ = place.partition("[")
    return json.dumps((INDEX if key == "manifests" else OCI) | {key: [descriptor] if bracket else descriptor}).encode()


@pytest.mark.parametrize("media_type", sorted(mediatype.MANIFESTS))
def test_a_stated_type_is_taken_and_has_its_descriptors(media_type: str) -> None:
    fields = {"manifests": [BLOB]} if media_type in mediatype.INDEXES else {"config": BLOB, "layers": [BLOB, BLOB]}
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
        (config(mediatype.DOCKER_CONFIG), mediatype.DOCKER_MANIFEST),
        (config("application/vnd.cncf.helm.config.v1+json"), mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"layers": [BLOB]}, mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"mediaType": ""}, mediatype.OCI_MANIFEST),
        (config(mediatype.OCI_CONFIG) | {"mediaType": None}, mediatype.OCI_MANIFEST),
        ({"manifests": [BLOB]}, mediatype.OCI_INDEX),
        ({"manifests": [BLOB], "annotations": {"a": "b"}}, mediatype.OCI_INDEX),
    ],
)
def test_a_type_that_is_not_stated_is_inferred_as_skopeo_does(fields: dict[str, Any], media_type: str) -> None:
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
        (json.dumps(OCI | {"x": "\u00e4"}, ensure_ascii=False).encode("latin-1"), "not JSON"),
        (b"\xef\xbb\xbf" + json.dumps(OCI).encode(), "not JSON"),
        (json.dumps(OCI).encode() + b"{}", "not JSON"),
        (json.dumps(OCI).encode() + b"\0", "not JSON"),
        (b'{"schemaVersion": 2, "x": NaN}', "NaN"),
        (b'{"schemaVersion": 2, "x": -Infinity}', "Infinity"),
        (b'{"schemaVersion": 2, "x": ' + b"9" * 100_000 + b"}", "not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
        (b"[" * 100_000, "deep|not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', "twice"),
        (json.dumps(OCI).encode().replace(b'"size": 7}', b'"size": 7, "size": 8}', 1), "twice"),
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes, says: str) -> None:
    [problem] = problems(raw)
    assert re.search(says, problem)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
        ({"schemaVersion": 3}, "schemaVersion"),
        ({"schemaVersion": "2"}, "schemaVersion"),
        ({"schemaVersion": None}, "schemaVersion"),
        ({"schemaVersion": 2.0}, "schemaVersion"),  # no client written in Go reads it
        ({"mediaType": "application/json"}, "mediaType"),
        ({"mediaType": "application/vnd.oci.image.manifest.v1+json; charset=utf-8"}, "mediaType"),
        ({"mediaType": "a" * 100_000}, "mediaType"),
        ({"mediaType": "../../../etc/passwd"}, "mediaType"),
        ({"mediaType": 7}, "mediaType"),
        ({"mediaType": []}, "mediaType"),
        ({"mediaType": {}}, "mediaType"),
        ({"manifests": []}, "'manifests'"),  # what can be read as either
        ({"manifests": [BLOB]}, "'manifests'"),
        ({"mediaType": "", "manifests": [BLOB], **config(mediatype.OCI_CONFIG)}, "'manifests'"),
        ({"mediaType": "", "manifests": [BLOB], **config(mediatype.DOCKER_CONFIG)}, "'manifests'"),
        ({"mediaType": "", "manifests": [BLOB]}, "'config'"),
        ({"config": None}, "config is missing"),
        ({"config": []}, "config is not a descriptor"),
        ({"config": "x"}, "config is not a descriptor"),
        ({"layers": {}}, "layers is not a list"),
        ({"layers": "x"}, "layers is not a list"),
        ({"layers": [None]}, r"layers\[0\] is missing"),
        ({"layers": [BLOB, 7]}, r"layers\[1\] is not a descriptor"),
    ],
)
def test_what_no_client_would_take_is_refused(fields: dict[str, Any], says: str) -> None:
    assert any(re.search(says, problem) for problem in problems(json.dumps(OCI | fields).encode()))


@pytest.mark.parametrize("key", ["config", "layers"])
def test_an_index_has_no_layers(key: str) -> None:
    assert f"has '{key}'" in "".join(problems(json.dumps(INDEX | {key: OCI[key]}).encode()))


@pytest.mark.parametrize("size", [-1, 2**63, 10**4000, 7.0, "7", True, None, [], {}], ids=lambda x: str(x)[:9])
def test_a_size_is_a_whole_number_of_bytes(size: object) -> None:
    assert "size in bytes" in problems(json.dumps(OCI | {"layers": [BLOB | {"size": size}]}).encode())[0]


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_sizes_at_the_limits(size: int) -> None:
    assert parse(OCI | {"layers": [BLOB | {"size": size}]}).blobs[1].size == size


@pytest.mark.parametrize(
    "digest",
    [
        None,
        7,
        "",
        "sha256:../../../etc/passwd",
        f"sha256:{HEX[:-3]}/..",
        f"../{HEX}",
        f"md5:{HEX[:32]}",
        f"sha256:{HEX}\n",
    ],
)
@pytest.mark.parametrize("place", ["config", "layers[0]", "manifests[0]"])
def test_a_digest_is_a_digest_wherever_it_stands(place: str, digest: object) -> None:
    bad = BLOB | {"digest": digest}
    [problem] = problems(with_descriptor(place, bad))
    assert problem.startswith(f"{place}: ")


def test_everything_wrong_is_told_at_once() -> None:
    document = OCI | {"manifests": [], "config": None, "layers": [BLOB | {"size": -1}, BLOB | {"digest": "x"}]}
    assert len(problems(json.dumps(document).encode())) == 4


def test_a_large_index_is_read() -> None:
    entries = [BLOB | {"digest": f"sha256:{number:064x}"} for number in range(20_000)]
    assert len(parse(INDEX | {"manifests": entries}).children) == 20_000


def test_a_deep_annotation_is_no_crash() -> None:
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
def test_the_artifact_type(document: dict[str, Any], artifact_type: str | None) -> None:
    """distribution-spec, "Listing Referrers": the config's media type stands in, and an index has none."""
    assert parse(document).artifact_type == artifact_type


@pytest.mark.parametrize("document", [OCI, INDEX])
def test_the_subject(document: dict[str, Any]) -> None:
    assert parse(document).subject is None
    assert parse(document | {"subject": None}).subject is None
    assert parse(document | {"subject": BLOB}).subject == f"sha256:{HEX}"
    for algorithm, encoded in (("sha384", HEX + HEX[:32]), ("sha512", HEX * 2)):
        digest = f"{algorithm}:{encoded}"
        assert parse(document | {"subject": BLOB | {"digest": digest}}).subject == digest


@pytest.mark.parametrize("document", [OCI, INDEX])
def test_the_annotations(document: dict[str, Any]) -> None:
    assert parse(document).annotations == parse(document | {"annotations": None}).annotations == {}
    texts = {"a": "", "": "b", "\u00e9": "\U0001f600", "<>&": '"\\\n'}
    assert parse(document | {"annotations": texts}).annotations == texts


@pytest.mark.parametrize("document", [OCI, INDEX])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"subject": 7}, "subject is not a descriptor"),
        ({"subject": []}, "subject is not a descriptor"),
        ({"subject": f"sha256:{HEX}"}, "subject is not a descriptor"),
        ({"subject": {}}, "subject: "),
        ({"subject": BLOB | {"digest": "sha256:../../x"}}, "subject: "),
        ({"subject": BLOB | {"digest": f"md5:{HEX[:32]}"}}, "subject: "),
        ({"subject": BLOB | {"size": -1}}, "subject: -1 is not a size"),
        ({"artifactType": 7}, "artifactType 7"),
        ({"artifactType": []}, "artifactType"),
        ({"artifactType": {"a" * 100_000: 1}}, "artifactType"),
        ({"annotations": []}, "annotations"),
        ({"annotations": "a"}, "annotations"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"annotations": {"a": {"b": "c"}}}, "annotations"),
    ],
)
def test_what_cannot_be_told_of_a_referrer_is_refused(
    document: dict[str, Any], fields: dict[str, Any], says: str
) -> None:
    [problem] = problems(json.dumps(document | fields).encode())
    assert says in problem


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (OCI | {"Layers": []}, "has the key 'Layers', which some clients take for 'layers'"),
        ({key: OCI[key] for key in ("schemaVersion", "mediaType", "config")} | {"LAYERS": [BLOB]}, "'LAYERS'"),
        (OCI | {"layer\u017f": []}, "take for 'layers'"),  # a long s, which Go folds too
        (OCI | {"MediaType": mediatype.OCI_INDEX}, "take for 'mediaType'"),
        (INDEX | {"Manifests": []}, "take for 'manifests'"),
        (OCI | {"config": BLOB | {"Digest": f"sha256:{HEX}"}}, "config: has the key 'Digest'"),
        (OCI | {"layers": [BLOB, BLOB | {"SIZE": 8}]}, "layers[1]: has the key 'SIZE'"),
    ],
)
def test_what_clients_may_read_in_another_way_is_refused(document: object, says: str) -> None:
    assert says in "; ".join(problems(json.dumps(document).encode()))


@pytest.mark.parametrize(
    "field",
    [
        {"mediaType": ["a"]},
        {"artifactType": 7},
        {"data": {}},
        {"urls": "http://127.0.0.1/"},
        {"urls": [7]},
        {"annotations": []},
        {"annotations": {"a": 1}},
        {"platform": "linux/amd64"},
        {"platform": {"architecture": 64, "os": "linux"}},
        {"platform": {"os.features": "win32k"}},
    ],
)
@pytest.mark.parametrize("place", ["config", "layers[0]", "manifests[0]", "subject"])
def test_a_field_of_another_type_is_refused(place: str, field: dict[str, Any]) -> None:
    [(key, value)] = field.items()
    told = problems(with_descriptor(place, BLOB | field))
    assert f"{place} has the {key} {value!r}, which clients cannot read" in told


def test_keys_that_nobody_reads_are_free() -> None:
    document = OCI | {"Labels": {"Layers": 1}, "annotations": {"Layers": "1", "SIZE": "2"}, "layers": [BLOB | {"X": 1}]}
    assert len(parse(document).blobs) == 2


def test_null_is_as_good_as_nothing() -> None:
    fields = dict.fromkeys(("mediaType", "artifactType", "data", "urls", "annotations", "platform"))
    platform = {
        "platform": {"architecture": None, "os.features": None, "x": 7},
        "urls": [None],
        "annotations": {"a": None},
    }
    manifest = parse(OCI | {"annotations": {"a": None, "b": "c"}, "layers": [BLOB | fields, BLOB | platform]})
    assert manifest.annotations == {"a": "", "b": "c"}
