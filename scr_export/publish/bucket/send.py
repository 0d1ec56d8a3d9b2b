"""Send objects step by step, and remove them. Content is hashed while it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from scr_export.oci.mediatype import INDEXES
from scr_export.publish.bucket.compare import Removals, Steps
from scr_export.publish.bucket.keys import BYTES, Step, step_of
from scr_export.publish.bucket.lock import Lease
from scr_export.publish.bucket.notes import write_unreferenced
from scr_export.publish.bucket.objects import Object, Stored
from scr_export.publish.bucket.store import PART, Store
from scr_export.publish.bucket.work import do_all
from scr_export.publish.directory.prove import Blob, ProvenContent
from scr_export.site.roles import Role

_BATCH = 1000  # keys in one request to delete

Advance = Callable[[int, int], None]  # is called with the bytes and the objects that were sent


@dataclass(frozen=True, slots=True)
class Sender:
    """Writes to a bucket while its lock is held, with `jobs` requests at once."""

    store: Store
    lease: Lease
    content: ProvenContent
    jobs: int

    def send(self, steps: Steps, advance: Advance) -> None:
        """Send objects, each step complete before the next begins.

        DamagedSiteError: a file of the site has not the bytes of its digest. It is not in the bucket then.
        """
        for step, objects in steps:
            if step != BYTES:
                self.lease.confirm()
            large = sorted((each for each in objects if _is_large(each)), key=lambda each: -(each.size or 0))
            small = (each for each in objects if not _is_large(each))
            do_all(partial(self._send, advance), small, min(self.jobs, len(objects)), large=large)

    def _send(self, advance: Advance, wanted: Object, check: Callable[[], None]) -> None:
        self.lease.check()
        if isinstance(wanted.body, Stored) and _is_large(wanted):
            self._send_in_parts(advance, wanted, wanted.body, check)
            advance(0, 1)
        else:
            data = self._read(wanted.body) if isinstance(wanted.body, Stored) else wanted.body()
            self.store.put(wanted.key, data, wanted.content_type, wanted.metadata)
            advance(len(data), 1)

    def _read(self, file: Stored) -> bytes:
        return b"".join(self.content.read(file.digest, Blob(file.path, file.size)))

    def _send_in_parts(self, advance: Advance, wanted: Object, file: Stored, check: Callable[[], None]) -> None:
        def pieces() -> Iterator[bytes]:
            for piece in self.content.read(file.digest, Blob(file.path, file.size)):
                check()
                self.lease.check()
                yield piece
                advance(len(piece), 0)

        self.store.put_in_parts(wanted.key, file.size, pieces(), wanted.content_type, wanted.metadata)

    def forget(self, noted: Mapping[str, float], removals: Removals) -> None:
        """Remove the notes of content that is needed again, before it is: should it be dropped later, they are old."""
        kept = {key: since for key, since in noted.items() if key in removals.unreferenced or key in removals.is_due}
        if kept != noted:
            self.lease.confirm()
            write_unreferenced(self.store, kept)

    def note(self, noted: Mapping[str, float], removals: Removals, now: float) -> None:
        """Note what is unreferenced, from now on if it was not before. Names that led to it must be gone."""
        unreferenced = removals.unreferenced | dict.fromkeys(removals.new, now)
        if unreferenced != noted:
            self.lease.confirm()
            write_unreferenced(self.store, unreferenced)

    def remove(self, steps: Iterable[Sequence[str]]) -> None:
        """Remove keys step by step."""
        for keys in steps:
            self.lease.confirm()
            for group in self._indexes_first(keys):
                for start in range(0, len(group), _BATCH):
                    self.lease.check()
                    self.store.delete(group[start : start + _BATCH])

    def _indexes_first(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """Divide manifests, whose keys do not tell what they are: an index goes before what it lists."""
        if not keys or step_of(keys[0]) != Step(Role.MANIFEST):
            return [keys]
        indexes: set[str] = set()

        def ask(key: str, _: Callable[[], None]) -> None:
            if (self.store.attributes(key) or {}).get("Content-Type") in INDEXES:
                indexes.add(key)

        do_all(ask, keys, self.jobs)
        return [[key for key in keys if key in indexes], [key for key in keys if key not in indexes]]


def _is_large(wanted: Object) -> bool:
    return wanted.step == BYTES and (wanted.size or 0) > PART
