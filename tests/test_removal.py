"""Which tags an export removes, and which removals are faults."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scr_export.commands.options import RemovalLimit
from tests.support.builders import write_image, write_tags
from tests.support.runner import assert_whole, codes, export, fresh, listing, registry, tags


def without_pages(text: str) -> set[str]:
    """The lines of a tree that are no list's."""
    return {line for line in text.splitlines() if "/_pages" not in line}


def test_tags_that_are_gone_from_images_are_removed_from_the_site(images: Path, site: Path, tmp_path: Path) -> None:
    for path in ("app/v1", "app/v2", "gone/deep/v1", "gone/deep/v2"):
        write_image(images / path, seed=len(path) + int(path[-1]))
    export(images, site)
    shutil.rmtree(images / "gone")
    shutil.rmtree(images / "app/v2")
    report = export(images, site, "--grace", "0")
    assert report["removed"] == {"tags": 3, "manifests": 3, "blobs": 9, "lists": 1, "other": 0}
    assert not (site / "v2/gone").exists()
    assert registry(site) == fresh(images, tmp_path)
    assert_whole(site)


def test_no_prune_retains_everything(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    before = without_pages(registry(site))
    shutil.rmtree(images / "old")
    shutil.rmtree(images / "app")
    write_image(images / "app/v2", seed=3)
    report = export(images, site, "--no-prune", "--grace", "0")
    assert not any(report["removed"].values())
    assert report["unreferenced"]["count"] == 0
    assert before < without_pages(registry(site))
    assert tags(site, "app") == ["v1", "v2"]
    assert tags(site, "old") == ["v1"]
    assert_whole(site)
    export(images, site, "--grace", "0")
    assert tags(site, "app") == ["v2"]
    assert not (site / "v2/old").exists()


def test_an_empty_images_directory_removes_nothing(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = registry(site)
    shutil.rmtree(images / "app")
    report = export(images, site, status=1)
    assert [fault["code"] for fault in report["faults"]] == ["empty"]
    assert registry(site) == before


def test_an_empty_directory_that_tags_are_served_from_is_a_fault(images: Path, site: Path) -> None:
    write_tags(images / "app", "v1")
    write_tags(images / "team/a", "v1", "v2", seed=10)
    write_tags(images / "team/b", "v1", seed=20)
    export(images, site)
    shutil.rmtree(images / "team")
    (images / "team").mkdir()  # the mount point of a disk
    before = listing(site / "v2")
    for options in ([], ["--dry-run"]):
        report = export(images, site, "--grace", "0", *options, status=1)
        assert codes(report) == {("team", "empty")}
        assert "SITE serves 3 tags from it" in report["faults"][0]["what"]
    assert listing(site / "v2") == before
    write_tags(images / "app", "v2", seed=30)
    export(images, site, "--keep-going", "--grace", "0", status=1)
    assert (tags(site, "team/a"), tags(site, "team/b"), tags(site, "app")) == (["v1", "v2"], ["v1"], ["v1", "v2"])
    assert_whole(site)
    (images / "team").rmdir()  # the remedy
    export(images, site, "--grace", "0")
    assert not (site / "v2/team").exists()


@pytest.mark.parametrize("path", ["app/v2", "app:v2", "team/lost+found"])
def test_an_empty_directory_in_any_layout_is_a_fault(images: Path, site: Path, path: str) -> None:
    write_tags(images / "app", "v1")
    write_image(images / "app:v2" if ":" in path else images / "app/v2", seed=2)
    write_image(images / "team/x/v1", seed=3)
    export(images, site)
    directory = images / path.replace("/lost+found", "")
    shutil.rmtree(directory)
    (images / path).mkdir(parents=True)
    assert {code for _, code in codes(export(images, site, status=1))} == {"empty"}


def test_an_empty_directory_that_gives_no_tag_is_no_fault(images: Path, site: Path) -> None:
    write_tags(images / "app", "v1")
    (images / "new/deeper").mkdir(parents=True)
    export(images, site)
    (images / "appendix").mkdir()
    export(images, site)
    export(images, site, "--no-prune")


def test_an_empty_directory_below_a_name_prefix_is_a_fault(images: Path, site: Path) -> None:
    write_tags(images / "app", "v1")
    write_tags(images / "team/a", "v1", seed=2)
    export(images, site, "--name-prefix", "site-1")
    shutil.rmtree(images / "team/a")
    (images / "team/a").mkdir()
    assert codes(export(images, site, "--name-prefix", "site-1", status=1)) == {("team/a", "empty")}


@pytest.mark.parametrize(
    ("limit", "allowed"), [("0", False), ("1", False), ("2", True), ("39%", False), ("40%", True), ("100%", True)]
)
def test_more_removals_than_allowed_are_a_fault(images: Path, site: Path, limit: str, allowed: bool) -> None:
    write_tags(images / "app", "v1", "v2", "v3", "v4", "v5")
    export(images, site)
    for tag in ("v1", "v2"):
        shutil.rmtree(images / "app" / tag)
    write_tags(images / "app", "v3", seed=9)  # a moved tag is no removal
    write_tags(images / "app", "v6", seed=10)
    before = listing(site / "v2")
    options = ["--max-remove", limit, "--grace", "0"]
    report = export(images, site, *options, "--keep-going", status=0 if allowed else 1)
    if allowed:
        assert tags(site, "app") == ["v3", "v4", "v5", "v6"]
    else:
        assert [(each["code"], each["in"]) for each in report["faults"]] == [("max-remove", "SITE")]
        assert "2 tags of 5" in report["faults"][0]["what"]
        assert "app:v1, app:v2" in report["faults"][0]["what"]
        assert listing(site / "v2") == before


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "101%", "%", "5 %", "\u0661"])
def test_a_malformed_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tags|100%"):
        RemovalLimit.parse(text)


def test_a_manifest_of_the_site_that_cannot_be_read_is_a_fault_and_its_repository_stays(
    images: Path, site: Path
) -> None:
    built = write_image(images / "app/v1")
    write_image(images / "other/v1", seed=2)
    export(images, site)
    (images / "app/v1/manifest.json").unlink()  # so the site's tag is retained
    name = os.readlink(site / "v2/app/manifests/v1")
    manifest = site / "v2/app/manifests" / name / name
    manifest.unlink()
    manifest.write_bytes(b"no manifest")
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert codes(report) == {("app/v1", "half-copied"), (str(manifest.relative_to(site)), "unreadable")}
    assert {path.name for path in (site / "v2/app/blobs").iterdir()} == built.blobs.keys()
    assert os.readlink(site / "v2/app/manifests/v1") == name
    manifest.write_bytes(built.raw)
    assert_whole(site)


def test_without_pruning_tags_and_repositories_are_those_of_the_site(images: Path, site: Path) -> None:
    write_tags(images / "app", "v1", "v2")
    write_tags(images / "old", "v1", seed=9)
    export(images, site)
    shutil.rmtree(images / "old")
    shutil.rmtree(images / "app/v1")
    report = export(images, site, "--no-prune")
    assert (report["repositories"], report["tags"], report["images"]) == (2, 3, 1)
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app", "old"]}
