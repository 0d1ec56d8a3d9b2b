"""The lists of tags and of repositories, and their pages (distribution-spec, "Listing Tags"; docker's `_catalog`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scr_export.oci.name import RepositoryName

# How many entries a page has. A client that asks for `n` gets the largest page that is not above it.
SIZES = (1, 10, 100, 1000)
# Up to here all that follows an entry is one page, so that `last` alone is answered in full.
_SHORT = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """The tags of a repository, or with no `name` the repositories of a registry, in ASCII order ("ASCIIbetical")."""

    name: RepositoryName | None
    entries: tuple[str, ...]

    def body(self, entries: Sequence[str] | None = None) -> bytes:
        """Return the response body with all entries, or with these of them."""
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
    """Yield every page that a client needs to read the list in steps of any size, from any entry on.

    A page of one entry begins behind every entry, pages of 10, 100 and 1,000 only where one of that size begins when
    the list is read from its start, so that all pages together cost what four lists do. A client that starts elsewhere
    gets small pages until it reaches such a place. In a list of up to 100, all that follows an entry is a page.
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
