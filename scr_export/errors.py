"""What can go wrong, and how it is told.

ScrExportError            exit status
BadUsage                     2        the arguments cannot be meant
BadImages                    1        IMAGES has faults; carries them all
BadSite                      1        SITE cannot be written, or is not ours
SiteHeld                     3        another export holds SITE
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class ScrExportError(Exception):
    """Base of all errors that a user is told; the text is the whole message."""

    exit_status = 1


class BadUsage(ScrExportError):
    """The arguments contradict each other or name what is not there."""

    exit_status = 2


class BadSite(ScrExportError):
    """SITE is not a site of this program, or it cannot be written."""


class SiteHeld(ScrExportError):
    """Another export is writing SITE now."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One defect: where (a path below IMAGES or SITE), a stable code, what is wrong, and what to do about it."""

    path: str
    code: str
    what: str
    remedy: str


@dataclass(slots=True)
class Findings:
    """Everything that was found wrong in one run: faults stop an export, warnings do not."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def fault(self, path: str, code: str, what: str, remedy: str) -> None:
        """Note a defect that must be mended."""
        self.faults.append(Fault(path, code, what, remedy))

    def warn(self, path: str, code: str, what: str, remedy: str) -> None:
        """Note something that is allowed, and that its owner should know."""
        self.warnings.append(Fault(path, code, what, remedy))


class BadImages(ScrExportError):
    """IMAGES cannot be published as it is; nothing was written."""

    def __init__(self, findings: Findings) -> None:
        count = len(findings.faults)
        super().__init__(f"nothing was written: {count} fault{'s' * (count != 1)} in IMAGES")
        self.findings = findings


@contextmanager
def told_as(kind: type[ScrExportError], doing: str) -> Iterator[None]:
    """Turn the system's refusal into one line that says what was being done."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {doing}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """The system's own words for an error, with the path it names."""
    words = error.strerror or str(error)
    return f"{printable(str(error.filename))}: {words}" if error.filename else words


def printable(text: str) -> str:
    """Text that cannot command a terminal: control and undecodable characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
