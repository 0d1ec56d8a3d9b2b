"""The lists of tags and of repositories, and their pages (distribution-spec, "Listing Tags"; docker's `_catalog`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scr_export.oci.name import RepositoryName

# How many entries a page has. Whoever asks for `n` gets the largest page that is not above it.
SIZES = (1, 10, 100, 1000)
# Up to here whatever follows an entry is one page, so that `last` alone is answered in full.
_SHORT = 1000


@dataclass(frozen=True, slots=True)
class List:
    """The tags of a repository, or with no `name` the repositories of a registry, in ASCII's order ("ASCIIbetical")."""

    name: RepositoryName | None
    entries: tuple[str, ...]

    def body(self, entries: Sequence[str] | None = None) -> bytes:
        """What a client gets: all entries, or these of them."""
        shown = self.entries if entries is None else entries
        document = {"name": self.name, "tags": shown} if self.name else {"repositories": shown}
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `size` entries behind `after`, which is "" for the start; `next` is the last of them if more follow."""

    after: str
    size: int
    entries: Sequence[str]
    next: str | None


def pages(entries: Sequence[str]) -> Iterator[Page]:
    """Every page that a list needs to be read in any steps, from any entry on.

    A page of one entry stands behind every entry, pages of 10, 100 and 1,000 only where one of that size began when
    the list is read from its start: so all pages together cost what four lists do. Whoever starts elsewhere takes small
    steps to such a place. A list of up to 1,000 entries has also all that follows each, as one page.
    """
    for position in range(len(entries) + 1):
        after = entries[position - 1] if position else ""
        rest = len(entries) - position
        for size in SIZES:
            is_start = position % size == 0
            if rest <= size and (is_start or len(entries) <= _SHORT):
                yield Page(after, size, entries[position:], None)
                break
            if is_start:
                yield Page(after, size, entries[position : position + size], entries[position + size - 1])
