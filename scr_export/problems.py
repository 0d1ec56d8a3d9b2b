"""Defects found in IMAGES or SITE, collected so that one run reports all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["fault", "warning"]
Origin = Literal["IMAGES", "SITE", "FILE"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One defect.

    `path` is below `origin`, `code` is a stable word for scripts, `what` says what is wrong, `remedy` what to do. Of a
    FILE that an option names, `path` is its own path and the line.
    """

    severity: Severity
    path: str
    code: str
    what: str
    remedy: str
    origin: Origin = "IMAGES"


@dataclass(slots=True)
class Problems:
    """All defects found in one run. Faults stop an export, warnings do not."""

    faults: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def fault(self, path: str, code: str, what: str, remedy: str, origin: Origin = "IMAGES") -> None:
        """Add a defect that must be mended."""
        self.faults.append(Problem("fault", path, code, what, remedy, origin))

    def warning(self, path: str, code: str, what: str, remedy: str, origin: Origin = "IMAGES") -> None:
        """Add something that is published all the same and that the operator should know."""
        self.warnings.append(Problem("warning", path, code, what, remedy, origin))

    def faulty_images(self) -> set[str]:
        """Return the paths below IMAGES that have faults."""
        return {problem.path for problem in self.faults if problem.origin == "IMAGES"}

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add problems of either severity."""
        for problem in problems:
            (self.faults if problem.severity == "fault" else self.warnings).append(problem)
