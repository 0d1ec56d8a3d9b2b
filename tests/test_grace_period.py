"""Content that nothing refers to stays for the grace period."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from tests.support.builders import blob_of, write_image
from tests.support.runner import assert_whole, export, fresh, registry


def let_time_pass(site: Path, seconds: float) -> None:
    """Move the noted times, since when content is unreferenced, into the past."""
    path = site / ".scr-export/state.json"
    state = json.loads(path.read_bytes())
    state["unreferenced"] = {name: since - seconds for name, since in state["unreferenced"].items()}
    path.write_text(json.dumps(state))


def test_tags_are_removed_at_once_and_content_after_the_grace_period(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    old = write_image(images / "old/v1", seed=2)
    export(images, site)
    shutil.rmtree(images / "old")
    began = time.time()
    report = export(images, site)
    assert report["unreferenced"]["count"] == 1 + len(old.blobs)
    assert began + 900 <= report["unreferenced"]["until"] <= time.time() + 900
    left = {path.name for path in (site / "v2/old").rglob("*")}
    assert left == {"blobs", "manifests", old.manifest_name, *old.blobs}
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app"]}
    again = export(images, site)
    assert again["unreferenced"] == report["unreferenced"]  # the grace period does not begin again
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)


def test_the_first_export_after_the_grace_period_removes_content(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    old = write_image(images / "old/v1", seed=2)
    export(images, site)
    shutil.rmtree(images / "old")
    assert export(images, site)["unreferenced"]["count"] == 1 + len(old.blobs)
    for seconds, left in [(80, 1 + len(old.blobs)), (20, 0)]:
        let_time_pass(site, seconds)
        assert export(images, site, "--grace", "99.5")["unreferenced"]["count"] == left
    assert registry(site) == fresh(images, tmp_path)


def test_content_that_is_referenced_again_stays(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    (images / "old").rename(tmp_path / "old")
    export(images, site)
    (tmp_path / "old").rename(images / "old")
    report = export(images, site, "--grace", "0")
    assert report["unreferenced"]["count"] == 0
    assert not any(report["removed"].values())
    assert_whole(site)


def test_an_unreferenced_blob_stays_when_only_its_time_changes(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    blob = site / "v2/app/blobs" / f"sha256:{blob_of(images, 'app/v1').name}"
    shutil.rmtree(images / "app/v1")
    export(images, site)
    os.utime(blob)
    assert export(images, site)["warnings"] == []
    assert blob.exists()
