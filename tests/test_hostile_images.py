"""IMAGES that is broken or comes from someone else, and SITE in which someone planted something."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import Built, plant, write_image, write_index
from tests.support.runner import (
    assert_pullable,
    assert_whole,
    codes,
    export,
    registry,
    run,
    start,
    substance,
    tags,
    wait,
)

SCHEMA_1 = {"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [], "history": []}


def blob(directory: Path, built: Built) -> Path:
    """The file of an image's first layer."""
    return directory / str(json.loads(built.raw)["layers"][0]["digest"])[7:]


def breakage(images: Path) -> set[tuple[str, str]]:
    """Make an image for every fault there is; the path and code of each."""
    good = write_image(images / "good/v1")
    (blob(images / "missing/v1", write_image(images / "missing/v1", seed=1))).unlink()
    os.truncate(blob(images / "short/v1", write_image(images / "short/v1", seed=2)), 5)
    wrong = blob(images / "wrong/v1", write_image(images / "wrong/v1", seed=3))
    wrong.write_bytes(b"?" + wrong.read_bytes()[1:])
    for name, text in {
        "broken": '{"schemaVersion": 2,',
        "list": "[]",
        "schema1": json.dumps(SCHEMA_1),
        "type": json.dumps(json.loads(good.raw) | {"mediaType": "application/json"}),
        "either": json.dumps(json.loads(good.raw) | {"manifests": []}),
    }.items():
        write_image(images / f"{name}/v1")
        (images / f"{name}/v1/manifest.json").write_text(text)
    write_image(images / "Upper/v1")
    write_image(images / "tag/-v1")
    write_image(images / "untagged")
    write_image(images / f"digest@sha256:{'0' * 64}")
    write_image(images / "clash/v1")
    write_image(images / "clash:v1", seed=4)
    write_image(images / "nest/x")
    write_image(images / "nest/manifests/x/v1")
    write_image(images / "half/v1")
    (images / "half/v1/manifest.json").unlink()
    (images / "link").symlink_to("good")
    return {
        ("missing/v1", "missing"),
        ("short/v1", "size"),
        ("wrong/v1", "digest"),
        ("broken/v1", "manifest"),
        ("list/v1", "manifest"),
        ("schema1/v1", "manifest"),
        ("type/v1", "manifest"),
        ("either/v1", "manifest"),
        ("Upper/v1", "name"),
        ("tag/-v1", "name"),
        ("untagged", "name"),
        (f"digest@sha256:{'0' * 64}", "digest"),
        ("clash/v1", "tag-clash"),
        ("clash:v1", "tag-clash"),
        ("nest/manifests/x/v1", "path-clash"),
        ("half/v1", "half-copied"),
        ("link", "link"),
    }


def test_all_faults_are_reported_in_one_run_and_nothing_is_written(images: Path, tmp_path: Path) -> None:
    expected = breakage(images)
    before = substance(images)
    report = export(images, tmp_path / "new/site", status=1)
    assert codes(report) == expected
    assert all(fault["what"] and fault["remedy"] for fault in report["faults"])
    process = run(images, tmp_path / "new/site")
    assert process.returncode == 1
    assert process.stdout == ""
    *lines, last = process.stderr.splitlines()
    assert lines == [
        f"error: {images}/{fault['path']}: {fault['what']}; {fault['remedy']}" for fault in report["faults"]
    ]
    assert last == f"scr-export: nothing was published: {len(lines)} faults"
    assert not (tmp_path / "new/site/v2").exists()
    assert substance(images) == before


def test_all_faults_are_reported_and_the_rest_is_published(images: Path, site: Path) -> None:
    expected = breakage(images)
    before = substance(images)
    report = export(images, site, "--keep-going", status=1)
    assert codes(report) == expected
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["good", "nest"]}
    assert_whole(site)
    assert substance(images) == before


def test_a_success_leaves_images_as_it_is(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    (images / "app/v1/manifest.json").chmod(0o600)
    (images / "app/v1").chmod(0o700)
    for path in [images, *images.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18 + 1))
    before = substance(images)
    export(images, site)
    export(images, site)
    assert substance(images) == before


@pytest.mark.parametrize("made", [False, True])
def test_a_failure_leaves_nothing_behind(images: Path, tmp_path: Path, made: bool) -> None:
    parent = tmp_path / "a/b"
    site = parent / "site"
    if made:
        site.mkdir(parents=True)
        site.chmod(0o750)
    write_image(images / "App/v1")
    existing = [path for path in sorted(tmp_path.rglob("*")) if images not in path.parents]
    export(images, site, status=1)
    assert [path for path in sorted(tmp_path.rglob("*")) if images not in path.parents] == existing
    assert not made or site.stat().st_mode & 0o777 == 0o750


def test_a_file_that_cannot_be_read_is_reported(images: Path, site: Path) -> None:
    unreadable = {images / "directory": 0, images / "listed": 0o444, images / "manifest/v1/manifest.json": 0}
    for name in ("directory", "listed", "manifest", "layer", "good"):
        built = write_image(images / f"{name}/v1")
    unreadable[blob(images / "layer/v1", built)] = 0
    for path, mode in unreadable.items():
        path.chmod(mode)
    try:
        process = wait(start("--json", images, site, obedient=True))
    finally:
        for path in unreadable:
            path.chmod(0o700)
    assert process.returncode == 1
    assert codes(json.loads(process.stdout)) == {
        ("directory", "unreadable"),
        ("listed", "unreadable"),
        ("manifest/v1", "unreadable"),
        ("layer/v1", "unreadable"),
    }
    assert not (site / "v2").exists()


@pytest.mark.parametrize("place", ["", "v2", "v2/app/manifests", ".scr-export/tmp"])
def test_a_site_that_cannot_be_written_is_reported_in_one_line(images: Path, site: Path, place: str) -> None:
    write_image(images / "app/v1")
    export(images, site)
    write_image(images / "new/v1", seed=2)
    write_image(images / "app/v1", seed=3)
    (site / "nginx.conf").unlink()
    (site / place).chmod(0o555)
    if place == ".scr-export":
        (site / ".scr-export/lock").unlink()
    try:
        process = wait(start("--grace", "0", images, site, obedient=True))
    finally:
        (site / place).chmod(0o755)
    assert process.returncode == 1
    assert process.stdout == ""
    [line] = process.stderr.splitlines()
    assert "Permission denied" in line
    assert tags(site, "app") == ["v1"]
    assert (site / "v2/app/manifests/v1").is_symlink()
    assert_pullable(site)


def test_harmless_problems_are_warnings(images: Path, site: Path) -> None:
    write_index(images / "sparse/v1", sparse=["arm64"])
    write_image(images / "foreign/v1", docker=True, foreign_layer=True)
    process = run(images, site)
    assert process.returncode == 0
    assert [line.split(": ")[:2] for line in process.stderr.splitlines()] == [
        ["warning", f"{images}/foreign/v1"],
        ["warning", f"{images}/sparse/v1"],
    ]
    assert_whole(site)


def manifest_of(**fields: Any) -> bytes:
    descriptor = {"mediaType": "application/octet-stream", "digest": f"sha256:{'0' * 64}", "size": 1}
    return json.dumps({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]} | fields).encode()


HOSTILE: dict[str, bytes] = {
    "deep-lists": b"[" * 100_000 + b"]" * 100_000,
    "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep-inside": manifest_of()[:-1] + b', "annotations": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "twice": b'{"schemaVersion": 2, "schemaVersion": 1}',
    "huge-number": manifest_of(config={"digest": f"sha256:{'0' * 64}", "size": 2**63}),
    "endless-number": manifest_of()[:-1] + b', "x": ' + b"9" * 1_000_000 + b"}",
    "endless-exponent": manifest_of(config=None)[:-1] + b', "x": 1e999999999}',
    "negative": manifest_of(config={"digest": f"sha256:{'0' * 64}", "size": -1}),
    "fraction": manifest_of(config={"digest": f"sha256:{'0' * 64}", "size": 0.5}),
    "separators": manifest_of(config={"digest": f"sha256:{'../' * 21}a", "size": 1}),
    "absolute": manifest_of(config={"digest": "/etc/passwd", "size": 1}),
    "nul": manifest_of(config={"digest": f"sha256:{'0' * 63}\0", "size": 1}),
    "latin-1": b'{"schemaVersion": 2, "x": "\xe4"}',
    "utf-16": manifest_of().decode().encode("utf-16"),
    "bom": b"\xef\xbb\xbf" + manifest_of(),
    "nan": b'{"schemaVersion": 2, "x": NaN}',
    "either": manifest_of(manifests=[]),
    "schema1": json.dumps(SCHEMA_1).encode(),
    "type-list": manifest_of(mediaType=[]),
    "type-object": manifest_of(mediaType={"a": 1}),
    "type-escape": manifest_of(mediaType="\x1b[2J\x1b]0;owned\x07"),
    "type-path": manifest_of(mediaType="application/../../../../tmp/x"),
    "surrogate": manifest_of(mediaType="\ud800"),
    "version-list": manifest_of(schemaVersion=[2]),
    "empty": b"",
    "nothing": b"null",
    "zeros": b"\0" * 5000,
    "five-mebibytes": manifest_of() + b" " * 5 * 2**20,
    "many": manifest_of(layers=[7] * 1000),
}


def test_hostile_manifests_are_faults(images: Path, site: Path) -> None:
    for name, raw in HOSTILE.items():
        (images / f"{name}/v1").mkdir(parents=True)
        (images / f"{name}/v1/manifest.json").write_bytes(raw)
    # One below the other, as children of an index: these are read too.
    (images / "child/v1").mkdir(parents=True)
    for number, raw in enumerate(HOSTILE.values()):
        (images / f"child/v1/{number:064x}.manifest.json").write_bytes(raw)
    entries = [{"digest": f"sha256:{number:064x}", "size": len(raw)} for number, raw in enumerate(HOSTILE.values())]
    index = {"schemaVersion": 2, "manifests": entries}
    (images / "child/v1/manifest.json").write_text(json.dumps(index))
    write_image(images / "good/v1")
    process = run(images, site)
    assert process.returncode == 1
    assert not (site / "v2").exists()
    for line in process.stderr.splitlines():
        assert line.isprintable()
        assert len(line) < 1000
    assert {line.split(": ")[1] for line in process.stderr.splitlines() if line.startswith("error: ")} == {
        f"{images}/{name}/v1" for name in [*HOSTILE, "child"]
    }


def test_a_manifest_of_a_hundred_megabytes_is_not_read(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    os.truncate(images / "app/v1/manifest.json", 2**40)  # sparse
    assert codes(export(images, site, status=1)) == {("app/v1", "manifest")}


def test_an_index_may_list_40000_manifests(images: Path, site: Path) -> None:
    child = write_image(images / "app/v1")
    (images / "app/v1/manifest.json").rename(images / f"app/v1/{child.digest[7:]}.manifest.json")
    entries = [{"digest": f"sha256:{number:064x}", "size": 1} for number in range(40_000)]
    index = {"schemaVersion": 2, "manifests": [child.descriptor, *entries]}
    (images / "app/v1/manifest.json").write_text(json.dumps(index, separators=(",", ":")))
    assert [(each["path"], each["code"]) for each in export(images, site)["warnings"]] == [("app/v1", "sparse")]


def test_an_index_that_lists_itself_is_a_fault(images: Path, site: Path) -> None:
    # It cannot know its own digest, but a file can have the name that it gives.
    index = {"schemaVersion": 2, "manifests": [{"digest": f"sha256:{'a' * 64}", "size": 7}]}
    (images / "self/v1").mkdir(parents=True)
    (images / "self/v1/manifest.json").write_text(json.dumps(index))
    os.link(images / "self/v1/manifest.json", images / "self/v1" / f"{'a' * 64}.manifest.json")
    assert codes(export(images, site, status=1)) == {("self/v1", "digest")}


NAMES = {
    "newline": b"new\nline",
    "forged": b"x\nerror: forged: line",
    "escape": b"\x1b[2J\x1b]0;owned\x07",
    "carriage": b"a\rb",
    "bytes": b"\xff\xfe",
    "c1": b"\xc2\x9b31m",
    "bidi": b"\xe2\x80\xaetxt.exe",
    "long": b"a" * 255,
    "long-bytes": b"\xff" * 255,
    "quote": b"a'\"`$(touch x)",
    "backslash": b"..\\..",
    "dots": b"...",
    "space": b" ",
    "star": b"*",
    "percent": b"%2e%2e%2f",
    "dash": b"--json",
    "at": b"@",
    "colon": b":",
}


@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_names_are_reported_with_escapes(images: Path, site: Path, as_json: bool) -> None:
    root = os.fsencode(images)
    write_image(images / "good/v1")
    for name in NAMES.values():
        if name != b"a" * 255:  # which is a good repository name
            shutil.copytree(images / "good/v1", os.fsdecode(root + b"/" + name + b"/v1"))
        shutil.copytree(images / "good/v1", os.fsdecode(root + b"/tags/" + name))
        Path(os.fsdecode(root + b"/good/v1/" + name)).touch()  # leftovers
        Path(os.fsdecode(root + b"/half/" + name)).mkdir(parents=True)
        Path(os.fsdecode(root + b"/half/" + name + b"/dir-put-blob1")).touch()
    process = run(images, site, *["--json"] * as_json)
    assert process.returncode == 1
    assert not (site / "v2").exists()
    assert all(line.isprintable() for line in process.stderr.splitlines())
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 * len(NAMES) - 1
    assert not any(line.startswith("error: forged") for line in errors)
    if as_json:
        assert all(line.isprintable() for line in process.stdout.splitlines())
        faults = json.loads(process.stdout)["faults"]
        assert {os.fsencode(fault["path"]) for fault in faults if fault["path"].startswith("half/")} == {
            b"half/" + name for name in NAMES.values()
        }


def test_the_longest_names_work(images: Path, site: Path) -> None:
    write_image(images / ("a" * 255) / ("v" * 128))
    export(images, site)
    assert tags(site, "a" * 255) == ["v" * 128]
    assert_whole(site)


def test_hostile_names_of_images_and_site_are_printed_with_escapes(tmp_path: Path) -> None:
    images = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ima\xff\n\x1bges"))
    site = Path(os.fsdecode(os.fsencode(tmp_path) + b"/si\xff\n\x1bte"))
    write_image(images / "app/v1")
    process = run(images, site)
    assert process.returncode == 0
    assert all(line.isprintable() for line in process.stdout.splitlines())
    assert export(images, site)["site"] == str(site)
    (site / ".scr-export/format").write_text("99\n")
    process = run(images, site)
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "fifo", "directory", "device"])
def test_special_files_in_an_image_are_faults(images: Path, site: Path, tmp_path: Path, kind: str) -> None:
    """No link is followed, no FIFO waited for, no device opened."""
    write_image(images / "good/v1")
    child = write_index(images / "child/v1", platforms=["amd64"], seed=1)
    layer = write_image(images / "layer/v1", seed=2)
    write_image(images / "manifest/v1", seed=3)
    replaced = [
        images / "child/v1" / f"{json.loads(child.raw)['manifests'][0]['digest'][7:]}.manifest.json",
        blob(images / "layer/v1", layer),
        images / "manifest/v1/manifest.json",
        images / "whole",
    ]
    (images / "whole").write_text("")
    for number, path in enumerate(replaced):
        path.rename(tmp_path / f"outside-{number}")
        plant(path, kind, tmp_path / f"outside-{number}")
    report = export(images, site, "--keep-going", status=1)
    faulty = {"child/v1", "layer/v1", "manifest/v1"}
    if kind in ("dangling", "loop"):
        faulty.add("whole")  # a link that may stand for a disk which is not mounted
    assert {path for path, _ in codes(report)} == faulty
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["good"]}


PLANTED = [
    ["v2"],
    ["v2/app"],
    ["v2/app/blobs", "v2/app/manifests", "v2/app/tags", ".scr-export/tmp"],
    ["v2/_catalog", "v2/app/tags/list", "v2/app/manifests/v1", "v2/app/manifests/MANIFEST", "v2/app/blobs/BLOB"],
    ["v2/app/manifests/MANIFEST/MANIFEST", "v2/stray", "v2/app/manifests/stray", "v2/app/blobs/stray"],
    ["nginx.conf", "Caddyfile", ".scr-export/verified", ".scr-export/state.json"],
]


@pytest.mark.parametrize("planted", ["directory", "file", "nothing", "root"])
def test_links_planted_in_the_site_are_replaced(images: Path, site: Path, tmp_path: Path, planted: str) -> None:
    built = write_image(images / "app/v1")
    export(images, site)
    whole = registry(site)
    outside = tmp_path / "outside"
    for name in ("blobs", "manifests", "tags", "app/blobs"):
        (outside / name).mkdir(parents=True)
        (outside / name / "list").write_text("precious")
    (outside / "1").write_text("precious")
    before = substance(outside)
    targets = {"directory": f"{outside}", "file": f"{outside}/1", "nothing": f"{outside}/new", "root": "../../.."}
    name = f"vnd.oci.image.manifest.v1+json@{built.digest}"
    for places in PLANTED:
        for place in places:
            path = site / place.replace("MANIFEST", name).replace("BLOB", next(iter(built.blobs)))
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            path.symlink_to(targets[planted])
        export(images, site, "--grace", "0")
        assert registry(site) == whole, places
        assert not (site / ".scr-export/tmp").is_symlink()
        assert substance(outside) == before, places
    assert_whole(site)


@pytest.mark.parametrize("place", [".scr-export", ".scr-export/lock", ".scr-export/format"])
@pytest.mark.parametrize("how", ["link", "hard link", "fifo"])
def test_a_planted_lock_changes_nothing_outside_the_site(
    images: Path, site: Path, tmp_path: Path, place: str, how: str
) -> None:
    write_image(images / "app/v1")
    export(images, site)
    outside = tmp_path / "outside"
    path = site / place
    if path.is_dir():
        shutil.move(path, outside)
    else:
        path.unlink()
        outside.write_text("precious")
    before = substance(outside) if outside.is_dir() else outside.read_text()
    if how == "fifo":
        os.mkfifo(path)
    elif how == "link" or outside.is_dir():
        path.symlink_to(outside)
    else:
        os.link(outside, path)
    process = run(images, site)
    assert process.returncode in (0, 1)
    assert process.returncode == 0 or len(process.stderr.splitlines()) == 1
    assert (substance(outside) if outside.is_dir() else outside.read_text()) == before


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_special_files_planted_in_the_site_are_replaced(images: Path, site: Path, tmp_path: Path, kind: str) -> None:
    built = write_image(images / "app/v1")
    export(images, site)
    whole = registry(site)
    name = f"vnd.oci.image.manifest.v1+json@{built.digest}"
    places = ["nginx.conf", "v2/_catalog", "v2/app/tags/list", "v2/app/manifests/v1", f"v2/app/manifests/{name}/{name}"]
    for place in [*places, f"v2/app/blobs/{next(iter(built.blobs))}", "v2/app/blobs/stray", "v2/stray"]:
        (site / place).unlink(missing_ok=True)
        plant(site / place, kind, tmp_path / "outside-0")
        if kind == "directory":
            (site / place / "inner").mkdir()
    if kind != "directory":
        for place in ("v2/app/tags", ".scr-export/tmp"):
            shutil.rmtree(site / place)
            plant(site / place, kind, tmp_path / "outside-0")
    export(images, site, "--grace", "0")
    assert registry(site) == whole
    assert_whole(site)
