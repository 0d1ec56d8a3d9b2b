"""Defects found in IMAGES, SITE or a bucket, collected so that one run reports all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from scr_export.text import count

Severity = Literal["fault", "warning"]
Origin = Literal["IMAGES", "SITE", "BUCKET", "FILE"]


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


def by_place(problems: Iterable[Problem]) -> list[Problem]:
    """Put the problems of one image, or of one file of SITE, together, in the order of their first ones."""
    together: dict[tuple[Origin, str], list[Problem]] = {}
    for problem in problems:
        together.setdefault((problem.origin, problem.path), []).append(problem)
    return [problem for group in together.values() for problem in group]


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

    def summary(self) -> str:
        """Count the problems: `3 faults in 2 images, 1 warning`. Images are left out where each has one fault."""
        images = len(self.faulty_images())
        faults = count(len(self.faults), "fault")
        if 0 < images < len([fault for fault in self.faults if fault.origin == "IMAGES"]):
            faults += f" in {count(images, 'image')}"
        warnings = [count(len(self.warnings), "warning")] if self.warnings else []
        return ", ".join([faults, *warnings] if self.faults else warnings)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add problems of either severity."""
        for problem in problems:
            (self.faults if problem.severity == "fault" else self.warnings).append(problem)
