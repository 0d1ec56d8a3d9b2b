"""The files of an image as skopeo's `dir:` transport writes it. Only names: no file is opened here."""

from __future__ import annotations

import re

from scr_export.oci.digest import Digest

# skopeo writes it last, so an image directory is one that has it.
TOP_MANIFEST = "manifest.json"

# Everything that skopeo writes besides the top manifest: an image whose copy was not finished has nothing else.
_PART = re.compile(r"version|dir-put-blob.*|(?:sha(?:384|512)-)?[0-9a-f]{64,128}(?:\.manifest\.json)?", re.DOTALL)


def blob_names(digest: Digest) -> tuple[str, ...]:
    """Return the names that the file of a blob can have."""
    return _names(digest, "")


def manifest_names(digest: Digest) -> tuple[str, ...]:
    """Return the names that the file of a manifest can have which an index lists."""
    return _names(digest, ".manifest.json")


def _names(digest: Digest, suffix: str) -> tuple[str, ...]:
    # From 1.23 on, skopeo puts the algorithm before all but sha256.
    plain = digest.encoded + suffix
    return (plain,) if digest.algorithm == "sha256" else (f"{digest.algorithm}-{plain}", plain)


def is_part(name: str) -> bool:
    """Tell whether skopeo leaves a file of this name in a directory whose copy it did not finish."""
    return _PART.fullmatch(name) is not None
