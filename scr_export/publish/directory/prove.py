"""Read content of a site, and prove that it has the bytes of its digests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, NoReturn

from scr_export.errors import DamagedSiteError
from scr_export.fs.safe import chunks
from scr_export.oci.digest import Digest
from scr_export.problems import Problems

_REMEDY = "export again, or carry the site over again; scr-export verify finds all damaged files"


class Blob(NamedTuple):
    """Content of a site, at one of its paths. `size` is in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class ProvenContent:
    """Reads content, which `open` opens. Damage is added to `problems`; `outcome` is what comes of it in words."""

    open: Callable[[Digest, Blob], int]
    problems: Problems
    outcome: str

    def read(self, digest: Digest, blob: Blob) -> Iterator[bytes]:
        """Yield the bytes. DamagedSiteError: they do not have the digest; the last piece was not yielded then."""
        hasher, rest = digest.hasher(), blob.size
        last = b""
        try:
            descriptor = self.open(digest, blob)
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
            self._fail(blob, "unreadable", f"cannot be read: {error.strerror}")
        if rest:
            self._fail(blob, "size", f"has not the {blob.size} bytes any more that it had before")
        if not digest.is_of(hasher):
            self._fail(blob, "digest", f"is damaged: its bytes have the digest {digest.algorithm}:{hasher.hexdigest()}")
        yield last

    def sha256(self, digest: Digest, blob: Blob) -> str:
        """Return the sha256 of a blob; one with a digest of another algorithm is read."""
        if digest.algorithm == "sha256":
            return digest.encoded
        hasher = sha256()
        for piece in self.read(digest, blob):
            hasher.update(piece)
        return hasher.hexdigest()

    def _fail(self, blob: Blob, code: str, what: str) -> NoReturn:
        self.problems.fault(blob.path, code, what, _REMEDY, "SITE")
        raise DamagedSiteError(self.problems, self.outcome)
