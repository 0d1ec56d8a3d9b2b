"""The S3 store of a bucket, through obstore. Every error is one line with a remedy, and has no credentials in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scr_export.errors import BucketError, UsageError, reason
from scr_export.publish.bucket.explain import explain, is_absent
from scr_export.publish.bucket.settings import Settings, Target
from scr_export.publish.bucket.work import interruptible

if TYPE_CHECKING:
    from obstore.store import S3Store

# In seconds: a request may take so long, a part of a blob over a slow line; a gateway may be away so long, to restart.
_PATIENT = timedelta(seconds=300), timedelta(seconds=120)
# Whoever mistyped an address, or interrupts a run, waits shorter.
_IMPATIENT = timedelta(seconds=5), timedelta(seconds=3)
_CONNECT_TIMEOUT = timedelta(seconds=5)
_MOST_RETRIES = 100  # the time ends them, not their number
_AT_ONCE = 4  # parts of one blob

REQUIREMENT = "obstore>=0.11,<0.13"  # the extra s3 of pyproject.toml

PART = 8 * 1024 * 1024  # a larger blob goes out in parts of this size, in bytes
_MOST_PARTS = 10_000


class Conflict(Exception):
    """The object is not what the caller took it for: another run has changed it."""


class Found(NamedTuple):
    """An object as the store has it. `modified` is by the store's clock."""

    data: bytes
    etag: str
    modified: datetime


class Store:
    """The objects of a bucket behind a prefix, by their keys. BucketError: the store does not do what it is asked.

    Those requests that the main thread makes are interruptible.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self.target = target
        self._settings = settings
        self._obstore = import_obstore()
        self._store = _open(target, settings, *_PATIENT)
        self._impatient = _open(target, settings, *_IMPATIENT)

    def list(self, directory: str) -> Iterator[tuple[str, int, str]]:
        """Yield key, size in bytes and ETag of each object below a directory."""
        batches = self._obstore.list(self._store, directory, chunk_size=1000)
        with self._explained("list", directory):
            while batch := interruptible(lambda: next(batches, None)):
                for each in batch:
                    yield each["path"], each["size"], each["e_tag"] or ""

    def get(self, key: str, *, is_patient: bool = True) -> Found | None:
        """Return a small object. Without patience, a store that does not answer is an error after some seconds."""
        with self._explained("read", key):
            store = self._store if is_patient else self._impatient

            def get() -> Found:
                result = self._obstore.get(store, key)
                return Found(bytes(result.bytes()), result.meta["e_tag"] or "", result.meta["last_modified"])

            try:
                return interruptible(get)
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise
                return None

    def read(self, key: str) -> tuple[Mapping[str, str], Iterator[bytes]]:
        """Return an object's Content-Type and metadata, and its bytes piece by piece. KeyError: it is not there."""
        with self._explained("read", key):
            try:
                result = self._obstore.get(self._store, key)
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise
                raise KeyError(key) from None
            return result.attributes, self._pieces(key, result)

    def _pieces(self, key: str, result: Any) -> Iterator[bytes]:
        with self._explained("read", key):
            for piece in result.stream(min_chunk_size=256 * 1024):
                yield bytes(piece)

    def attributes(self, key: str) -> Mapping[str, str] | None:
        """Return an object's Content-Type and metadata."""
        with self._explained("read", key):
            try:
                return dict(self._obstore.get(self._store, key, options={"head": True}).attributes)
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise
                return None

    def put(self, key: str, data: bytes, content_type: str, metadata: Mapping[str, str]) -> None:
        """Write an object in one request. Its signature covers the bytes, so the store refuses them if they change."""
        attributes = {"Content-Type": content_type, **metadata}
        with self._explained("write", key):
            put = partial(self._obstore.put, attributes=attributes, use_multipart=False)
            interruptible(lambda: put(self._store, key, data))

    def put_in_parts(
        self, key: str, size: int, pieces: Iterator[bytes], content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """Write a large object. It appears when all pieces have come; an error of theirs passes through."""
        attributes = {"Content-Type": content_type, **metadata}
        with self._explained("write", key):
            self._obstore.put(
                self._store,
                key,
                pieces,
                attributes=attributes,
                use_multipart=True,
                chunk_size=max(PART, -(-size // _MOST_PARTS)),
                max_concurrency=_AT_ONCE,
            )

    def create(self, key: str, data: bytes) -> str:
        """Write an object that is not there; return its ETag. Conflict: it is there."""
        return self._put_if(key, data, "create")

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write an object that still has this ETag; return the new one. Conflict: it has another one."""
        try:
            return self._put_if(key, data, {"e_tag": etag})
        except Conflict:
            found = self.get(key)
            if found is None or found.etag != etag:
                raise
        # Ceph 16 takes the quotes for a part of the ETag that is asked for, and finds that the object has another one.
        return self._put_if(key, data, {"e_tag": etag.strip('"')})

    def _put_if(self, key: str, data: bytes, mode: Any) -> str:
        exceptions = self._obstore.exceptions
        with self._explained("write", key):
            try:
                result = interruptible(lambda: self._obstore.put(self._store, key, data, mode=mode))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError) as error:
                if isinstance(error, FileNotFoundError) and not is_absent(error):
                    raise
                raise Conflict(key) from None
            return result["e_tag"] or ""

    def delete(self, keys: Iterable[str], *, is_patient: bool = True) -> None:
        """Remove objects, which need not be there, in no order. Patience is as in `get`."""
        store = self._store if is_patient else self._impatient
        if keys := list(keys):
            with self._explained("delete", keys[0]):
                interruptible(lambda: self._obstore.delete(store, keys))

    @contextlib.contextmanager
    def _explained(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except (self._obstore.exceptions.BaseError, FileNotFoundError) as error:
            raise BucketError(explain(error, f"{action} {self.target}/{key}", self.target, self._settings)) from None


def import_obstore() -> Any:
    """Import obstore, which only this command needs. UsageError: it is not installed."""
    try:
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UsageError(
            f"push needs the package obstore, which is not installed: run `pipx inject scr-export '{REQUIREMENT}'`, "
            f"or in a virtual environment `pip install '{REQUIREMENT}'`"
        ) from error
    return obstore


def _open(target: Target, settings: Settings, timeout: timedelta, patience: timedelta) -> S3Store:
    obstore = import_obstore()
    client: dict[str, Any] = {
        "allow_http": settings.endpoint.startswith("http://"),
        "connect_timeout": _CONNECT_TIMEOUT,
        "timeout": timeout,
    }
    if settings.authority:
        client["root_certificate"] = _certificates(settings.authority)
    config: dict[str, Any] = {"region": settings.region, **settings.credentials}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    store: S3Store = obstore.store.S3Store(
        target.bucket,
        prefix=target.prefix or None,
        client_options=client,
        retry_config={
            "max_retries": _MOST_RETRIES,
            "retry_timeout": patience,
            "backoff": {"max_backoff": timedelta(seconds=5)},
        },
        **config,
    )
    return store


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"AWS_CA_BUNDLE: cannot read {reason(error)}") from error
