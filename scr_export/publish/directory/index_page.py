"""What SITE has of index.html, and whose it is."""

from __future__ import annotations

from typing import NamedTuple

from scr_export.fs.safe import read_file
from scr_export.problems import Problems
from scr_export.site import paths
from scr_export.site.documents.index_page import IndexPage, is_own

_LIMIT = 2**20


class ObservedIndexPage(NamedTuple):
    """The index.html of a site. `foreign` says why it is none of this program's; it is left alone then."""

    data: bytes | None = None
    foreign: str = ""

    def planned(self, *, is_wanted: bool) -> IndexPage:
        """Return what a plan does with it."""
        if self.foreign:
            return IndexPage.KEPT
        return IndexPage.WRITTEN if is_wanted else IndexPage.ABSENT

    def warn_if_foreign(self, problems: Problems) -> None:
        """Warn of a file that is not this program's."""
        if self.foreign:
            what = f"{self.foreign}: it is left alone, and the site has no page of scr-export"
            problems.warning(paths.INDEX_PAGE, "foreign", what, "rename it, or export with --no-html", "SITE")


def read_index_page(site: int) -> ObservedIndexPage:
    """Read the file of a site. A file that cannot be read counts as the operator's."""
    try:
        data, _ = read_file(paths.INDEX_PAGE, site, _LIMIT)
    except FileNotFoundError:
        return ObservedIndexPage()
    except OSError as error:
        return ObservedIndexPage(foreign=f"cannot be read ({error.strerror})")
    except ValueError as error:
        return ObservedIndexPage(foreign=str(error))
    return ObservedIndexPage(data, "" if is_own(data) else "was not written by scr-export, or was changed since")
