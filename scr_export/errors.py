"""The errors that end a command, each with its exit status.

ScrExportError            exit status
UsageError                   2        the arguments cannot be meant
ImagesError                  1        IMAGES has faults; carries all problems
DamagedSiteError             1        SITE has faults; carries all problems
BundleError                  1        BUNDLE cannot be written
SiteError                    1        SITE cannot be read or written, or is not a site of this program
SiteLockedError              3        another run holds SITE
BucketError                  1        the bucket cannot be read or written
BucketLockedError            3        another push holds the bucket
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scr_export.problems import Problems
from scr_export.text import printable


class ScrExportError(Exception):
    """Base of all errors that a command ends with. The text is the whole message; `problems` are printed before it."""

    exit_status = 1

    def __init__(self, text: str, problems: Problems | None = None) -> None:
        super().__init__(text)
        self.problems = problems or Problems()


class UsageError(ScrExportError):
    """The arguments contradict each other or name what does not exist."""

    exit_status = 2


class SiteError(ScrExportError):
    """SITE is not a site of this program, or it cannot be read or written."""


class SiteLockedError(ScrExportError):
    """Another run holds the lock of SITE."""

    exit_status = 3


class BucketError(ScrExportError):
    """The bucket cannot be read or written, or it is none of this program's."""


class BucketLockedError(ScrExportError):
    """Another push holds the lock of the bucket."""

    exit_status = 3


class ImagesError(ScrExportError):
    """IMAGES cannot be published as it is. Nothing that is served was written."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(f"nothing was published: {problems.summary()}", problems)


class DamagedSiteError(SiteError):
    """SITE is damaged, so that it cannot be sent anywhere. `outcome` says what was not done."""

    def __init__(self, problems: Problems, outcome: str) -> None:
        super().__init__(f"{outcome}: {problems.summary()}", problems)


class BundleError(ScrExportError):
    """BUNDLE cannot be written."""


@contextmanager
def reraise_oserror(kind: type[ScrExportError], action: str) -> Iterator[None]:
    """Turn an OSError into one line that names the action that failed."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {action}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Return the system's words for an error, with the path that it names."""
    words = error.strerror or str(error)
    return f"{printable(str(error.filename))}: {words}" if error.filename else words
