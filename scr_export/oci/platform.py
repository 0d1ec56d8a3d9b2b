"""Platforms, `os/architecture[/variant]`: of an index's descriptors, of an image's config (image-spec, config.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scr_export.oci import document
from scr_export.oci.digest import Digest

SIZE_LIMIT = 4 * 1024 * 1024  # of a config; those of images have a few kB

_FIELDS = {field: field for field in ("manifests", "digest", "platform", "os", "architecture", "variant")}
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_UNKNOWN = "unknown"  # of what an index lists beside images, such as attestations


def platform_of_config(raw: bytes) -> str | None:
    """Return the platform that a config states. None: it states none, or the bytes are no config."""
    try:
        return _platform(document.folded(document.read(raw), _FIELDS))
    except ValueError:
        return None


def platforms_of_index(raw: bytes) -> list[tuple[Digest, str | None]]:
    """Return the manifests whose platform an index states, in its order. None: the platform is none that can be named.

    The bytes are those of an index that `Manifest.parse` accepts.
    """
    listed = document.folded(document.read(raw), _FIELDS).get("manifests") or []
    items = (document.folded(item, _FIELDS) for item in listed)
    return [
        (Digest(item["digest"]), _platform(stated))
        for item in items
        if isinstance(stated := item.get("platform"), dict)
    ]


def _platform(stated: Mapping[str, Any]) -> str | None:
    stated = document.folded(stated, _FIELDS)
    parts = [stated.get("os"), stated.get("architecture"), *([stated["variant"]] if stated.get("variant") else [])]
    if not all(isinstance(part, str) and _PART.fullmatch(part) for part in parts) or _UNKNOWN in parts[:2]:
        return None
    return "/".join(map(str, parts))
