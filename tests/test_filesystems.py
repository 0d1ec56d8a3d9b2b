"""Other file systems: those that share extents, those that share nothing, layers, and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import Built, write_image, write_index
from tests.support.mounts import mounted, needs_root
from tests.support.runner import Report, assert_whole, export, inodes, listing, registry, start, wait

pytestmark = needs_root

MAKE = {
    "btrfs": ["mkfs.btrfs", "-q"],
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "ext4": ["mkfs.ext4", "-q", "-O", "dir_index"],
}
# bytes; btrfs and xfs cannot be made much smaller, and all are sparse
SIZE = {"btrfs": 128 << 20, "xfs": 320 << 20, "ext4": 64 << 20}
MOST_LINKS = 65_000  # of one file on ext4; btrfs and xfs allow more than a test can make


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk with the file system that the test names."""
    image, path = tmp_path / "disk.image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE[request.param])
    subprocess.run([*MAKE[request.param], image], check=True, capture_output=True)
    with mounted("-o", "loop", image, path):
        yield path


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A disk as cameras and USB sticks have it."""
    image, path = tmp_path / "disk.image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    losetup = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True)
    device = losetup.stdout.decode().strip()
    try:
        subprocess.run(["mount.exfat-fuse", device, path], check=True, capture_output=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def assert_nothing_changes(images: Path, site: Path) -> None:
    before = listing(site / "v2")
    report = export(images, site)
    assert not any(report["files"].values())
    assert report["hashed"] == 0
    assert listing(site / "v2") == before


def files(report: Report) -> tuple[int, int, int]:
    return report["files"]["linked"], report["files"]["reflinked"], report["files"]["copied"]


def write_twice(images: Path) -> tuple[Built, int]:
    """Write one index to two repositories. Returns it, and the number of its files."""
    write_index(images / "app/v1")
    built = write_index(images / "team/app/v1")
    return built, len(built.blobs) + len(built.manifests)


@pytest.mark.parametrize("disk", MAKE, indirect=True)
def test_files_are_linked_within_one_file_system(disk: Path) -> None:
    _, count = write_twice(disk / "images")
    assert files(export(disk / "images", disk / "site")) == (2 * count, 0, 0)
    assert_whole(disk / "site")
    assert_nothing_changes(disk / "images", disk / "site")


@pytest.mark.parametrize("disk", ["btrfs"], indirect=True)
def test_files_of_another_subvolume_share_their_extents(disk: Path) -> None:
    for name in ("images", "site"):
        subprocess.run(["btrfs", "subvolume", "create", disk / name], check=True, capture_output=True)
    built, count = write_twice(disk / "images")
    assert files(export(disk / "images", disk / "site")) == (count, count, 0)
    for digest in built.blobs:
        assert len(inodes(disk / "site", digest)) == 1
    assert_whole(disk / "site")
    assert_nothing_changes(disk / "images", disk / "site")


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_a_private_manifest_shares_its_extents(disk: Path) -> None:
    write_image(disk / "images/app/v1")
    (disk / "images/app/v1/manifest.json").chmod(0o600)
    assert files(export(disk / "images", disk / "site")) == (3, 1, 0)
    assert_whole(disk / "site")
    assert_nothing_changes(disk / "images", disk / "site")


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_a_damaged_file_is_not_published_by_sharing_its_extents(disk: Path) -> None:
    built = write_image(disk / "images/app/v1")
    blob = disk / "images/app/v1" / max(built.blobs, key=lambda digest: len(built.blobs[digest]))[7:]
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    blob.chmod(0o600)
    process = wait(start("--verify", "size", disk / "images", disk / "site"))
    assert process.returncode == 1
    assert f"images/app/v1/{blob.name}" in process.stderr
    assert not (disk / "site").exists() or not list((disk / "site").glob("v2/**/manifests/*"))


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_a_file_with_as_many_links_as_it_can_have_is_copied(disk: Path) -> None:
    built = write_image(disk / "images/app/v1", layers=1)
    file = disk / "images/app/v1" / next(iter(built.blobs))[7:]
    (disk / "links").mkdir()
    for number in range(MOST_LINKS - 1):
        os.link(file, disk / "links" / str(number))
    with pytest.raises(OSError, match="Too many links"):
        os.link(file, disk / "links/another")
    assert files(export(disk / "images", disk / "site")) == (len(built.blobs), 0, 1)
    assert_whole(disk / "site")
    assert_nothing_changes(disk / "images", disk / "site")


def test_an_overlay_is_exported_and_exported_to(images: Path, tmp_path: Path) -> None:
    """IMAGES is in the lower layer, and SITE goes to the upper one."""
    _, count = write_twice(images)
    top = tmp_path / "top"
    for name in ("top", "upper", "work"):
        (tmp_path / name).mkdir()
    lower = tmp_path / "lower"
    lower.mkdir()
    images.rename(lower / "images")
    options = f"lowerdir={lower},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'}"
    with mounted("-t", "overlay", "-o", options, "none", top):
        report = export(top / "images", top / "site")
        assert sum(files(report)) == 2 * count
        assert_whole(top / "site")
        assert_nothing_changes(top / "images", top / "site")
        write_image(top / "images/app/v1", seed=9)
        shutil.rmtree(top / "images/team")
        export(top / "images", top / "site", "--grace", "0")
        assert_whole(top / "site")


def test_files_are_copied_to_a_bind_mount_of_the_same_file_system(images: Path, tmp_path: Path) -> None:
    """Its device is the same, yet link(2) refuses to go from one mount to another."""
    _, count = write_twice(images)
    site = tmp_path / "site"
    site.mkdir()
    with mounted("--bind", site, site):
        linked, reflinked, copied = files(export(images, site))
        assert (linked, reflinked + copied) == (count, count)
        assert_whole(site)
        assert_nothing_changes(images, site)
    assert export(images, site)["files"]["linked"] in (0, 2 * count)
    assert_whole(site)


def test_files_are_linked_in_memory_and_copied_from_there(tmp_path: Path, memory: Path) -> None:
    images, site = memory / "images", memory / "site"
    _, count = write_twice(images)
    assert files(export(images, site)) == (2 * count, 0, 0)
    assert_nothing_changes(images, site)
    copy = tmp_path / "site"
    assert files(export(images, copy)) == (count, 0, count)
    assert_nothing_changes(images, copy)
    assert registry(copy) == registry(site)
    assert_whole(copy)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_system_without_links_and_colons_is_refused(images: Path, exfat: Path, is_there: bool) -> None:
    write_image(images / "app/v1")
    site = exfat / "site"
    if is_there:
        site.mkdir()
    process = wait(start(images, site))
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith(f"scr-export: {site}: its file system lacks symbolic links or ':' in names")
    assert process.stderr.count("\n") == 1
    assert list(exfat.rglob("*")) == ([site] if is_there else [])


def test_images_are_copied_from_a_file_system_without_links(site: Path, exfat: Path) -> None:
    built = write_image(exfat / "app/v1")
    assert files(export(exfat, site)) == (0, 0, len(built.blobs) + 1)
    assert_whole(site)
    assert_nothing_changes(exfat, site)
