"""Directories of images as skopeo writes them. Every byte follows from the arguments."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

TAGS = 10  # of each repository
BLOBS = 5  # of each image, its config included; no two in a tree are the same
_LARGE_IMAGES, _LARGE_BLOBS = 5, 8
_BLOCK = 1024 * 1024

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write_images(directory: Path, count: int) -> None:
    """Write `count` images of small blobs, TAGS to a repository."""
    for number in range(count):
        write_image(path_of(directory, number), str(number))


def path_of(directory: Path, number: int) -> Path:
    """Where the image of this number lies."""
    return directory / repository(number) / tag(number)


def repository(number: int) -> str:
    """The repository of the image of this number."""
    return f"app-{number // TAGS:05}"


def tag(number: int) -> str:
    """Its tag."""
    return f"1.{number % TAGS}"


def write_image(directory: Path, label: str) -> None:
    """Write an image of small blobs that the label makes unlike all others; one that lies there is replaced."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    _finish(directory, [_write_blob(directory, [f"{label} {blob}\n".encode() * 20]) for blob in range(BLOBS)])


def write_large(directory: Path, largest: int) -> None:
    """Write a few images with blobs of `largest` bytes down to a 500th of that, 8.5 times `largest` in all."""
    sizes = [int(largest / 500 ** (step / (_LARGE_BLOBS - 1))) for step in range(_LARGE_BLOBS)]
    for number in range(_LARGE_IMAGES):
        write_blobs(directory / "large" / str(number), sizes, seed=number)


def write_blobs(directory: Path, sizes: Iterable[int], seed: int = 0) -> None:
    """Write one image with layers of these sizes in bytes."""
    directory.mkdir(parents=True)
    block = random.Random(seed).randbytes(_BLOCK)
    blobs = [_write_blob(directory, [f"config {seed}".encode()])]
    for size in sizes:
        whole, rest = divmod(size, _BLOCK)
        blobs.append(_write_blob(directory, [*[block] * whole, block[:rest]]))
    _finish(directory, blobs)


def _write_blob(directory: Path, pieces: Iterable[bytes]) -> tuple[str, int]:
    """The digest's digits and the size of a blob that these pieces make."""
    unfinished = directory / "dir-put-blob"
    hasher, size = hashlib.sha256(), 0
    with unfinished.open("wb") as file:
        for piece in pieces:
            hasher.update(piece)
            size += file.write(piece)
    unfinished.rename(directory / hasher.hexdigest())
    return hasher.hexdigest(), size


def _finish(directory: Path, blobs: list[tuple[str, int]]) -> None:
    config, *layers = blobs
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, layer) for layer in layers],
    }
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2))


def _descriptor(media_type: str, blob: tuple[str, int]) -> dict[str, str | int]:
    digits, size = blob
    return {"mediaType": media_type, "digest": f"sha256:{digits}", "size": size}
