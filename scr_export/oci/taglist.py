"""The lists of tags and of repositories (distribution-spec, "Listing Tags"; docker's `_catalog`)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from scr_export.oci.name import RepositoryName, Tag


def tag_list(name: RepositoryName, tags: Iterable[Tag]) -> bytes:
    """The body of `/v2/<name>/tags/list`. The order is ASCII's, as the spec has it ("ASCIIbetical")."""
    return _json({"name": name, "tags": sorted(tags)})


def catalog(names: Iterable[RepositoryName]) -> bytes:
    """The body of `/v2/_catalog`."""
    return _json({"repositories": sorted(names)})


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
