"""Digests: `algorithm:encoded` (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

# The registered algorithms that hashlib can compute, with the length of `encoded` in hexadecimal digits.
_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
ALGORITHMS = _LENGTH.keys()
_DIGEST = re.compile("|".join(f"{algorithm}:[0-9a-f]{{{length}}}" for algorithm, length in _LENGTH.items()))
_ANY_LENGTH = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)")


class Digest(str):
    """A valid digest, equal to its own text. ValueError says what is wrong with any other text."""

    __slots__ = ()

    def __new__(cls, text: object) -> Digest:
        """Check the text: there is no way to make a Digest of text that is none."""
        if not isinstance(text, str):
            raise ValueError(f"a digest must be a string, not {text!r:.80}")
        if not _DIGEST.fullmatch(text):
            raise ValueError(_defect(text))
        return str.__new__(cls, text)

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Check a text that comes from outside."""
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of these bytes."""
        return str.__new__(cls, f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon."""
        return self[: self.index(":")]

    @property
    def encoded(self) -> str:
        """The part behind the colon: lower-case hexadecimal digits."""
        return self[self.index(":") + 1 :]

    def hasher(self) -> _Hash:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def is_of(self, hasher: _Hash) -> bool:
        """Tell whether the bytes that the hash object was fed have this digest."""
        return hasher.hexdigest() == self.encoded


def _defect(text: str) -> str:
    match = _ANY_LENGTH.fullmatch(text)
    if not match:
        return f"{text!r:.160} is not a digest of sha256, sha384 or sha512"
    algorithm, encoded = match.groups()
    return f"{text!r:.160} has {len(encoded)} hexadecimal digits, {algorithm} has {_LENGTH[algorithm]}"
