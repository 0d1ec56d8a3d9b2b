from __future__ import annotations

import json
from typing import Any

import pytest

from scr_export.oci import mediatype
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.name import Tag
from scr_export.oci.referrers import Referrer, Referrers, referrers_in, referrers_index, subject_of

HEX = "0123456789abcdef" * 4
SUBJECT, OTHER = Digest(f"sha256:{HEX}"), Digest(f"sha512:{HEX}{HEX}")
SIG = "application/vnd.example.sig"


def descriptor(digest: Digest, size: int = 7) -> dict[str, Any]:
    return {"mediaType": mediatype.OCI_MANIFEST, "digest": digest, "size": size}


def manifest(subject: Digest | None = None, **fields: object) -> Manifest:
    config = {"mediaType": "application/vnd.config", "digest": SUBJECT, "size": 7}
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST, "config": config, "layers": [], **fields}
    return Manifest.parse(json.dumps(document | ({"subject": descriptor(subject)} if subject else {})).encode())


def index(*children: Manifest, subject: Digest | None = None, **fields: object) -> Manifest:
    manifests = [descriptor(child.digest, child.size) for child in children]
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": manifests, **fields}
    return Manifest.parse(json.dumps(document | ({"subject": descriptor(subject)} if subject else {})).encode())


def found(*manifests: Manifest, **tags: Manifest) -> dict[Digest, set[Digest]]:
    """What refers to each digest; `_` stands for `-` in a tag."""
    by_tag = {Tag(tag.replace("_", "-")): each.digest for tag, each in tags.items()}
    known = {each.digest: each for each in (*manifests, *tags.values())}
    return {subject: set(referrers) for subject, referrers in referrers_in(known, by_tag).items()}


def test_a_manifest_with_a_subject_is_a_referrer() -> None:
    one, two, other = manifest(SUBJECT), manifest(SUBJECT, artifactType=SIG), manifest(OTHER)
    assert found(one, two, other, manifest()) == {SUBJECT: {one.digest, two.digest}, OTHER: {other.digest}}
    assert found(manifest()) == {}
    assert found() == {}


def test_an_index_and_its_children_are_referrers_each_by_its_own_subject() -> None:
    child = manifest(OTHER)
    whole = index(child, subject=SUBJECT)
    assert found(whole, child) == {SUBJECT: {whole.digest}, OTHER: {child.digest}}


def test_a_subject_may_be_absent_and_may_have_a_subject() -> None:
    first = manifest(SUBJECT)
    second = manifest(first.digest)
    assert found(first, second) == {SUBJECT: {first.digest}, first.digest: {second.digest}}


def test_an_index_under_a_referrers_tag_lists_more_referrers() -> None:
    old, new, absent = manifest(artifactType=SIG), manifest(SUBJECT), manifest(OTHER, artifactType="absent")
    listing = index(old, absent)
    assert found(old, new, **{f"sha256_{HEX}": listing}) == {SUBJECT: {old.digest, new.digest}}
    assert found(old, new, latest=listing) == {SUBJECT: {new.digest}}
    assert found(old, **{f"sha256_{HEX}": manifest()}) in ({}, {SUBJECT: set()})  # no index


def test_a_referrer_that_is_listed_twice_counts_once() -> None:
    each = manifest(SUBJECT, artifactType=SIG)
    assert found(each, **{f"sha256_{HEX}": index(each, each)}) == {SUBJECT: {each.digest}}


def test_a_referrers_tag_without_a_manifest_lists_nothing() -> None:
    assert referrers_in({}, {Tag(f"sha256-{HEX}"): SUBJECT}) in ({}, {SUBJECT: {}})


@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        (f"sha256-{HEX}", SUBJECT),
        (f"sha384-{HEX}{HEX[:32]}", f"sha384:{HEX}{HEX[:32]}"),
        *((tag, None) for tag in ("latest", "sha256", "sha256-", f"sha256-{HEX}0", f"sha256-{HEX[1:]}", HEX)),
        *((tag, None) for tag in (f"sha256-{HEX}.sig", f"sha256-{HEX.upper()}", f"SHA256-{HEX}", f"md5-{HEX[:32]}")),
        *((tag, None) for tag in (f"sha256_{HEX}", f"sha256-{HEX[:-2]}-a", f"v-sha256-{HEX}")),
    ],
)
def test_a_referrers_tag_names_its_subject(tag: str, subject: str | None) -> None:
    """distribution-spec, "Referrers Tag Schema"."""
    assert subject_of(Tag(tag)) == subject


def only(referrers: Referrers) -> Referrer:
    [listed] = referrers.values()
    [referrer] = listed.values()
    return referrer


@pytest.mark.parametrize(
    ("each", "fields"),
    [
        (manifest(SUBJECT), {"artifactType": "application/vnd.config"}),
        (manifest(SUBJECT, artifactType=SIG), {"artifactType": SIG}),
        (index(subject=SUBJECT), {}),
        (index(subject=SUBJECT, artifactType=SIG), {"artifactType": SIG}),
        (
            manifest(SUBJECT, artifactType=SIG, annotations={"a": "\u00e9<"}),
            {"artifactType": SIG, "annotations": {"a": "\u00e9<"}},
        ),
        (manifest(SUBJECT, artifactType=SIG, annotations={}), {"artifactType": SIG}),
    ],
)
def test_a_descriptor_has_the_type_and_annotations_of_its_manifest(each: Manifest, fields: dict[str, Any]) -> None:
    referrer = only(referrers_in({each.digest: each}, {}))
    expected = {"mediaType": each.media_type, "digest": each.digest, "size": each.size, **fields}
    assert referrer.as_descriptor() == expected


def test_a_descriptor_from_a_referrers_tag_is_made_from_the_manifest() -> None:
    """The index may lack types and annotations, where an old client wrote it."""
    old = manifest(artifactType=SIG, annotations={"a": "b"})
    listing = index(old)
    known = {each.digest: each for each in (old, listing)}
    [descriptor] = referrers_in(known, {Tag(f"sha256-{HEX}"): listing.digest})[SUBJECT].values()
    assert descriptor == Referrer.of(old)
    assert (descriptor.artifact_type, descriptor.annotations) == (SIG, {"a": "b"})


def test_the_index_is_sorted_by_digest() -> None:
    referrers = [Referrer.of(manifest(SUBJECT, artifactType=f"{SIG}{number}")) for number in range(9)]
    body = referrers_index(referrers)
    assert body == referrers_index(reversed(referrers))
    document = json.loads(body)
    assert document["manifests"] == sorted(document["manifests"], key=lambda each: each["digest"])
    assert document == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": document["manifests"],
    }
    assert len(document["manifests"]) == 9


def test_an_index_without_referrers_is_empty() -> None:
    assert json.loads(referrers_index([]))["manifests"] == []
