"""Disks that are full or cannot be written, files that cannot be read: one line, and the old site stays."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.builders import write_image
from tests.support.forked import Ended
from tests.support.mounts import mount, mounted, needs_root
from tests.support.runner import Report, assert_whole, inodes, listing, registry, substance, tags

pytestmark = [needs_root, pytest.mark.usefixtures("warm_exporter")]

NOBODY = 65534
PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, 64 pages and 200 inodes large."""
    path = tmp_path / "disk"
    path.mkdir()
    with mounted("-t", "tmpfs", "-o", f"size={64 * PAGE},nr_inodes=200,mode=755", "none", path):
        yield path


def run(images: Path, site: Path, *options: str, user: int | None = None) -> Ended:
    return forked.run(*options, str(images), str(site), user=user)


def export(images: Path, site: Path, *options: str, status: int = 0, user: int | None = None) -> Report:
    ended = run(images, site, "--json", *options, user=user)
    assert ended.status == status, ended.stderr
    document: Report = json.loads(ended.stdout)
    return document


def resize(disk: Path, *, pages: int = 64, inodes: int = 200) -> None:
    mount("-o", f"remount,size={pages * PAGE},nr_inodes={inodes}", disk)


def used_pages(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize // PAGE


def used_inodes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_files - status.f_ffree


def assert_refused(ended: Ended, *words: str) -> None:
    """It ended with 1 and said why in one line."""
    assert (ended.status, ended.stdout) == (1, ""), ended.stderr
    assert ended.stderr.startswith("scr-export: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def fill(images: Path) -> None:
    """Two images that need 16 pages or so."""
    write_image(images / "app/v1", layers=2, layer_size=2 * PAGE)
    write_image(images / "app/v2", seed=2, layers=1, layer_size=PAGE)


@pytest.mark.parametrize("pages", [1, 2, 4, 6, 8, 10, 12, 16])
def test_a_first_export_to_a_full_disk_fails_in_one_line(images: Path, disk: Path, pages: int) -> None:
    fill(images)
    before = substance(images)
    site = disk / "site"
    resize(disk, pages=pages)
    assert_refused(run(images, site), str(site), "No space left on device")
    assert substance(images) == before
    assert not list(site.glob(".scr-export/tmp/*"))
    if (site / "v2/_catalog").exists():
        assert_whole(site)
    resize(disk)
    export(images, site)
    assert tags(site, "app") == ["v1", "v2"]
    assert_whole(site)


@pytest.mark.parametrize("pages", range(8))
def test_a_further_export_to_a_full_disk_leaves_the_old_site(
    images: Path, disk: Path, tmp_path: Path, pages: int
) -> None:
    fill(images)
    site = disk / "site"
    export(images, site)
    old = os.readlink(site / "v2/app/manifests/v1"), os.readlink(site / "v2/app/manifests/v2")
    write_image(images / "app/v1", seed=3, layers=1, layer_size=PAGE)
    shutil.rmtree(images / "app/v2")
    write_image(images / "app/v3", seed=4, layers=1, layer_size=2 * PAGE)
    resize(disk, pages=used_pages(disk) + pages)
    assert_refused(run(images, site, "--grace", "0"), str(site), "No space left on device")
    assert (os.readlink(site / "v2/app/manifests/v1"), os.readlink(site / "v2/app/manifests/v2")) == old
    assert_whole(site)
    assert not list(site.glob(".scr-export/tmp/*"))
    resize(disk)
    export(images, site, "--grace", "0")
    export(images, tmp_path / "fresh")
    assert registry(site) == registry(tmp_path / "fresh")
    assert_whole(site)


@pytest.mark.parametrize("more", [0, 1, 3, 6, 9])
def test_an_export_to_a_disk_without_inodes_fails_in_one_line(images: Path, disk: Path, more: int) -> None:
    fill(images)
    site = disk / "site"
    resize(disk, inodes=used_inodes(disk) + more)
    assert_refused(run(images, site), "No space left on device")
    resize(disk)
    export(images, site)
    assert_whole(site)


def test_nothing_is_left_on_a_disk_that_was_too_small_to_begin(images: Path, disk: Path) -> None:
    fill(images)
    resize(disk, pages=1)
    (disk / "ballast").write_bytes(b"x" * PAGE)
    assert_refused(run(images, disk / "site"), "No space left on device")
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_an_export_to_a_read_only_site_fails_in_one_line(images: Path, disk: Path) -> None:
    fill(images)
    site = disk / "site"
    export(images, site)
    write_image(images / "app/v1", seed=3)
    before = listing(site)
    mount("-o", "remount,ro", disk)
    assert_refused(run(images, site), str(site), "Read-only file system")
    assert_refused(run(images, disk / "new"), str(disk / "new"), "Read-only file system")
    assert listing(site) == before
    export(images, site, "--dry-run")
    mount("-o", "remount,rw", disk)
    export(images, site)
    assert_whole(site)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user can enter, with images of root and a site of the user `nobody`."""
    with tempfile.TemporaryDirectory() as path:
        shared = Path(path)
        for directory in (shared, shared / "images", shared / "site"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        os.chown(shared / "site", NOBODY, NOBODY)
        yield shared


def run_as_nobody(shared: Path, *options: str) -> Ended:
    return run(shared / "images", shared / "site", *options, user=NOBODY)


def export_as_nobody(shared: Path, *options: str, status: int = 0) -> Report:
    return export(shared / "images", shared / "site", *options, status=status, user=NOBODY)


def test_files_that_the_user_may_not_link_are_copied(shared: Path) -> None:
    if Path("/proc/sys/fs/protected_hardlinks").read_text() == "0\n":
        pytest.fail("this machine lets anyone link any file (fs.protected_hardlinks is 0)")
    built = write_image(shared / "images/app/v1")
    write_image(shared / "images/team/app/v1")
    before = substance(shared / "images")
    site = shared / "site"
    report = export_as_nobody(shared)
    count = len(built.blobs) + 1
    assert report["files"]["copied"] + report["files"]["reflinked"] == report["files"]["linked"] == count
    for digest in built.blobs:
        assert len(inodes(site / "v2", digest)) == 1
    assert_whole(site)
    assert substance(shared / "images") == before
    listed = listing(site / "v2")
    again = export_as_nobody(shared)
    assert not any(again["files"].values())
    assert again["hashed"] == 0
    assert listing(site / "v2") == listed
    assert forked.run("verify", str(site), user=NOBODY).status == 0


@pytest.mark.parametrize("what", ["blob", "manifest", "image", "above"])
def test_a_file_that_cannot_be_read_is_named(shared: Path, what: str) -> None:
    built = write_image(shared / "images/team/app/v1")
    write_image(shared / "images/other/v1", seed=2)
    export_as_nobody(shared)
    old = registry(shared / "site")
    write_image(shared / "images/other/v2", seed=3)
    names = {"blob": next(iter(built.blobs))[7:], "manifest": "manifest.json", "image": ".", "above": "../.."}
    path = shared / "images/team/app/v1" / names[what]
    path.chmod(0)
    ended = run_as_nobody(shared)
    assert (ended.status, ended.stdout) == (1, "")
    assert f"error: {shared}/images/team" in ended.stderr
    assert "Permission denied" in ended.stderr
    assert "nothing was published: 1 fault" in ended.stderr
    assert ended.stderr.count("\n") == 2, ended.stderr
    assert registry(shared / "site") == old
    export_as_nobody(shared, "--keep-going", "--grace", "0", status=1)  # what was served stays
    assert tags(shared / "site", "team/app") == ["v1"]
    assert tags(shared / "site", "other") == ["v1", "v2"]
    assert_whole(shared / "site")
    path.chmod(0o755 if path.is_dir() else 0o644)
    export_as_nobody(shared)
    assert_whole(shared / "site")


def test_an_images_directory_that_cannot_be_read_is_refused(shared: Path) -> None:
    (shared / "images").chmod(0o700)
    ended = run_as_nobody(shared)
    assert (ended.status, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "Permission denied" in ended.stderr


@pytest.mark.parametrize("name", [".", ".scr-export", "v2", "v2/app/manifests"])
def test_a_site_of_another_user_is_refused_in_one_line(shared: Path, name: str) -> None:
    write_image(shared / "images/app/v1")
    site = shared / "site"
    if name != ".":
        export_as_nobody(shared)
        write_image(shared / "images/app/v1", seed=2)
        write_image(shared / "images/other/v1", seed=3)
    os.chown(site / name, 0, 0)
    if name == ".scr-export":
        os.chown(site / name / "lock", 0, 0)
    before = registry(site)
    ended = run_as_nobody(shared)
    assert (ended.status, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended.stderr
    assert str(site) in ended.stderr
    assert "Permission denied" in ended.stderr
    if name != "v2/app/manifests":
        assert {line for line in registry(site).splitlines() if "/blobs" not in line} == {
            line for line in before.splitlines() if "/blobs" not in line
        }
    if name != ".":
        assert_whole(site)
