"""What an export asks of the system, and nothing else, to tell what that costs. Run as a program, it prints seconds.

look IMAGES SITE    list both, stat each file of IMAGES and read each manifest, read each link of SITE
make SITE COPY      make SITE again: the same directories, hard links, symbolic links and files
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

# A directory below SITE, and what puts each name into it, when it is given a descriptor of the directory.
Making = tuple[str, list[Callable[[int], object]]]


def look(images: str, site: str) -> float:
    """Seconds that it takes to see all that there is."""
    started = time.perf_counter()
    for entry in _entries(images):
        if not entry.is_dir(follow_symlinks=False):
            entry.stat(follow_symlinks=False)
        if entry.name == "manifest.json":
            with open(entry.path, "rb", buffering=0) as file:
                file.read()
    for entry in _entries(site):
        if entry.is_symlink():
            os.readlink(entry.path)
    return time.perf_counter() - started


def make(site: str, copy: str) -> float:
    """Seconds that it takes to make a site, when what is to be made is known."""
    makings = [_making(site, directory) for directory in _directories(site)]
    started = time.perf_counter()
    for directory, names in makings:
        path = os.path.join(copy, directory)
        os.mkdir(path)
        descriptor = os.open(path, os.O_RDONLY)
        for put in names:
            put(descriptor)
        os.close(descriptor)
    return time.perf_counter() - started


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as listing:
        entries = list(listing)
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)


def _directories(site: str) -> list[str]:
    """The outer ones first, "" for the site itself; the exporter's own are left out."""
    inner = (entry.path for entry in _entries(site) if entry.is_dir(follow_symlinks=False))
    paths = [os.path.relpath(path, site) for path in inner]
    return ["", *(path for path in paths if not path.startswith(".scr-export"))]


def _making(site: str, directory: str) -> Making:
    names: list[Callable[[int], object]] = []
    written: dict[int, str] = {}
    for entry in os.scandir(os.path.join(site, directory)):
        if entry.is_symlink():
            names.append(partial(_symlink, os.readlink(entry.path), entry.name))
        elif entry.is_dir():
            continue
        elif directory and "/_pages@" not in directory:  # content: as if it were linked from IMAGES
            names.append(partial(_link, entry.path, entry.name))
        elif other := written.get(entry.inode()):
            names.append(partial(_link, other, entry.name))
        else:
            written[entry.inode()] = entry.name
            with open(entry.path, "rb") as file:
                names.append(partial(_write, file.read(), entry.name))
    return directory, names


def _symlink(target: str, name: str, directory: int) -> None:
    os.symlink(target, name, dir_fd=directory)


def _link(source: str, name: str, directory: int) -> None:
    os.link(source, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)


def _write(data: bytes, name: str, directory: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
    os.write(descriptor, data)
    os.close(descriptor)


if __name__ == "__main__":
    gc.disable()
    print({"look": look, "make": make}[sys.argv[1]](*sys.argv[2:]))
