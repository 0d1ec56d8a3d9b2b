"""How content comes from IMAGES to SITE: hard links where possible, else copies."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.support.builders import blob_of, write_image, write_index
from tests.support.runner import assert_whole, export, inodes, listing, registry, substance


def test_content_is_hard_linked(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1")
    report = export(images, site)
    for digest in built.blobs:
        assert (site / f"v2/app/blobs/{digest}").lstat().st_ino == (images / "app/v1" / digest[7:]).lstat().st_ino
    for digest, (media_type, raw) in built.manifests.items():
        name = f"{media_type.removeprefix('application/')}@{digest}"
        path = site / "v2/app/manifests" / name / name
        source = "manifest.json" if digest == built.digest else f"{digest[7:]}.manifest.json"
        assert path.samefile(images / "app/v1" / source)
        assert path.read_bytes() == raw
    count = len(built.blobs) + len(built.manifests)
    size = sum(map(len, built.blobs.values())) + sum(len(raw) for _, raw in built.manifests.values())
    assert report["files"] == {"linked": count, "reflinked": 0, "copied": 0}
    assert report["bytes"] == {"linked": size, "reflinked": 0, "copied": 0}


def test_equal_blobs_of_all_repositories_are_one_file(images: Path, site: Path) -> None:
    for path in ("a/1", "b/1"):  # two copies of one image
        built = write_image(images / path)
    shutil.copytree(images / "a", images / "c/c", copy_function=os.link)
    other = write_image(images / "d/1", seed=9, share_layers_of=0)
    assert set(built.blobs) & set(other.blobs)
    report = export(images, site)
    for digest in built.blobs:
        assert len(inodes(site / "v2", digest)) == 1
        assert inodes(site / "v2", digest) < {path.lstat().st_ino for path in images.rglob(digest[7:])}
    assert len(inodes(site / "v2", built.manifest_name)) == 1
    distinct = built.blobs | other.blobs
    assert report["hashed"] == sum(map(len, distinct.values()))


def test_links_follow_when_equal_copies_replace_the_images(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1")
    export(images, site)
    before = registry(site)
    copy = images.with_name("copy")
    shutil.copytree(images, copy)
    shutil.rmtree(images)
    copy.rename(images)
    report = export(images, site)
    assert registry(site) == before
    assert report["changed"]["blobs"] == len(built.blobs)
    assert report["changed"]["manifests"] == len(built.manifests)
    for path in [*(site / "v2").glob("*/blobs/*"), *(site / "v2").glob("*/manifests/*@*/*")]:
        assert path.lstat().st_nlink == 2
    assert {path.lstat().st_ino for path in images.rglob("*") if path.is_file() and path.name != "version"} == {
        path.lstat().st_ino for path in (site / "v2/app").rglob("*") if path.is_file() and "/tags/" not in str(path)
    }


def test_a_manifest_that_others_cannot_read_is_copied(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    source = images / "app/v1/manifest.json"
    source.chmod(0o600)
    report = export(images, site)
    copy = site / "v2/app/manifests" / built.manifest_name / built.manifest_name
    assert stat.S_IMODE(copy.lstat().st_mode) == 0o644
    assert stat.S_IMODE(source.lstat().st_mode) == 0o600
    assert copy.read_bytes() == built.raw
    assert (report["files"]["linked"], report["files"]["copied"] + report["files"]["reflinked"]) == (3, 1)
    before = listing(site / "v2")
    again = export(images, site)
    assert not any([*again["added"].values(), *again["changed"].values()])
    assert listing(site / "v2") == before
    source.chmod(0o644)
    export(images, site)
    assert copy.samefile(source)  # now it can be a link, and no byte is stored twice


def test_a_copy_replaces_a_file_that_others_can_no_longer_read(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    source = blob_of(images, "app/v1")
    source.chmod(0o600)
    report = export(images, site)
    assert report["files"]["copied"] + report["files"]["reflinked"] == 1
    assert report["why_copied"] == {"not readable by all in IMAGES": 1}
    copy = site / "v2/app/blobs" / f"sha256:{source.name}"
    assert (stat.S_IMODE(copy.stat().st_mode), stat.S_IMODE(source.stat().st_mode)) == (0o644, 0o600)
    assert not any(export(images, site)["files"].values())


def test_content_is_copied_to_another_file_system(images: Path, memory: Path) -> None:
    built = write_index(images / "app/v1")
    write_index(images / "team/app/v1")
    before = substance(images)
    site = memory / "site"
    report = export(images, site)
    count = len(built.blobs) + len(built.manifests)
    assert report["files"] == {"linked": count, "reflinked": 0, "copied": count}  # the second name is a link
    for path in site.glob("v2/**/blobs/*"):
        assert path.lstat().st_nlink == 2
        assert path.read_bytes() == built.blobs[path.name]
        assert stat.S_IMODE(path.lstat().st_mode) == 0o644
    assert_whole(site)
    assert substance(images) == before
    listed = listing(site / "v2")
    again = export(images, site)
    assert not any([*again["added"].values(), *again["changed"].values()])
    assert again["hashed"] == 0
    assert listing(site / "v2") == listed
    write_index(images / "third/v1")
    assert export(images, site)["files"] == {"linked": count, "reflinked": 0, "copied": 0}


@pytest.mark.parametrize("options", [[], ["--verify", "size"]])
def test_a_further_copy_of_an_image_changes_no_link(images: Path, site: Path, options: list[str]) -> None:
    built = write_image(images / "b/v1")
    export(images, site, *options)
    before = {digest: inodes(site / "v2", digest) for digest in built.blobs}
    write_image(images / "a/v1")
    report = export(images, site, *options)
    assert not any(report["changed"][noun] for noun in ("blobs", "manifests"))
    assert report["hashed"] == 0
    assert {digest: inodes(site / "v2", digest) for digest in built.blobs} == before


def test_an_export_changes_no_access_time_in_images(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    places = [images, *images.rglob("*")]
    for path in places:
        os.utime(path, ns=(1_000_000_000, path.stat().st_mtime_ns))  # old enough for `relatime` to renew it
    export(images, site)
    assert {path.stat().st_atime_ns for path in places} == {1_000_000_000}
