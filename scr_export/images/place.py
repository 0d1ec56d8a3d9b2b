"""Where something lies below IMAGES, as a user and a shell name it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from typing import NamedTuple

_AWKWARD = re.compile(r"[/:@\s]")  # skopeo ends the path of `oci:PATH:NAME` at a colon

_LONGEST = 120  # characters of a name, so that it has at most 255 bytes and room for an ending


class Arguments(NamedTuple):
    """IMAGES and SITE as the user named them."""

    images: str = "IMAGES"
    site: str = "SITE"


UNNAMED = Arguments()


class Place(NamedTuple):
    """A path below IMAGES; the empty one is IMAGES itself."""

    path: str
    arguments: Arguments = UNNAMED

    def at(self, path: str) -> Place:
        """Another place below IMAGES."""
        return self._replace(path=path)

    def below(self, path: str) -> Place:
        """A place below this one."""
        return self.at(f"{self.path}/{path}" if self.path else path)

    @property
    def full(self) -> str:
        """Its path as the user would name it."""
        return os.path.join(self.arguments.images, self.path) if self.path else self.arguments.images

    @property
    def outside(self) -> str:
        """A path beside IMAGES, where nothing is yet, that it can be moved to."""
        images = os.path.abspath(self.arguments.images)
        name = _AWKWARD.sub("_", self.path or f"{os.path.basename(images)}.moved")[-_LONGEST:]
        path = os.path.join(os.path.dirname(images), name)
        others = (f"{path}.{number}" for number in itertools.count(2))
        return path if not os.path.lexists(path) else next(other for other in others if not os.path.lexists(other))


def quoted(path: str) -> str:
    """A path as one word of a shell. What cannot be printed is written in the way of bash and of POSIX 2024."""
    if path.startswith("-"):
        path = f"./{path}"
    if path.isprintable():
        return shlex.quote(path)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}" for byte in os.fsencode(path))
    return f"$'{''.join(plain)}'"
