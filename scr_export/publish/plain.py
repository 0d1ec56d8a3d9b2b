"""Write files below a directory that is no site: each appears whole, and one that is right already is not touched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_TEMPORARY = ".scr-export-tmp"


def write_files(directory: str, files: Mapping[str, bytes]) -> list[str]:
    """Write files by their paths below a directory, which is made. Returns the paths of those that were written."""
    written = []
    for path, data in files.items():
        target = Path(directory, path)
        if not _holds(target, data):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(_TEMPORARY)
            temporary.write_bytes(data)
            temporary.chmod(0o644)
            temporary.replace(target)
            written.append(path)
    return written


def other_files(directory: str, files: Mapping[str, bytes]) -> list[str]:
    """Return the paths of files below a directory that are not among these."""
    return sorted(path for path in _walk(directory) if path not in files)


def _walk(directory: str) -> Iterator[str]:
    for above, _, names in os.walk(directory):
        for name in names:
            yield os.path.relpath(os.path.join(above, name), directory)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
