"""`scr-export list --missing FILE SITE`: read references, look each up in a site, report those that it lacks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TextIO

from scr_export.clients.lookup import Lookup
from scr_export.clients.references import read_references
from scr_export.commands.inventories import Inventories, reading_inventories
from scr_export.errors import UsageError
from scr_export.oci.inventory import Inventory
from scr_export.oci.reference import FullReference, Reference
from scr_export.problems import Problems
from scr_export.report import Result
from scr_export.site import paths
from scr_export.text import count, printable

STDIN = "-"
_REMEDY = "write one reference a line, such as quay.io/team/app:1.2, or `image: REFERENCE`"


@dataclass(slots=True)
class MissingReport(Result):
    """Which references a site does not have, as they are written; `found` has those that it has, by its names."""

    site: str
    missing: list[str] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def brief(self) -> str:
        """A line for each reference that is missing."""
        return "\n".join(map(printable, self.missing))

    def text(self, *, verbose: bool) -> str:
        """Return a line for each reference that is missing, and nothing else."""
        return self.brief

    @property
    def notes(self) -> list[str]:
        """A line for each reference that is there."""
        return [f"found: {printable(written)} is {name}" for written, name in self.found.items()]

    @property
    def exit_status(self) -> int:
        """1 if any reference is missing, or a line is none."""
        return 1 if self.missing or self.problems.faults else 0


def list_missing(site: str, path: str, prefix: str = "", upstream: str | None = None) -> MissingReport:
    """Return which references in a file (`-`: standard input) a site does not have.

    `prefix` is what the export put before every name, `upstream` the registry of images whose names have none.
    UsageError, SiteError, SiteLockedError: the text says what the operator has to know.
    """
    started = time.monotonic()
    report = MissingReport(site)
    references = _read(path, report.problems)
    with reading_inventories(site, report.problems) as inventories:
        lookup = Lookup((name for name, _ in inventories.catalog), prefix, upstream)
        for written, found in _find(references, lookup, inventories):
            if found:
                report.found[written] = str(found)
            else:
                report.missing.append(written)
    missing = [references[written] for written in report.missing]
    _suggest_prefix([each for each in missing if not lookup.repositories(each)], lookup, prefix, report.problems)
    report.seconds = time.monotonic() - started
    return report


def _find(
    references: dict[str, FullReference], lookup: Lookup, inventories: Inventories
) -> Iterator[tuple[str, Reference | None]]:
    inventory_of = cache(inventories.of)
    for written, reference in references.items():
        candidates = (_found(reference, inventory_of(name), inventories) for name in lookup.repositories(reference))
        yield written, next(filter(None, candidates), None)


def _found(reference: FullReference, inventory: Inventory, inventories: Inventories) -> Reference | None:
    """Return what a repository has for a reference. None: nothing, or not all of it."""
    digest = reference.digest
    if reference.tag and reference.tag in inventory.tags:
        digest = inventory.tags[reference.tag].digest
    if digest is None or not inventories.is_whole(inventory, digest):
        return None
    return Reference(inventory.name, reference.tag, digest)


def _read(path: str, problems: Problems) -> dict[str, FullReference]:
    """Return the references of a file, as they are written there; other lines are faults."""
    references = {}
    with _opened(path) as file:
        for line in read_references(file):
            if line.reference:
                references[line.text] = line.reference
            else:
                what = f"{line.text!r:.160} is not a reference: {line.what}"
                problems.fault(f"{path}:{line.number}", "reference", what, _REMEDY, "FILE")
    if not references and not problems.faults:
        problems.warning(path, "empty", "names no image", "see that what wrote it did not fail", "FILE")
    return references


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    try:
        with open(
            0 if path == STDIN else path, encoding="utf-8", errors="backslashreplace", closefd=path != STDIN
        ) as file:
            yield file
    except OSError as error:
        raise UsageError(f"--missing: cannot read {printable(path)}: {error.strerror}") from error


def _suggest_prefix(missing: Iterable[FullReference], lookup: Lookup, prefix: str, problems: Problems) -> None:
    """Warn where references would be found below a prefix that was not given."""
    if prefix or not (found := lookup.prefix_of(missing)):
        return
    start, number = found
    what = f"has repositories of {count(number, 'reference')} that are missing without this prefix"
    remedy = f"if clients are configured with it, give --name-prefix {start}"
    problems.warning(f"{paths.REGISTRY}/{start}", "prefix", what, remedy, "SITE")
