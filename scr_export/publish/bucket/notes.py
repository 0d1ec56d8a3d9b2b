"""What one push notes in the bucket for the next.

.scr-export/format          marks a bucket of this program, and the version of its keys
.scr-export/unreferenced    since when content is unreferenced, by key, in seconds since 1970
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from scr_export.errors import BucketError
from scr_export.publish.bucket import keys
from scr_export.publish.bucket.store import Store

_FORMAT = b"1\n"
_JSON, _TEXT = "application/json", "text/plain"
_SCHEMA = 1


def check_format(store: Store) -> bool:
    """Tell whether a push has written to this bucket before. BucketError: one of another version did.

    It is the first request of a run: what is wrong with the store, the bucket or the credentials shows here.
    """
    found = store.get(keys.FORMAT, is_patient=False)
    if found and found.data != _FORMAT:
        raise BucketError(
            f"{store.target}: was written by another version of scr-export; use that one, or another prefix"
        )
    return found is not None


def refuse_others(store: Store, listed: Iterable[str]) -> None:
    """BucketError: the bucket has such keys, but no push has put them there."""
    if key := next(iter(listed), None):
        raise BucketError(
            f"{store.target}: has {key}, but no {keys.FORMAT}: not written by scr-export; give another bucket or prefix"
        )


def mark(store: Store) -> None:
    """Mark the bucket as one of this program, before anything else is written."""
    store.put(keys.FORMAT, _FORMAT, _TEXT, {})


def read_unreferenced(store: Store) -> dict[str, float]:
    """Return what earlier runs noted. To lose it costs time only: grace periods begin anew."""
    found = store.get(keys.UNREFERENCED)
    try:
        document = json.loads(found.data) if found else {}
        return {str(key): float(since) for key, since in document["since"].items()}
    except (ValueError, LookupError, AttributeError, TypeError):
        return {}


def write_unreferenced(store: Store, unreferenced: Mapping[str, float]) -> None:
    """Note what is unreferenced."""
    document = {"schema": _SCHEMA, "since": dict(sorted(unreferenced.items()))}
    store.put(keys.UNREFERENCED, json.dumps(document).encode() + b"\n", _JSON, {})
