"""SITE/.scr-export/seal: how both trees were when an export found nothing to do, and what it reported.

While the stamps are the same, an export would find the same again. To lose the seal costs time only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, TypedDict

from scr_export.fs.safe import directory_at, read_file
from scr_export.fs.stamps import Stamps, sums
from scr_export.site import paths

SEAL = "seal"
_LIMIT = 2**31
_TOP = (*paths.GENERATED_AT_TOP, *paths.IMAGES_TXT_SIGNATURES)
_NOTES = ("verified", "state.json")


class Facts(TypedDict):
    """What an export reported that had nothing to do: its counts, and its warnings by the names of their fields."""

    counts: list[int]
    warnings: list[dict[str, Any]]


def seal_of(texts: Iterable[str], facts: Facts) -> bytes:
    """Return the bytes of a seal."""
    return json.dumps({"sums": list(sums(texts)), **facts}).encode() + b"\n"


def sealed_facts(site: int, texts: Iterable[str]) -> Facts | None:
    """Return the facts of the seal of a site if these texts are the sealed ones, else None.

    OSError: not all texts can be made. They are made only up to the first difference.
    """
    try:
        with directory_at(paths.STATE, site) as state:
            seal = json.loads(read_file(SEAL, state, _LIMIT)[0])
        noted, facts = iter(seal["sums"]), Facts(counts=seal["counts"], warnings=seal["warnings"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return facts if all(one == other for one, other in zip_longest(sums(texts), noted)) else None


def stamps_of_site(site: int, stamps: Stamps) -> Iterator[str]:
    """Yield the stamps of everything in a site that an export looks at. OSError: a part cannot be read."""
    yield from stamps.of_files(site, _TOP)
    with contextlib.suppress(FileNotFoundError), directory_at(paths.STATE, site) as state:
        yield from stamps.of_files(state, _NOTES)
    with directory_at(paths.REGISTRY, site) as registry:
        yield from stamps.of_tree(registry, lambda name: not paths.is_pages(name), follow=False)


def sealed_at(site_state: int) -> int:
    """Return when the seal in an open SITE/.scr-export was written, in nanoseconds since 1970; 0: there is none."""
    try:
        return os.stat(SEAL, dir_fd=site_state, follow_symlinks=False).st_mtime_ns
    except OSError:
        return 0
