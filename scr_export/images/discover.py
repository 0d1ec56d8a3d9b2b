"""Finding the image directories below IMAGES."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from scr_export.errors import Findings
from scr_export.images.content import open_directory

# No repository name of 255 characters is deeper, and every level holds a file descriptor.
_DEEPEST = 130

# Every ext4 file system has one at its root, often unreadable; it cannot be the name of a repository.
_NOT_AN_IMAGE = "lost+found"

# What skopeo leaves in a directory whose copy it did not finish: all that it writes but manifest.json.
_HALF_COPIED = re.compile(
    r"version|dir-put-blob.*|(?:sha(?:384|512)-)?[0-9a-f]{64,128}(?:\.manifest\.json)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ImageDirectory:
    """A directory that holds a `manifest.json`; `descriptor` is open until the next one is asked for."""

    path: str
    descriptor: int


def discover(images: int, findings: Findings) -> Iterator[ImageDirectory]:
    """Walk the open directory IMAGES in the order of names; links are never followed. Oddities go to `findings`."""
    yield from _walk(images, "", findings)


def _walk(directory: int, path: str, findings: Findings) -> Iterator[ImageDirectory]:
    try:
        is_image = _has_manifest(directory)
        entries = [] if is_image else _entries(directory)
    except OSError as error:
        findings.fault(path, "unreadable", f"cannot be listed: {error.strerror}", "let this user read it")
        return
    if is_image:
        yield ImageDirectory(path, directory)
        return
    _report_half_copied(path, entries, findings)
    for entry in entries:
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.is_symlink():
            findings.fault(
                below,
                "link",
                "is a symbolic link, and links are not followed",
                "put a real directory here or remove it",
            )
        elif entry.is_dir(follow_symlinks=False) and entry.name != _NOT_AN_IMAGE:
            yield from _descend(directory, entry.name, below, findings)


def _has_manifest(directory: int) -> bool:
    try:
        return not stat.S_ISDIR(os.stat("manifest.json", dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _entries(directory: int) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        return sorted(listing, key=lambda entry: entry.name)


def _descend(directory: int, name: str, path: str, findings: Findings) -> Iterator[ImageDirectory]:
    if path.count("/") > _DEEPEST:
        findings.fault(path, "too-deep", "lies too deep for the name of a repository", "move it up")
        return
    try:
        descriptor = open_directory(name, directory)
    except OSError as error:
        findings.fault(path, "unreadable", f"cannot be opened: {error.strerror}", "let this user read it")
        return
    try:
        yield from _walk(descriptor, path, findings)
    finally:
        os.close(descriptor)


def _report_half_copied(path: str, entries: list[os.DirEntry[str]], findings: Findings) -> None:
    leftovers = [e.name for e in entries if _HALF_COPIED.fullmatch(e.name) and not e.is_dir(follow_symlinks=False)]
    if leftovers:
        findings.fault(
            path,
            "half-copied",
            f"has {leftovers[0]!r:.90} but no manifest.json: an image whose copy was not finished",
            "copy it again, or remove the directory",
        )
