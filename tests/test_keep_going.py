"""Bad images: they stop an export, or with --keep-going their tags stay as they were served."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.builders import write_image, write_index, write_tags
from tests.support.runner import OF_ANY_RUN, assert_whole, codes, export, listing, registry, tags


def test_one_bad_image_stops_an_export_without_keep_going(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = listing(site, without=OF_ANY_RUN)
    write_image(images / "app/v2", seed=2)
    (images / "app/v3").mkdir()
    (images / "app/v3/manifest.json").write_text("[]")
    export(images, site, status=1)
    after = listing(site, without=OF_ANY_RUN)
    assert {name: entry for name, entry in after.items() if not name.startswith(".scr-export")} == {
        name: entry for name, entry in before.items() if not name.startswith(".scr-export")
    }


def test_a_bad_image_keeps_the_tag_that_was_served(images: Path, site: Path) -> None:
    old = write_index(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    write_image(images / "other/v1", seed=3)
    export(images, site)
    new = write_image(images / "app/v1", seed=4)
    next((images / "app/v1").glob("?" * 64)).unlink()
    write_image(images / "app/v2", seed=5)
    write_image(images / "third/v1", seed=6)
    shutil.rmtree(images / "other")
    bad_and_new = write_image(images / "bad/v1", seed=7)
    (images / "bad/v1/manifest.json").write_text("{")
    for _ in range(2):
        report = export(images, site, "--keep-going", "--grace", "0", status=1)
        assert {(fault["path"], fault["code"]) for fault in report["faults"]} == {
            ("app/v1", "missing"),
            ("bad/v1", "manifest"),
        }
        assert os.readlink(site / "v2/app/manifests/v1") == old.manifest_name
        assert {path.name for path in (site / "v2/app/blobs").iterdir()} > old.blobs.keys()
        assert tags(site, "app") == ["v1", "v2"]
        assert tags(site, "third") == ["v1"]
        assert not (site / "v2/other").exists()
        assert not (site / "v2/bad").exists()
        assert not list(site.glob(f"v2/*/manifests/{new.manifest_name}"))
        assert not list(site.glob(f"v2/*/manifests/{bad_and_new.manifest_name}"))
        assert_whole(site)


@pytest.mark.parametrize("why", ["digest", "half-copied", "tag-clash", "link", "half-copied above", "port"])
def test_each_kind_of_bad_path_keeps_the_tag_that_was_served(images: Path, site: Path, why: str) -> None:
    path = "localhost:5000/app:v1" if why == "port" else "team/app/v1"
    name = "localhost_5000/app" if why == "port" else "team/app"
    built = write_image(images / path)
    write_image(images / "good/v1", seed=2)
    export(images, site)
    match why:
        case "digest":
            file = max((images / path).glob("?" * 64), key=lambda each: each.stat().st_size)
            data = file.read_bytes()
            file.unlink()  # so that the site keeps the old bytes
            file.write_bytes(data[:-1] + b"?")
        case "tag-clash":
            write_image(images / "team/app:v1", seed=3)
        case "link":
            (images / path).rename(images.parent / "elsewhere")
            (images / path).symlink_to(images.parent / "elsewhere")
        case "half-copied above":
            shutil.rmtree(images / path)
            (images / "team/version").touch()
        case _:
            (images / path / "manifest.json").unlink()
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert report["faults"]
    assert os.readlink(site / "v2" / name / "manifests/v1") == built.manifest_name
    assert tags(site, name) == ["v1"]
    assert_whole(site)


@pytest.mark.parametrize("before", ["a/manifests/x/1", "a/x"])
def test_an_image_clashes_with_a_retained_path_without_pruning(images: Path, site: Path, before: str) -> None:
    write_image(images / before)
    export(images, site)
    served = registry(site)
    shutil.rmtree(images / "a")
    write_image(images / ("a/x" if before != "a/x" else "a/manifests/x/1"), seed=3)
    report = export(images, site, "--no-prune", status=1)
    assert [fault["code"] for fault in report["faults"]] == ["path-clash"]
    assert registry(site) == served


def test_an_image_clashes_with_the_retained_tag_of_a_bad_image(images: Path, site: Path) -> None:
    built = write_image(images / "a/x")
    export(images, site)
    (images / "a/x/manifest.json").unlink()
    write_image(images / "a/manifests/x/1", seed=2)
    write_image(images / "b/1", seed=3)
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert codes(report) == {("a/x", "half-copied"), ("a/manifests/x/1", "path-clash")}
    assert os.readlink(site / "v2/a/manifests/x") == built.manifest_name
    assert tags(site, "a") == ["x"]
    assert tags(site, "b") == ["1"]
    assert_whole(site)


def test_only_the_claimant_of_a_clash_is_dropped_and_its_served_tag_stays(images: Path, site: Path) -> None:
    write_tags(images / "a/manifests/x", "1")
    write_tags(images / "a", "v1", seed=5)
    export(images, site)
    (images / "a/manifests/x/1/manifest.json").unlink()  # the repository is retained
    write_image(images / "a:x", seed=9)
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert codes(report) == {("a/manifests/x/1", "half-copied"), ("a:x", "path-clash")}
    assert (tags(site, "a"), tags(site, "a/manifests/x")) == (["v1"], ["1"])
    assert_whole(site)


def test_an_image_dropped_for_a_clash_keeps_what_the_site_served(images: Path, site: Path) -> None:
    old = write_image(images / "app/v1")
    export(images, site)
    write_image(images / "app:v1", seed=2)
    write_image(images / "app/v2", seed=3)
    shutil.rmtree(images / "app/v1")
    write_image(images / "app/v1", seed=4)
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert codes(report) == {("app/v1", "tag-clash"), ("app:v1", "tag-clash")}
    assert os.readlink(site / "v2/app/manifests/v1").endswith(old.digest)
    assert tags(site, "app") == ["v1", "v2"]
    assert_whole(site)
