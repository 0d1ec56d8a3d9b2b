from __future__ import annotations

import os
from pathlib import Path

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


def test_any_depth_in_the_order_of_names(images: Path) -> None:
    for path in ("b/1", "a/z:1", "a/b/c/d/1", "a/b/1", f"a@sha256:{'0' * 64}"):
        image(images / path)
    assert found(images) == (["a/b/1", "a/b/c/d/1", "a/z:1", f"a@sha256:{'0' * 64}", "b/1"], {})


def test_an_image_directory_is_not_descended_into(images: Path) -> None:
    image(images / "a/1")
    image(images / "a/1/b/2")
    assert found(images) == (["a/1"], {})


def test_images_itself_may_be_an_image(images: Path) -> None:
    (images / "manifest.json").touch()
    assert found(images) == ([""], {})


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


def test_what_is_no_image_and_looks_like_none_is_passed_over(images: Path) -> None:
    image(images / "a/1")
    (images / "empty/deeper").mkdir(parents=True)
    (images / "README.md").touch()
    (images / "a/notes.txt").touch()
    (images / "a/0123abc").touch()
    (images / "lost+found/x").mkdir(parents=True)
    (images / "lost+found/x/version").touch()
    assert found(images) == (["a/1"], {})


@pytest.mark.parametrize(
    "leftover",
    [
        "version",
        "dir-put-blob123456",
        "dir-put-blob\n",
        "0" * 64,
        "a" * 128,
        f"sha512-{'a' * 128}",
        f"sha384-{'a' * 96}",
        f"{'0' * 64}.manifest.json",
        f"sha512-{'a' * 128}.manifest.json",
    ],
)
def test_a_half_copied_image_is_a_fault(images: Path, leftover: str) -> None:
    image(images / "a/1")
    (images / "a/2").mkdir()
    (images / "a/2" / leftover).touch()
    assert found(images) == (["a/1"], {"a/2": "half-copied"})


def test_a_half_copied_image_hides_no_image_below_it(images: Path) -> None:
    image(images / "a/b/1")
    (images / "a/version").touch()
    assert found(images) == (["a/b/1"], {"a": "half-copied"})


@pytest.mark.parametrize("target", ["real", "..", "a-file", "nowhere", "loop", "/"])
def test_links_are_faults_and_not_followed(images: Path, target: str) -> None:
    image(images / "real/1")
    (images / "a-file").touch()
    (images / "loop").symlink_to(target)
    assert found(images) == (["real/1"], {"loop": "link"})


def test_what_lies_too_deep_for_a_name_is_a_fault(images: Path) -> None:
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
