from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scr_export.images.discover import discover
from scr_export.images.image import Image
from scr_export.images.loader import load as load_image
from scr_export.problems import Problems
from tests.support.builders import Built, plant, write_artifact, write_image, write_index

SHA512 = {"algorithm": "sha512"}


def load(images: Path, prefix: str = "") -> tuple[Image | None, Problems]:
    problems = Problems()
    descriptor = os.open(images, os.O_RDONLY)
    try:
        [image] = [load_image(found, prefix, problems) for found in discover(descriptor, problems, [])]
    finally:
        os.close(descriptor)
    assert all(each.path in ("app/v1", "") or "@" in each.path for each in problems.faults)
    return image, problems


def sound(images: Path) -> Image:
    image, problems = load(images)
    assert image
    assert not problems.faults
    return image


def fault(images: Path) -> list[tuple[str, str]]:
    """Code and text of each fault of the one image, which is bad."""
    image, problems = load(images)
    assert image is None
    assert all(each.remedy for each in problems.faults)
    return [(each.code, each.what) for each in problems.faults]


def blob(images: Path, built: Built, number: int = 1) -> Path:
    """The file of a blob; 0 is the config."""
    document = json.loads(built.raw)
    digest = str([document["config"], *document["layers"]][number]["digest"])
    return images / "app/v1" / digest.partition(":")[2]


def rewrite(images: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = images / "app/v1/manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_image, {}),
        (write_image, {"docker": True}),
        (write_image, {"compression": "zstd"}),
        (write_image, {"compression": "none"}),
        (write_image, {"media_type_field": False}),
        (write_image, {"layers": 0}),
        (write_image, SHA512),
        (write_image, SHA512 | {"prefixed": True}),
        (write_image, {"algorithm": "sha384", "prefixed": True}),
        (write_index, {}),
        (write_index, {"docker": True}),
        (write_index, {"media_type_field": False}),
        (write_index, SHA512 | {"prefixed": True, "platforms": ["amd64", "arm64", "arm/v7"]}),
        (write_artifact, {}),
        (write_artifact, {"empty_config": True}),
    ],
)
def test_every_manifest_and_blob_is_found(images: Path, write: Callable[..., Built], options: dict[str, Any]) -> None:
    built = write(images / "app/v1", **options)
    image = sound(images)
    assert (image.path, image.reference.repository, image.reference.tag) == ("app/v1", "app", "v1")
    assert image.top.name.digest == built.digest
    assert {(each.name.media_type, each.name.digest) for each in image.manifests} == {
        (media_type, digest) for digest, (media_type, _) in built.manifests.items()
    }
    assert {each.digest for each in image.blobs} == built.blobs.keys()
    for content in [*image.blobs, *(each.file for each in image.manifests)]:
        raw = built.blobs.get(content.digest) or built.manifests[content.digest][1]
        assert (images / content.path).read_bytes() == raw
        assert content.is_unchanged((images / content.path).stat())


def test_leftovers_are_ignored(images: Path) -> None:
    built = write_image(images / "app/v1")
    os.mkfifo(images / "app/v1/dir-put-blob1")
    (images / "app/v1/signature-1").symlink_to("/etc/passwd")
    (images / "app/v1" / ("0" * 64)).mkdir()
    (images / "app/v1" / f"{'0' * 64}.manifest.json").write_text("{")
    assert {each.digest for each in sound(images).blobs} == built.blobs.keys()


def test_an_index_of_indexes_is_loaded_whole(images: Path, tmp_path: Path) -> None:
    inner = write_index(images / "app/v1", platforms=["amd64"])
    outer = {"schemaVersion": 2, "manifests": [inner.descriptor, inner.descriptor]}
    (images / "app/v1/manifest.json").rename(images / f"app/v1/{inner.digest[7:]}.manifest.json")
    (images / "app/v1/manifest.json").write_text(json.dumps(outer))
    assert {each.name.digest for each in sound(images).manifests} > inner.manifests.keys()


def test_a_sparse_index_has_what_was_copied(images: Path) -> None:
    built = write_index(images / "app/v1", platforms=["amd64", "arm64", "s390x"], sparse=["arm64", "s390x"])
    image = sound(images)
    assert {each.name.digest for each in image.manifests} == built.manifests.keys()
    assert len(image.top.children) == 3


def test_a_foreign_layer_without_file_is_a_warning(images: Path) -> None:
    built = write_image(images / "app/v1", docker=True, foreign_layer=True)
    image, problems = load(images)
    assert image
    assert {each.digest for each in image.blobs} == built.blobs.keys()
    assert [warning.code for warning in problems.warnings] == ["foreign"]


@pytest.mark.parametrize(("number", "place"), [(0, "config"), (1, r"layers[0]"), (2, r"layers[1]")])
def test_a_missing_blob_is_a_fault(images: Path, number: int, place: str) -> None:
    built = write_image(images / "app/v1")
    blob(images, built, number).unlink()
    [(code, what)] = fault(images)
    assert code == "missing"
    assert what.startswith(f"{place} of {built.digest} is missing: sha256:")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_blob_of_another_size_is_a_fault(images: Path, change: int) -> None:
    path = blob(images, write_image(images / "app/v1"))
    size = path.stat().st_size
    os.truncate(path, size + change)
    assert fault(images) == [("size", f"{path.name} has {size + change} bytes, layers[0] says {size}")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ("blob", "manifest.json", "child")
        for kind in ("link", "dangling", "loop", "fifo", "directory", "device")
        if (name, kind) != ("manifest.json", "directory")  # which is a component of a path
    ],
)
def test_only_regular_files_are_read(images: Path, name: str, kind: str) -> None:
    if name == "child":
        built = write_index(images / "app/v1", platforms=["amd64"])
        path = next((images / "app/v1").glob("*.manifest.json"))
    else:
        built = write_image(images / "app/v1")
        path = blob(images, built) if name == "blob" else images / "app/v1/manifest.json"
    outside = path.rename(images.parent / "outside")
    plant(path, kind, outside)
    [(code, what)] = fault(images)
    assert code in ("blob", "size", "manifest")
    assert what == f"{path.name} is not a regular file"


@pytest.mark.parametrize("how", ["bytes", "size"])
def test_a_child_that_differs_from_its_descriptor_is_a_fault(images: Path, how: str) -> None:
    write_index(images / "app/v1", platforms=["amd64"])
    if how == "bytes":
        path = next((images / "app/v1").glob("*.manifest.json"))
        path.write_bytes(path.read_bytes().replace(b'"schemaVersion"', b' "schemaVersion"'))
    else:
        rewrite(images, lambda document: document["manifests"][0].update(size=1))
    assert [code for code, _ in fault(images)] == ["digest" if how == "bytes" else "size"]


def test_two_descriptors_with_different_sizes_are_a_fault(images: Path) -> None:
    write_image(images / "app/v1")
    rewrite(images, lambda d: d["layers"].append(d["layers"][0] | {"size": 3}))
    assert [code for code, _ in fault(images)] == ["size"]


def test_a_digest_in_the_path_must_be_that_of_the_manifest(images: Path) -> None:
    built = write_image(images / "new")
    (images / "new").rename(images / f"app@{built.digest}")
    assert sound(images).reference.tag is None
    wrong = f"sha256:{'0' * 64}"
    (images / f"app@{built.digest}").rename(images / f"app@{wrong}")
    assert [code for code, _ in fault(images)] == ["digest"]


def test_images_itself_is_no_image(images: Path) -> None:
    write_image(images)
    [(code, what)] = fault(images)
    assert code == "name"
    assert "itself" in what


def test_a_manifest_may_have_four_mebibytes_and_no_more(images: Path) -> None:
    write_image(images / "app/v1")
    path = images / "app/v1/manifest.json"
    raw = path.read_bytes()
    path.write_bytes(raw + b" " * (4 * 2**20 - len(raw)))
    assert sound(images)
    path.write_bytes(raw + b" " * (4 * 2**20 - len(raw) + 1))
    assert fault(images) == [("manifest", "manifest.json is larger than 4194304 bytes")]


def test_all_faults_of_an_image_are_reported_at_once(images: Path) -> None:
    built = write_image(images / "app/v1", layers=3)
    (images / "app/v1").rename(images / "App:v1")
    (images / "app").rmdir()
    for number, path in enumerate(sorted((images / "App:v1").glob("?" * 64))[:3]):
        path.unlink() if number else path.write_bytes(b"")
    problems = Problems()
    descriptor = os.open(images, os.O_RDONLY)
    assert [load_image(found, "", problems) for found in discover(descriptor, problems, [])] == [None]
    os.close(descriptor)
    assert sorted(each.code for each in problems.faults) == ["missing", "missing", "name", "size"]
    assert built.digest in "".join(each.what for each in problems.faults)
