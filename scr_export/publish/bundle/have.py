"""What the receiver has: a list of sums and paths. It is what `receive --have` prints, and `content` of a bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scr_export.oci.digest import Digest
from scr_export.site import paths

_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")
_IGNORED = re.compile(r"#.*|\s*")


@dataclass(slots=True)
class Have:
    """Files with their sha256 by path, and the sha256 of blobs by digest. Of other algorithms the digest is no sum."""

    files: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, str] = field(default_factory=dict)
    _pages: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)  # by place, directory and name in it

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Have:
        """Read the lines of a list. ValueError: one is not `SUM  PATH`."""
        have = cls()
        for number, line in enumerate(lines, 1):
            text = line.rstrip("\n")
            if match := _LINE.fullmatch(text):
                have._add(*match.groups())
            elif not _IGNORED.fullmatch(text):
                raise ValueError(f"line {number} is not `SHA256  PATH`: {text[:80]!r}")
        return have

    def _add(self, sum_: str, path: str) -> None:
        directory, _, name = path.rpartition("/")
        if not directory.endswith("/blobs") or not paths.is_digest(name):
            self.files[path] = sum_
            place, mark, rest = path.partition(f"/{paths.PAGES}@")
            if mark:
                pages, _, name = rest.partition("/")
                self._pages.setdefault(place, {}).setdefault(f"{place}{mark}{pages}", {})[name] = sum_
        elif not name.startswith("sha256:") or name == f"sha256:{sum_}":
            self.blobs[name] = sum_

    def has_file(self, path: str, sum_: str) -> bool:
        """Tell whether the receiver has this very file."""
        return self.files.get(path) == sum_

    def has_blob(self, digest: Digest, sum_: str) -> bool:
        """Tell whether the receiver has a blob of this digest, in whatever repository."""
        return self.blobs.get(digest) == sum_

    def pages_in(self, directory: str) -> Mapping[str, str]:
        """Return the pages of a list that the receiver has in a directory, with their sums."""
        return self.pages_beside(directory).get(directory, {})

    def pages_beside(self, directory: str) -> Mapping[str, Mapping[str, str]]:
        """Return all directories of pages that the receiver has for the same list, with their pages."""
        return self._pages.get(directory.rpartition("/")[0], {})
