"""SITE/.scr-export/seal: how both trees were when an export found nothing to do, and what it reported.

While the stamps are the same, an export would find the same again. To lose the seal costs time only.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, TypedDict

from scr_export.fs.safe import directory_at, read_file
from scr_export.fs.stamps import Stamps
from scr_export.site import paths

SEAL = "seal"
_LIMIT = 2**31
_TOP = (*paths.GENERATED_AT_TOP, *paths.IMAGES_TXT_SIGNATURES)
_NOTES = ("verified", "state.json")


class Facts(TypedDict):
    """What an export reported that had nothing to do: its counts, and its warnings by the names of their fields."""

    counts: list[int]
    warnings: list[dict[str, Any]]


def seal_of(found: list[str], facts: Facts) -> bytes:
    """Return the bytes of a seal of trees with these sums."""
    return json.dumps({"sums": found, **facts}).encode() + b"\n"


def read_seal(site: int) -> tuple[list[str], Facts] | None:
    """Return the sums and the facts of the seal of a site. None: there is none that can be read."""
    try:
        with directory_at(paths.STATE, site) as state:
            seal = json.loads(read_file(SEAL, state, _LIMIT)[0])
        return list(seal["sums"]), Facts(counts=seal["counts"], warnings=seal["warnings"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def stamps_of_site(site: int, stamps: Stamps) -> Iterator[str]:
    """Yield the stamps of everything in a site that an export looks at. OSError: a part cannot be read."""
    yield from stamps.of_files(site, _TOP)
    with contextlib.suppress(FileNotFoundError), directory_at(paths.STATE, site) as state:
        yield from stamps.of_files(state, _NOTES)
    with directory_at(paths.REGISTRY, site) as registry:
        yield from stamps.of_tree(registry, lambda name: not paths.is_pages(name), follow=False)
