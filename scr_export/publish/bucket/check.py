"""Find out what a listing does not tell: ask for metadata, or read everything back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from scr_export.publish.bucket.objects import DIGEST, NEXT, PAGES, SIZES, SUM, Object, Stored
from scr_export.publish.bucket.store import Store
from scr_export.publish.bucket.work import do_all

_METADATA = (DIGEST, SUM, NEXT, PAGES, SIZES)


class Damage(NamedTuple):
    """An object of the bucket that is not what it must be."""

    wanted: Object
    what: str


def differing(store: Store, asked: Iterable[Object], jobs: int) -> list[Object]:
    """Return those objects whose metadata is not as wanted. Their sum or digest is in it, so the bytes differ too."""
    found: list[Object] = []

    def ask(wanted: Object, _: Callable[[], None]) -> None:
        attributes = store.attributes(wanted.key)
        if attributes is None or _wrong_metadata(wanted, attributes):
            found.append(wanted)

    do_all(ask, asked, jobs)
    return found


def read_back(store: Store, objects: Iterable[Object], jobs: int, advance: Callable[[int], None]) -> list[Damage]:
    """Read objects to the last byte, and return those that are damaged, by their keys. `advance` gets bytes."""
    found: list[Damage] = []

    def check(wanted: Object, check_stopped: Callable[[], None]) -> None:
        def advance_unless_stopped(count: int) -> None:
            check_stopped()
            advance(count)

        if what := _damage(store, wanted, advance_unless_stopped):
            found.append(Damage(wanted, what))

    do_all(check, objects, jobs)
    return sorted(found, key=lambda each: each.wanted.key)


def _damage(store: Store, wanted: Object, advance: Callable[[int], None]) -> str | None:
    try:
        attributes, pieces = store.read(wanted.key)
    except KeyError:
        return "is gone"
    if isinstance(wanted.body, Stored):
        digest, hasher = str(wanted.body.digest), wanted.body.digest.hasher()
    else:
        digest, hasher = f"sha256:{hashlib.sha256(wanted.body()).hexdigest()}", hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
        advance(len(piece))
    found = f"{digest.partition(':')[0]}:{hasher.hexdigest()}"
    if found != digest:
        return f"is damaged: its bytes have the digest {found}, not {digest}"
    return _wrong_metadata(wanted, attributes)


def _wrong_metadata(wanted: Object, attributes: Mapping[str, str]) -> str | None:
    found = {name: attributes[name] for name in (*_METADATA, "Content-Type") if name in attributes}
    if found == {**wanted.metadata, "Content-Type": wanted.content_type}:
        return None
    return f"has other metadata: {found}"
