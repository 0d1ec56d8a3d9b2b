"""What an export did: the same facts as text and as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from scr_export.errors import Fault, Findings, printable
from scr_export.images.content import Content
from scr_export.site import paths
from scr_export.site.changes import Change, Changes, Removal
from scr_export.site.files import How
from scr_export.site.observe import Kind
from scr_export.site.plan import Head, Pointer, Text
from scr_export.site.verify import Checked


@dataclass(slots=True)
class Report:
    """The facts of one export. `waiting_until` is in seconds since 1970, `seconds` is a duration."""

    site: str
    dry_run: bool = False
    repositories: int = 0
    images: int = 0
    tags: int = 0
    added: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    files: Counter[How] = field(default_factory=Counter)
    bytes: Counter[How] = field(default_factory=Counter)
    hashed: int = 0
    waiting: int = 0
    waiting_until: float = 0
    seconds: float = 0
    findings: Findings = field(default_factory=Findings)

    def count(self, changes: Changes, grace: float) -> None:
        """Take over what is to be done."""
        self.kept = changes.keep
        for change in changes.make:
            if kind := _kind_of_change(change):
                (self.changed if change.over else self.added)[kind] += 1
        self.removed.update(kind for removal in changes.remove if (kind := _kind_of_removal(removal)))
        self.waiting = len(changes.waiting)
        self.waiting_until = max(changes.waiting.values(), default=0) + grace if changes.waiting else 0

    def as_json(self) -> str:
        """One JSON document."""
        document: dict[str, Any] = {
            "site": self.site,
            "dry_run": self.dry_run,
            "repositories": self.repositories,
            "images": self.images,
            "tags": self.tags,
            "added": _every(self.added),
            "changed": _every(self.changed),
            "removed": _every(self.removed),
            "kept": self.kept,
            "files": {how.value: self.files[how] for how in How},
            "bytes": {how.value: self.bytes[how] for how in How},
            "hashed": self.hashed,
            "waiting": {"entries": self.waiting, "until": self.waiting_until},
            "seconds": round(self.seconds, 3),
            **findings_as_dict(self.findings),
        }
        return json.dumps(document, indent=2)

    def __str__(self) -> str:
        lines = [
            f"{printable(self.site)}: {_many(self.images, 'image')} in {_many(self.repositories, 'repository')}, "
            f"{_many(self.tags, 'tag')}" + (" (dry run: nothing is written)" if self.dry_run else "")
        ]
        for word, counts in (("added", self.added), ("changed", self.changed), ("removed", self.removed)):
            if counts:
                lines.append(f"  {word:9}" + ", ".join(_many(counts[kind], kind) for kind in _KINDS if counts[kind]))
        if not (self.added or self.changed or self.removed):
            lines.append("  nothing changed")
        for how in How:
            if self.files[how]:
                lines.append(f"  {how.value:9}{_many(self.files[how], 'file')}, {amount(self.bytes[how])}")
        if self.waiting:
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.waiting_until))
            waiting = _many(self.waiting, "unnamed file")
            lines.append(f"  waiting  {waiting} for pulls in flight; the first export after {until} removes them")
        lines.append(f"  hashed   {amount(self.hashed)}; {self.seconds:.2f} s in all")
        return "\n".join(lines)


@dataclass(slots=True)
class VerifyReport:
    """The facts of one check. `seconds` is a duration."""

    site: str
    checked: Checked
    findings: Findings
    seconds: float

    def as_json(self) -> str:
        """One JSON document."""
        document = {"site": self.site, **asdict(self.checked), "seconds": round(self.seconds, 3)}
        return json.dumps(document | findings_as_dict(self.findings), indent=2)

    def __str__(self) -> str:
        checked = self.checked
        counts = ", ".join(_many(getattr(checked, f"{kind}s"), kind) for kind in ("tag", "manifest", "blob"))
        verdict = _many(len(self.findings.faults), "fault") if self.findings.faults else "all sound"
        return (
            f"{printable(self.site)}: {_many(checked.repositories, 'repository')}, {counts}: {verdict}\n"
            f"  hashed   {amount(checked.bytes)}; {self.seconds:.2f} s in all"
        )


_KINDS = ("tag", "manifest", "blob", "list", "snippet", "other")


def _kind_of_change(change: Change) -> str | None:
    """What is counted; a list counts once, by the way to its pages."""
    match change.entry:
        case Content():
            return "blob"
        case Head():
            return "manifest"
        case Pointer(target) if paths.is_head(change.directory, target):
            return "tag"
        case Text() if not change.directory:
            return "snippet"
    return "list" if isinstance(change.entry, Text) or change.name == paths.PAGES else None


def _kind_of_removal(removal: Removal) -> str | None:
    if removal.is_content:
        return "manifest" if removal.kind is Kind.DIRECTORY else "blob"
    if removal.kind is Kind.LINK and removal.directory.endswith(f"/{paths.MANIFESTS}"):
        return "tag"
    if removal.kind is Kind.DIRECTORY or removal.name == paths.TAG_LIST:
        return None
    return "list" if removal.name == paths.PAGES or f"/{paths.REFERRERS}/" in removal.directory else "other"


def _every(counts: Counter[str]) -> dict[str, int]:
    return {f"{kind}s": counts[kind] for kind in _KINDS[:4]} | {"other": counts["snippet"] + counts["other"]}


def findings_as_dict(findings: Findings) -> dict[str, Any]:
    """The two lists of a JSON document."""

    def listed(faults: Iterable[Fault]) -> list[dict[str, str]]:
        return [{"path": f.path, "code": f.code, "what": f.what, "remedy": f.remedy} for f in faults]

    return {"faults": listed(findings.faults), "warnings": listed(findings.warnings)}


def _many(count: int, thing: str) -> str:
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing[:-1]}ies" if thing.endswith("ry") else f"{count:,} {thing}s"


def amount(count: int) -> str:
    """Bytes for people, in powers of ten."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
