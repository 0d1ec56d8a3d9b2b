"""What an export is asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """How many tags an export may remove: a number, or percent of those that the site served before."""

    number: float
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str) -> RemovalLimit:
        """Read `N` or `N%`. ValueError: it is neither."""
        digits = text.removesuffix("%")
        if not digits.isascii() or not digits.isdigit():
            raise ValueError(f"{text!r} is neither a number of tags nor a percentage like 5%")
        limit = cls(int(digits), is_percent=digits != text)
        if limit.is_percent and limit.number > 100:
            raise ValueError(f"{text!r} is more than 100%")
        return limit

    def allows(self, removed: int, served: int) -> bool:
        """Tell whether `removed` tags of `served` may go."""
        return removed <= (self.number * served / 100 if self.is_percent else self.number)

    def __str__(self) -> str:
        return f"{self.number:g}{'%' * self.is_percent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What an export is asked to do.

    `images` and `site` are directories, `prefix` is put before every repository name. Without `verify_digests` only the
    sizes of blobs are checked. `keep_going` publishes the good images in spite of faults. `prune` removes what IMAGES
    lacks, content only when nothing has referred to it for `grace` seconds. `index_page` is whether the site has a page
    for people.
    """

    images: str
    site: str
    prefix: str = ""
    dry_run: bool = False
    jobs: int = 1
    verify_digests: bool = True
    keep_going: bool = False
    prune: bool = True
    grace: float = 900
    max_remove: RemovalLimit | None = None
    index_page: bool = True
