from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scr_export.images.discover import discover
from scr_export.problems import Problems
from tests.support.builders import write_image


def found(images: Path) -> tuple[list[str], dict[str, str]]:
    """The paths of image directories in order, and each fault's code by its path."""
    problems = Problems()
    descriptor = os.open(images, os.O_RDONLY)
    try:
        paths = [each.path for each in discover(descriptor, problems, [])]
    finally:
        os.close(descriptor)
    assert not problems.warnings
    assert all(fault.remedy for fault in problems.faults)
    return paths, {fault.path: fault.code for fault in problems.faults}


def image(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "manifest.json").touch()


def test_image_directories_are_found_at_any_depth_in_order_of_names(images: Path) -> None:
    for path in ("b/1", "a/z:1", "a/b/c/d/1", "a/b/1", f"a@sha256:{'0' * 64}"):
        image(images / path)
    assert found(images) == (["a/b/1", "a/b/c/d/1", "a/z:1", f"a@sha256:{'0' * 64}", "b/1"], {})


def test_an_image_in_an_image_is_found_and_the_outer_one_is_a_fault(images: Path) -> None:
    image(images / "a/1")
    image(images / "a/1/b/2")
    (images / "a/1/c").mkdir()
    assert found(images) == (["a/1", "a/1/b/2"], {"a/1": "nested"})


def test_a_directory_in_an_image_without_an_image_is_a_leftover(images: Path) -> None:
    image(images / "a/1")
    (images / "a/1/b/version").mkdir(parents=True)
    (images / "a/1/b/link").symlink_to("/")
    assert found(images) == (["a/1"], {})


def test_an_image_directory_is_listed_only_where_it_may_hold_another(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its links tell, if its parent's links are as many as its directories."""
    if images.stat().st_nlink != 2:
        pytest.skip("this file system does not count directories as links")
    for tag in "123":
        image(images / "a" / tag)
    image(images / "a/3/inner")
    listed: list[int] = []
    scandir = os.scandir

    def counted(directory: int) -> Any:
        listed.append(directory)
        return scandir(directory)

    monkeypatch.setattr(os, "scandir", counted)
    assert found(images)[0] == ["a/1", "a/2", "a/3", "a/3/inner"]
    assert len(listed) == 3  # IMAGES, a, and a/3


def test_images_itself_may_be_an_image(images: Path) -> None:
    (images / "manifest.json").touch()
    (images / "empty").mkdir()
    assert found(images) == ([""], {})


def test_a_manifest_beside_images_is_one_fault(images: Path) -> None:
    (images / "manifest.json").touch()
    image(images / "a/1")
    image(images / "b/1")
    assert found(images) == (["a/1", "b/1"], {"manifest.json": "stray"})


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_manifest_of_any_kind_but_a_directory_marks_an_image(images: Path, kind: str) -> None:
    (images / "a/1").mkdir(parents=True)
    if kind == "link":
        (images / "a/1/manifest.json").symlink_to("/etc/passwd")
    else:
        os.mkfifo(images / "a/1/manifest.json")
    assert found(images) == (["a/1"], {})


def test_a_directory_called_manifest_json_marks_none(images: Path) -> None:
    image(images / "a/manifest.json")
    assert found(images) == (["a/manifest.json"], {})


def test_files_that_do_not_look_like_an_image_are_ignored(images: Path) -> None:
    image(images / "a/1")
    (images / "empty/deeper").mkdir(parents=True)
    (images / "README.md").touch()
    (images / "a/notes.txt").touch()
    (images / "a/0123abc").touch()
    (images / "version").write_text("2026.11\n")
    (images / ("0" * 64)).touch()
    assert found(images) == (["a/1"], {})


@pytest.mark.parametrize(
    "name",
    [
        "lost+found",
        ".snapshot",
        ".snapshots",
        ".zfs",
        ".Trash-1000",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
    ],
)
def test_files_of_operating_systems_are_ignored(images: Path, name: str) -> None:
    image(images / "a/1")
    image(images / name / "a/1")
    image(images / "b" / name / "1")
    assert found(images) == (["a/1"], {})


@pytest.mark.parametrize(
    "leftover",
    [
        "dir-put-blob123456",
        "dir-put-blob\n",
        f"{'0' * 64}.manifest.json",
        f"sha512-{'a' * 128}.manifest.json",
    ],
)
def test_a_half_copied_image_is_a_fault(images: Path, leftover: str) -> None:
    image(images / "a/1")
    (images / "a/2").mkdir()
    (images / "a/2" / leftover).touch()
    assert found(images) == (["a/1"], {"a/2": "half-copied"})


def test_a_blob_of_a_half_copied_image_is_no_archive_of_its_own(images: Path) -> None:
    write_image(images / "a/1")
    (images / "a/1/manifest.json").unlink()
    assert found(images) == ([], {"a/1": "half-copied"})


def test_the_version_of_skopeo_and_two_blobs_are_signs_of_it_too(images: Path) -> None:
    for path in ("a/1", "a/2", "a/3"):
        (images / path).mkdir(parents=True)
    (images / "a/1/version").write_text("Directory Transport Version: 1.1\n")
    (images / "a/2" / ("0" * 64)).touch()
    (images / f"a/2/sha512-{'a' * 128}").touch()
    (images / "a/3/version").write_text("1.1\n")
    (images / "a/3" / ("0" * 64)).touch()
    assert found(images) == ([], {"a/1": "half-copied", "a/2": "half-copied"})


def test_a_half_copied_image_hides_no_image_below_it(images: Path) -> None:
    image(images / "a/b/1")
    (images / "a/dir-put-blob1").touch()
    assert found(images) == (["a/b/1"], {"a": "half-copied"})


def test_leftovers_at_the_top_are_no_fault_of_every_image(images: Path) -> None:
    image(images / "a/1")
    (images / "version").write_text("Directory Transport Version: 1.1\n")
    assert found(images) == (["a/1"], {"version": "half-copied"})


@pytest.mark.parametrize("target", ["real", "..", "/", "a-file", "nowhere", "loop"])
def test_links_that_may_hide_images_are_faults_and_none_is_followed(images: Path, target: str) -> None:
    image(images / "real/1")
    (images / "a-file").touch()
    (images / "loop").symlink_to(target)
    assert found(images) == (["real/1"], {} if target == "a-file" else {"loop": "link"})


@pytest.mark.parametrize("target", ["user@host.123:456", ".#lock"])
def test_the_lock_of_an_editor_is_ignored(images: Path, target: str) -> None:
    image(images / "real/1")
    (images / ".#lock").symlink_to(target)
    assert found(images) == (["real/1"], {})


def test_a_path_that_is_too_deep_for_a_name_is_a_fault(images: Path) -> None:
    image(images / "/".join("a" * 128) / "1")
    depth = 600  # further than a recursion or a process's files would go
    inner = images / "b"
    inner.mkdir()
    descriptor = os.open(inner, os.O_RDONLY)
    for _ in range(depth):  # the whole path is longer than the system takes at once
        os.mkdir("b" * 9, dir_fd=descriptor)
        below = os.open("b" * 9, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    paths, faults = found(images)
    assert paths == ["/".join("a" * 128) + "/1"]
    assert list(faults.values()) == ["too-deep"]


def test_a_real_image_has_no_fault(images: Path) -> None:
    write_image(images / "a/1")
    assert found(images) == (["a/1"], {})
