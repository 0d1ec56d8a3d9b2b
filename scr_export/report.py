"""What an export did: the same facts as text and as JSON."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scr_export.images.signatures import Signed
from scr_export.problems import Problem, Problems, by_place
from scr_export.publish.directory.publish import Transfer
from scr_export.publish.directory.tree import Placement
from scr_export.site import paths
from scr_export.site.compare import Changes, Removal, TagChange
from scr_export.site.entries import Kind
from scr_export.site.roles import Role
from scr_export.text import count, duration, printable, size

SCHEMA = 1  # of every JSON document; it counts up when a key goes or changes its meaning

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@:,-]+")  # needs no quotes in a server's configuration
_NO_FACTS = {"problems", "details"}

_NOUNS = {Role.TAG: "tag", Role.MANIFEST: "manifest", Role.INDEX: "manifest", Role.BLOB: "blob"}
_NOUNS |= {Role.SIGNATURE: "signature", Role.REFERRERS: "list", Role.SNIPPET: "snippet", Role.OTHER: "other"}
_NOUNS |= {Role.INDEX_PAGE: "index page", Role.IMAGES_TXT: "image list"}
_ORDER = ("tag", "manifest", "blob", "list", "signature", "snippet", "index page", "image list", "other")


class Result:
    """What a command reports, and how it is printed."""

    __slots__ = ()
    problems: Problems

    @property
    def details(self) -> Sequence[str]:
        """Lines that stand before the report with `--verbose`."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Lines that stand on standard error with `--verbose`."""
        return ()

    def as_json(self) -> str:
        """Return one JSON document."""
        return facts_as_json(self)

    def text(self, *, verbose: bool) -> str:
        """Return what is printed on standard output."""
        return "\n".join([*(self.details if verbose else ()), str(self)])

    @property
    def brief(self) -> str:
        """What is printed on standard output with `--quiet`."""
        return ""

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        return 1 if self.problems.faults else 0


@dataclass(slots=True)
class Report(Result):
    """The facts of one export.

    `size` and `hashed` are in bytes: all content that clients can pull, each digest once, and what was read for its
    digest. `seconds` is a duration, `unreferenced_until` in seconds since 1970. `added`, `changed` and `removed` count
    by noun. `is_first`: the site was made.
    """

    site: str
    dry_run: bool = False
    repositories: int = 0
    images: int = 0
    tags: int = 0
    size: int = 0
    signed: Signed = field(default_factory=Signed)
    tag_changes: list[TagChange] = field(default_factory=list)
    added: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    made_public: int = 0
    transfer: Transfer = field(default_factory=Transfer)
    hashed: int = 0
    unreferenced: int = 0
    unreferenced_until: float = 0
    seconds: float = 0
    has_changes: bool = False
    is_first: bool = False
    problems: Problems = field(default_factory=Problems)

    def describe(self, changes: Changes, grace: float) -> None:
        """Take over what is to be done. `grace` is in seconds."""
        self.has_changes = bool(changes)
        self.unchanged = changes.unchanged
        self.tag_changes = sorted(changes.tags, key=lambda each: (each.repository, each.tag))
        self.made_public = len(changes.chmod)
        for change in changes.make:
            if noun := _noun(change.role, change.name):
                (self.changed if change.replaces else self.added)[noun] += 1
        self.removed.update(noun for removal in changes.remove if (noun := _noun_of_removal(removal)))
        self.unreferenced = len(changes.unreferenced)
        self.unreferenced_until = max(changes.unreferenced.values(), default=-grace) + grace

    def as_json(self) -> str:
        """Return one JSON document."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "site": self.site,
            "dry_run": self.dry_run,
            "repositories": self.repositories,
            "images": self.images,
            "tags": self.tags,
            "size": self.size,
            "signed": {"cosign": self.signed.cosign, "simple": self.signed.simple},
            "tag_changes": _tag_changes(self.tag_changes),
            "added": _counts(self.added),
            "changed": _counts(self.changed),
            "removed": _counts(self.removed),
            "unchanged": self.unchanged,
            "files": {placement.value: self.transfer.files[placement] for placement in Placement},
            "bytes": {placement.value: self.transfer.sizes[placement] for placement in Placement},
            "why_copied": dict(self.transfer.why_copied),
            "hashed": self.hashed,
            "unreferenced": {"count": self.unreferenced, "until": self.unreferenced_until},
            "seconds": round(self.seconds, 3),
            **problems_as_dict(self.problems),
        }
        return json.dumps(document, indent=2)

    @property
    def details(self) -> Sequence[str]:
        """A line for each tag that appears, moves or goes."""
        return [_line_of_tag(change) for change in self.tag_changes]

    def __str__(self) -> str:
        lines = [
            f"{printable(self.site)}: {count(self.images, 'image')} in {count(self.repositories, 'repository')}, "
            f"{count(self.tags, 'tag')}" + (" (dry run: nothing is written)" if self.dry_run else "")
        ]
        if self.signed:
            cosign, simple = count(self.signed.cosign, "image"), self.signed.simple
            lines.append(f"  signed   {cosign} by cosign, {simple:,} by simple signatures")
        for word, counts in (("added", self.added), ("changed", self.changed), ("removed", self.removed)):
            if counts:
                lines.append(f"  {word:9}" + ", ".join(count(counts[noun], noun) for noun in _ORDER if counts[noun]))
        if self.made_public:
            lines.append(f"  mended   {count(self.made_public, 'directory')} that a web server could not enter")
        if not (self.added or self.changed or self.removed or self.made_public):
            lines.append("  nothing changed")
        lines += self._placements()
        if self.unreferenced:
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.unreferenced_until))
            files = count(self.unreferenced, "unreferenced file")
            lines.append(f"  waiting  {files}, kept for running pulls; the first export after {until} removes them")
        content, hashed = f"{size(self.size)} to pull, each digest once", f"{size(self.hashed)} hashed"
        lines.append(f"  in all   {content}; {hashed}; {duration(self.seconds)}")
        if self.is_first and not self.dry_run:
            lines.append(f"  next     {_how_to_serve(self.site)}")
        return "\n".join(lines)

    def _placements(self) -> Iterable[str]:
        transfer = self.transfer
        for placement in Placement:
            if transfer.files[placement]:
                files, amount = count(transfer.files[placement], "file"), size(transfer.sizes[placement])
                yield f"  {placement.value:9}{files}, {amount}"
        for reason, number in transfer.why_copied.items():
            yield f"           not linked: {count(number, 'file')}: {reason}"


def _how_to_serve(site: str) -> str:
    """Return what makes a web server serve the new site: for nginx a line that can be pasted."""
    path = os.path.abspath(site)
    if not _PLAIN_PATH.fullmatch(path):
        return 'serve it; see "Serve" in README.md'
    line = f"server {{ listen 8080; root {path}; include {path}/{paths.SNIPPETS[0]}; }}"
    return f'serve it; nginx: {line}  (more: "Serve" in README.md)'


def _noun(role: Role, name: str) -> str | None:
    """What an entry counts as; a list counts once, by the link to its pages."""
    if role in (Role.LIST, Role.CATALOG):
        return "list" if name == paths.PAGES else None
    return _NOUNS.get(role)


def _noun_of_removal(removal: Removal) -> str | None:
    return None if removal.kind is Kind.DIRECTORY and not removal.is_opaque else _noun(removal.role, removal.name)


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {f"{noun}s": counts[noun] for noun in _ORDER[:4]} | {"other": sum(counts[noun] for noun in _ORDER[4:])}


def _line_of_tag(change: TagChange) -> str:
    name = f"{change.repository}:{change.tag}"
    if change.after is None:
        return f"- {name}"
    if change.before is None:
        return f"+ {name} {change.after.digest}"
    return f"~ {name} {change.before.digest} -> {change.after.digest}"


def _tag_changes(changes: Iterable[TagChange]) -> dict[str, list[dict[str, str | None]]]:
    added: list[dict[str, str | None]] = []
    moved: list[dict[str, str | None]] = []
    removed: list[dict[str, str | None]] = []
    for change in changes:
        name = f"{change.repository}:{change.tag}"
        before, after = (each.digest if each else None for each in (change.before, change.after))
        if after is None:
            removed.append({"name": name, "digest": before})
        elif before is None:
            added.append({"name": name, "digest": after})
        else:
            moved.append({"name": name, "from": before, "to": after})
    return {"added": added, "moved": moved, "removed": removed}


def facts_as_json(report: Any) -> str:
    """Return the JSON document of a report whose fields are the facts, but for `problems` and `details`."""
    facts = {"schema": SCHEMA} | {key: value for key, value in asdict(report).items() if key not in _NO_FACTS}
    return json.dumps(facts | {"seconds": round(report.seconds, 3)} | problems_as_dict(report.problems), indent=2)


def problems_as_dict(problems: Problems) -> dict[str, Any]:
    """Return the two lists of a JSON document."""

    def listed(found: Iterable[Problem]) -> list[dict[str, str]]:
        return [
            {"in": p.origin, "path": p.path, "code": p.code, "what": p.what, "remedy": p.remedy}
            for p in by_place(found)
        ]

    return {"faults": listed(problems.faults), "warnings": listed(problems.warnings)}
