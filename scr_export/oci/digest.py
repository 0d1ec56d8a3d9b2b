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
    """A digest that passed `parse` or was computed by `of`. Equal to its own text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """The one gate from text; ValueError says what is wrong with it."""
        if not isinstance(text, str):
            raise ValueError(f"a digest must be a string, not {text!r:.80}")
        if not _DIGEST.fullmatch(text):
            raise ValueError(_fault(text))
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of these bytes."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon."""
        return self[: self.index(":")]

    @property
    def encoded(self) -> str:
        """The part behind the colon: lower-case hexadecimal digits."""
        return self[self.index(":") + 1 :]

    def hasher(self) -> _Hash:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def is_of(self, hasher: _Hash) -> bool:
        """Whether what the hash object was fed has this digest."""
        return hasher.hexdigest() == self.encoded


def _fault(text: str) -> str:
    match = _ANY_LENGTH.fullmatch(text)
    if not match:
        return f"{text!r:.160} is not a digest of sha256, sha384 or sha512"
    algorithm, encoded = match.groups()
    return f"{text!r:.160} has {len(encoded)} hexadecimal digits, {algorithm} has {_LENGTH[algorithm]}"
