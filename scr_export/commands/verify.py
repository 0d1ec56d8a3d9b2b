"""`scr-export verify SITE`: read a site, check names, lists and pages, hash blobs, report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from scr_export.commands.site_check import SiteCheck
from scr_export.problems import Problems
from scr_export.publish.directory.lock import read_site
from scr_export.report import Result
from scr_export.text import count, duration, printable, size


@dataclass(slots=True)
class VerifyReport(Result):
    """The facts of one check. `bytes` were hashed, `seconds` is a duration, `details` are a line for each tag."""

    site: str
    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    signatures: int = 0
    bytes: int = 0
    seconds: float = 0
    details: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    def __str__(self) -> str:
        nouns = ("tag", "manifest", "blob", *(["signature"] if self.signatures else []))
        counts = ", ".join(count(getattr(self, f"{noun}s"), noun) for noun in nouns)
        verdict = count(len(self.problems.faults), "fault") if self.problems.faults else "all sound"
        return (
            f"{printable(self.site)}: {count(self.repositories, 'repository')}, {counts}: {verdict}\n"
            f"  hashed   {size(self.bytes)}; {duration(self.seconds)} in all"
        )


def verify(site: str, jobs: int = 1) -> VerifyReport:
    """Check that everything that a site answers for can be pulled completely. IMAGES is not needed.

    Only reads, with one exception: where the site has notes of an export that this user may write, damaged files are
    noted as not verified, so that the next export reports them too.
    SiteError, SiteLockedError: the text says what the operator has to know.
    """
    started = time.monotonic()
    report = VerifyReport(site)
    with read_site(site) as (opened, state):
        check = SiteCheck(opened, state, report.problems)
        check.read()
        check.references()
        check.lists()
        report.bytes = check.blobs(jobs)
        if state is None:
            check.excuse_transfer()
        _count(check, report)
    report.seconds = time.monotonic() - started
    return report


def _count(check: SiteCheck, report: VerifyReport) -> None:
    report.repositories = len(check.found)
    for name, found in sorted(check.found.items()):
        report.details += [f"{name}:{tag} {target.rpartition('@')[2]}" for tag, target in sorted(found.tags.items())]
        report.tags += len(found.tags)
        report.manifests += len(found.manifests)
        report.blobs += len(found.blobs)
        report.signatures += sum(check.signatures[name].values())
