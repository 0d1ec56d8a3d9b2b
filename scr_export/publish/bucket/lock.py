"""The lock of a bucket: an object that only one run can make, and that its holder writes again every minute.

A store has no locks that go with their holder. So a lock that was not written for five minutes may be taken over; the
store's own clock counts. The store lets only one run make the lock or take it over, by the conditions of a PUT. Where a
store does not, the holder finds the other's lock when it reads its own again, which it does before it names anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from scr_export.errors import BucketError, BucketLockedError
from scr_export.publish.bucket import keys
from scr_export.publish.bucket.store import Conflict, Found, Store
from scr_export.text import printable

_TRIES = 3  # a lock can be released just when it is found


@dataclass(frozen=True, slots=True)
class LockTimes:
    """In seconds: how often the holder writes the lock, when it may be taken over, and when its holder stops before."""

    renewal: float = 60
    take_over: float = 300
    give_up: float = 240
    retry: float = 5


TIMES = LockTimes()


class Lease:
    """The lock while a run holds it."""

    def __init__(self, store: Store, times: LockTimes) -> None:
        self._store = store
        self._times = times
        self._run = secrets.token_hex(16)
        self._renewals = 0
        self._etag = ""
        self._written = 0.0
        self._problem: BucketLockedError | BucketError | None = None
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_the_end, name="scr-export lock", daemon=True)

    def check(self) -> None:
        """Raise BucketLockedError or BucketError if the lock is lost, or was not renewed for too long. Quick."""
        if self._problem:
            raise self._problem
        if _now() - self._written > self._times.give_up:
            raise BucketError(
                f"the lock of {self._store.target} could not be renewed: the store does not answer in time"
            )

    def confirm(self) -> None:
        """Read the lock again. BucketLockedError: another run has taken it over."""
        self.check()
        if not self._is_ours(self._store.get(keys.LOCK)):
            self._problem = self._lost()
        self.check()

    def acquire(self) -> None:
        """Make the lock, or take over an old one. BucketLockedError: another run has it."""
        for _ in range(_TRIES):
            self._written = _now()
            with contextlib.suppress(Conflict):
                self._etag = self._store.create(keys.LOCK, self._text())
                break
            if (found := self._store.get(keys.LOCK)) and self._take_over(found):
                break
        else:
            raise self._locked(f"a run that comes or goes just now; if none does, delete {keys.LOCK}")
        self._renewer.start()

    def _take_over(self, found: Found) -> bool:
        if self._is_ours(found):  # the answer to the first request was lost, and obstore repeated it
            self._etag = found.etag
            return True
        age = (self._store_time() - found.modified).total_seconds()
        if age < self._times.take_over:
            raise self._locked(f"{_holder(found.data)}, renewed {age:.0f} s ago", self._times.take_over - age)
        self._written = _now()
        with contextlib.suppress(Conflict):
            self._etag = self._store.replace(keys.LOCK, self._text(), found.etag)
            return True
        return False

    def _store_time(self) -> datetime:
        """Return the time by the store's clock: this host's may be wrong by more than the lock's age."""
        self._store.put(keys.CLOCK, b"", "application/octet-stream", {})
        found = self._store.get(keys.CLOCK)
        if not found:
            raise self._locked("a run that ends just now")
        return found.modified

    def _locked(self, holder: str, seconds: float = 0) -> BucketLockedError:
        wait = f"; if that run was killed, its lock can be taken over in {seconds:.0f} s" if seconds else ""
        return BucketLockedError(f"{self._store.target}: held by {holder}; try again when it has finished{wait}")

    def _lost(self) -> BucketLockedError:
        return BucketLockedError(
            f"{self._store.target}: another run took the lock over; try again when it has finished"
        )

    def _is_ours(self, found: Found | None) -> bool:
        return found is not None and _document(found.data).get("run") == self._run

    def _text(self) -> bytes:
        self._renewals += 1  # other bytes, another ETag
        holder = f"process {os.getpid()} on {os.uname().nodename}"
        return json.dumps({"holder": holder, "run": self._run, "renewal": self._renewals}).encode() + b"\n"

    def _renew_until_the_end(self) -> None:
        pause = self._times.renewal
        while not self._ended.wait(pause) and not self._problem:
            is_renewed = False
            with contextlib.suppress(BucketError):  # perhaps the store is back before the time is over
                is_renewed = self._renew()
            pause = self._times.renewal if is_renewed else self._times.retry

    def _renew(self) -> bool:
        started = _now()
        with contextlib.suppress(Conflict):
            self._etag = self._store.replace(keys.LOCK, self._text(), self._etag)
            self._written = started
            return True
        found = self._store.get(keys.LOCK)
        if found and self._is_ours(found):  # the answer to the renewal before was lost
            self._etag = found.etag
        else:
            self._problem = self._lost()
        return False

    def release(self) -> None:
        """Remove the lock if it is this run's, also if making it was interrupted. Does not wait for a dead store."""
        self._ended.set()
        if self._renewer.ident is not None:
            self._renewer.join(timeout=self._times.retry)
        with contextlib.suppress(BucketError):
            if self._written and self._is_ours(self._store.get(keys.LOCK, is_patient=False)):
                self._store.delete([keys.LOCK], is_patient=False)


@contextlib.contextmanager
def hold_lock(store: Store) -> Iterator[Lease]:
    """Hold the lock of a bucket during the block. BucketLockedError: another run has it."""
    lease = Lease(store, TIMES)
    try:
        lease.acquire()
        yield lease
    finally:
        lease.release()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the host sleeps


def _document(data: bytes) -> dict[str, object]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _holder(data: bytes) -> str:
    return printable(str(_document(data).get("holder", "")))[:200] or "an unnamed run"
