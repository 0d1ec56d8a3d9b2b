"""What may go from a site: a disk that is not mounted, limits, tags that are named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scr_export.commands.options import RemovalLimit
from tests.support.builders import write_image, write_index
from tests.support.runner import assert_whole, codes, export, listing, run, tags


def write_tags(directory: Path, *tags: str, seed: int = 0) -> None:
    for number, tag in enumerate(tags):
        write_image(directory / tag, seed=seed + number)


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


def test_an_empty_directory_that_nothing_is_served_from_is_none_of_a_fault(images: Path, site: Path) -> None:
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
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tags|100%"):
        RemovalLimit.parse(text)


def test_each_tag_that_changes_is_named(images: Path, site: Path) -> None:
    stays, moves, goes = (
        write_image(images / "team/app" / tag, seed=n) for n, tag in enumerate(("stays", "to", "old"))
    )
    export(images, site)
    shutil.rmtree(images / "team/app/old")
    shutil.rmtree(images / "team/app/to")
    moved = write_index(images / "team/app/to", seed=7)
    new = write_image(images / "team/app/v2", seed=8)
    lines = [
        "- team/app:old",
        f"~ team/app:to {moves.digest} -> {moved.digest}",
        f"+ team/app:v2 {new.digest}",
    ]
    expected = {
        "added": [{"name": "team/app:v2", "digest": new.digest}],
        "moved": [{"name": "team/app:to", "from": moves.digest, "to": moved.digest}],
        "removed": [{"name": "team/app:old", "digest": goes.digest}],
    }
    dry = run(images, site, "--dry-run").stdout.splitlines()
    assert dry[:3] == lines
    assert stays.digest not in "".join(dry)
    assert "dry run" in dry[3]
    assert export(images, site, "--dry-run")["tag_changes"] == expected
    quiet = run(images, site, "--dry-run", "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    verbose = run(images, site, "-v").stdout.splitlines()
    assert verbose[:3] == lines
    assert len(run(images, site).stdout.splitlines()) == 4
    assert export(images, site)["tag_changes"] == {"added": [], "moved": [], "removed": []}


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


def test_without_pruning_tags_and_repositories_are_those_of_the_site(images: Path, site: Path) -> None:
    write_tags(images / "app", "v1", "v2")
    write_tags(images / "old", "v1", seed=9)
    export(images, site)
    shutil.rmtree(images / "old")
    shutil.rmtree(images / "app/v1")
    report = export(images, site, "--no-prune")
    assert (report["repositories"], report["tags"], report["images"]) == (2, 3, 1)
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app", "old"]}
