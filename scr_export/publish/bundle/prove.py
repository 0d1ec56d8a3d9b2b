"""Read blobs, and prove that they have the bytes of their digests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NoReturn

from scr_export.errors import DamagedSiteError
from scr_export.fs.safe import chunks
from scr_export.oci.digest import Digest
from scr_export.problems import Problems
from scr_export.publish.bundle.read import Blob

OpenBlob = Callable[[Digest, Blob], int]


def proven(digest: Digest, blob: Blob, open_blob: OpenBlob, problems: Problems) -> Iterator[bytes]:
    """Yield the bytes of a blob. DamagedSiteError: they do not have its digest; the last piece was not yielded then."""
    hasher, rest = digest.hasher(), blob.size
    last = b""
    try:
        descriptor = open_blob(digest, blob)
        try:
            for piece in chunks(descriptor):
                rest -= len(piece)
                if rest < 0:
                    break
                hasher.update(piece)
                if last:
                    yield last
                last = piece
        finally:
            os.close(descriptor)
    except OSError as error:
        _fail(blob, "unreadable", f"cannot be read: {error.strerror}", problems)
    if rest:
        _fail(blob, "size", f"has not the {blob.size} bytes any more that it had before", problems)
    if not digest.is_of(hasher):
        what = f"is damaged: its bytes have the digest {digest.algorithm}:{hasher.hexdigest()}"
        _fail(blob, "digest", what, problems)
    yield last


def _fail(blob: Blob, code: str, what: str, problems: Problems) -> NoReturn:
    remedy = "export again, or carry the site over again; scr-export verify finds all damaged files"
    problems.fault(blob.path, code, what, remedy, "SITE")
    raise DamagedSiteError(problems)


def sha256_of(digest: Digest, blob: Blob, open_blob: OpenBlob, problems: Problems) -> str:
    """Return the sha256 of a blob; one with a digest of another algorithm is read."""
    if digest.algorithm == "sha256":
        return digest.encoded
    hasher = sha256()
    for piece in proven(digest, blob, open_blob, problems):
        hasher.update(piece)
    return hasher.hexdigest()
