"""Exports to a site that was interrupted, damaged or changed by other programs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.runner import assert_whole, export, fresh, registry, tags


def test_files_of_other_programs_make_no_tag_and_no_repository(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / "v2/app/manifests/-v1").symlink_to(os.readlink(site / "v2/app/manifests/v1"))
    (site / "v2/Upper/manifests").mkdir(parents=True)
    (site / "v2/Upper/manifests/v1").symlink_to("nowhere")
    export(images, site, "--no-prune")
    assert tags(site, "app") == ["v1"]
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app"]}
    export(images, site)
    assert_whole(site)
    assert not (site / "v2/Upper").exists()


def test_a_stray_file_in_a_manifest_directory_is_removed(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    directory = next(site.glob("v2/app/manifests/*@*"))
    (directory / "x@y").write_text("stray")
    (directory / "deeper").mkdir()
    export(images, site)
    assert [path.name for path in directory.iterdir()] == [directory.name]


@pytest.mark.parametrize("way", ["absent", "elsewhere", "a directory", "a file"])
def test_unused_pages_are_written_again(images: Path, site: Path, way: str) -> None:
    """A power cut may have left any of them empty: only the directory that the link points to was synced."""
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    link = site / "v2/app/tags/_pages"
    pages = link.resolve()
    shutil.rmtree(pages)
    pages.mkdir()
    link.unlink()
    if way == "elsewhere":
        link.symlink_to("_pages@0")
    elif way == "a directory":
        link.mkdir()
    elif way == "a file":
        link.touch()
    export(images, site)
    assert link.resolve() == pages
    assert tags(site, "app") == ["v1", "v2"]
    assert_whole(site)


def test_leftovers_of_an_interrupted_export_are_removed(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / ".scr-export/tmp/7").write_text("half")
    (site / ".scr-export/tmp/d/e").mkdir(parents=True)
    (site / "v2/app/blobs" / f"sha256:{'0' * 64}").write_text("never named")
    (site / "v2/half/manifests").mkdir(parents=True)
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    assert list((site / ".scr-export/tmp").iterdir()) == []


def test_a_damaged_state_only_costs_time(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    hashed = export(images, site)["hashed"]
    for data in (b"", b"\xff\xfe", b"[]", b'{"unreferenced": {"x": []}}', b"[" * 100_000, b"null"):
        for name in ("verified", "state.json"):
            (site / ".scr-export" / name).write_bytes(data)
        assert export(images, site)["hashed"] == hashed
        assert_whole(site)
