"""Find the image directories below IMAGES."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from scr_export.fs.safe import open_directory
from scr_export.images.skopeo_dir import TOP_MANIFEST, is_part
from scr_export.problems import Problems

# No repository name of 255 characters is deeper, and every level holds a file descriptor.
_DEEPEST = 130

# Every ext4 file system has one at its root, often unreadable; it cannot be the name of a repository.
_NOT_AN_IMAGE = "lost+found"


@dataclass(frozen=True, slots=True)
class ImageDirectory:
    """A directory that holds a top manifest; `descriptor` is open until the next one is asked for."""

    path: str
    descriptor: int


def discover(images: int, problems: Problems, empty: list[str]) -> Iterator[ImageDirectory]:
    """Walk the open directory IMAGES in the order of names. Links are never followed.

    Directories that hold neither an image nor another directory are added to `empty`.
    """
    yield from _walk(images, "", problems, empty)


def _walk(directory: int, path: str, problems: Problems, empty: list[str]) -> Iterator[ImageDirectory]:
    try:
        is_image = _has_manifest(directory)
        entries = [] if is_image else _entries(directory)
    except OSError as error:
        problems.fault(path, "unreadable", f"cannot be listed: {error.strerror}", "let this user read it")
        return
    if is_image:
        yield ImageDirectory(path, directory)
        return
    if not _report_half_copied(path, entries, problems) and path and not any(map(_is_walked, entries)):
        empty.append(path)
    for entry in entries:
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.is_symlink():
            problems.fault(
                below,
                "link",
                "is a symbolic link, and links are not followed",
                "put a real directory here or remove it",
            )
        elif _is_walked(entry):
            yield from _descend(directory, entry.name, below, problems, empty)


def _is_walked(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.name != _NOT_AN_IMAGE


def _has_manifest(directory: int) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(TOP_MANIFEST, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _entries(directory: int) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        return sorted(listing, key=lambda entry: entry.name)


def _descend(directory: int, name: str, path: str, problems: Problems, empty: list[str]) -> Iterator[ImageDirectory]:
    if path.count("/") > _DEEPEST:
        problems.fault(path, "too-deep", "lies too deep for the name of a repository", "move it up")
        return
    try:
        descriptor = open_directory(name, directory)
    except OSError as error:
        problems.fault(path, "unreadable", f"cannot be opened: {error.strerror}", "let this user read it")
        return
    try:
        yield from _walk(descriptor, path, problems, empty)
    finally:
        os.close(descriptor)


def _report_half_copied(path: str, entries: list[os.DirEntry[str]], problems: Problems) -> bool:
    leftovers = [entry.name for entry in entries if is_part(entry.name) and not entry.is_dir(follow_symlinks=False)]
    if leftovers:
        problems.fault(
            path,
            "half-copied",
            f"has {leftovers[0]!r:.90} but no {TOP_MANIFEST}: an image whose copy was not finished",
            "copy it again, or remove the directory",
        )
    return bool(leftovers)
