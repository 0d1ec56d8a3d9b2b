"""The files of an image as skopeo's `dir:` transport writes it. Only names: no file is opened here."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from scr_export.oci.digest import Digest

# skopeo writes it last, so an image directory is one that has it.
TOP_MANIFEST = "manifest.json"

_BLOB = re.compile(r"(?:sha(?:384|512)-)?[0-9a-f]{64,128}")
_OTHER = re.compile(rf"dir-put-blob.*|{_BLOB.pattern}\.manifest\.json", re.DOTALL)

# The file `version` begins with it.
VERSION, VERSION_TEXT = "version", b"Directory Transport Version:"

# `signature-N` of the top manifest, `<hex>.signature-N` of one that it lists.
_SIGNATURE = re.compile(rf"(?:({_BLOB.pattern})\.)?signature-([1-9][0-9]{{0,5}})")


def blob_names(digest: Digest) -> tuple[str, ...]:
    """Return the names that the file of a blob can have."""
    return _names(digest, "")


def manifest_names(digest: Digest) -> tuple[str, ...]:
    """Return the names that the file of a manifest can have which an index lists."""
    return _names(digest, ".manifest.json")


def _names(digest: Digest, suffix: str) -> tuple[str, ...]:
    # From 1.23 on, skopeo puts the algorithm before all but sha256.
    algorithm, _, encoded = digest.partition(":")
    plain = encoded + suffix
    return (plain,) if algorithm == "sha256" else (f"{algorithm}-{plain}", plain)


def parts_in(names: Collection[str], has_version: bool) -> list[str]:
    """Return the files that skopeo left in a directory whose copy it did not finish.

    `has_version` says that the file `version` is skopeo's. One blob alone may be anybody's file.
    """
    others = [name for name in names if _OTHER.fullmatch(name)] + [VERSION] * has_version
    blobs = [name for name in names if _BLOB.fullmatch(name)]
    return sorted(others + blobs) if others or len(blobs) > 1 else []


def is_part(name: str) -> bool:
    """Tell whether skopeo gives this name to a blob, to a manifest or to what is to become one."""
    return bool(_BLOB.fullmatch(name) or _OTHER.fullmatch(name))


class SignatureName(NamedTuple):
    """The name of a signature's file: of the manifest with this start of its names, '' for the top manifest."""

    start: str
    number: int

    @classmethod
    def parse(cls, name: str) -> SignatureName | None:
        """Return the parts of a name. None: it is no signature's."""
        match = _SIGNATURE.fullmatch(name)
        return cls(match[1] or "", int(match[2])) if match else None
