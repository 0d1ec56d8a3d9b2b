"""What must happen to a site: the plan held against what is there. It asks of directories, and changes nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scr_export.images.content import Content
from scr_export.oci.digest import Digest
from scr_export.site import paths
from scr_export.site.observe import Directory, Kind, Seen
from scr_export.site.plan import AsServed, Entry, Head, Pages, Plan, Pointer, Text


class Change(NamedTuple):
    """An entry to make. `over` is the kind of what stands there now, None where nothing does."""

    directory: str
    name: str
    entry: Entry
    over: Kind | None = None


class Removal(NamedTuple):
    """Something that the plan does not have."""

    directory: str
    name: str
    kind: Kind

    @property
    def path(self) -> str:
        """Relative to SITE."""
        return f"{self.directory}/{self.name}"

    @property
    def is_content(self) -> bool:
        """Whether a pull in flight may still ask for it by its digest."""
        if self.kind is Kind.FILE:
            return paths.is_blob(self.directory, self.name)
        return self.kind is Kind.DIRECTORY and paths.is_head(self.directory, self.name)

    @property
    def is_whole(self) -> bool:
        """Whether it goes with all that is in it; another directory has become empty before it goes."""
        return self.kind is not Kind.DIRECTORY or paths.is_whole(self.directory, self.name)


@dataclass(slots=True)
class Changes:
    """All that turns the site into the plan. `remove` has the inner things first."""

    make: list[Change] = field(default_factory=list)
    keep: int = 0
    remove: list[Removal] = field(default_factory=list)
    waiting: dict[str, float] = field(default_factory=dict)  # path -> when the plan let go of it, seconds since 1970
    copies: dict[Digest, str] = field(default_factory=dict)  # content that the site has in a file of its own

    def __bool__(self) -> bool:
        return bool(self.make or self.remove)


@dataclass(frozen=True, slots=True)
class Linking:
    """Which files can be hard links: those of the site's own file system that the system did not refuse before."""

    device: int
    refused: set[str] = field(default_factory=set)  # Content.identity; publishing adds to it

    def can(self, content: Content) -> bool:
        """Whether this file can stand in the site itself, rather than a copy of it."""
        if content.device != self.device or not content.readable:
            return False
        return not self.refused or content.identity not in self.refused


def compare(plan: Plan, directories: Iterable[Directory], linking: Linking) -> Changes:
    """Hold every directory of the site against the plan; whatever the plan lacks is in `remove`."""
    changes = Changes()
    ways = _ways(plan)
    met = set()
    for directory in directories:
        met.add(directory.path)
        wanted = plan.get(directory.path, {})
        for name, entry in wanted.items():
            _compare_entry(changes, directory, name, entry, linking)
        for name, seen in directory.entries.items():
            if name not in wanted and f"{directory.path}/{name}" not in ways:
                changes.remove.append(Removal(directory.path, name, seen.kind))
    for path in plan.keys() - met:
        missing = ((name, entry) for name, entry in plan[path].items() if not isinstance(entry, AsServed))
        changes.make += [Change(path, name, entry) for name, entry in missing]
    replaced = tuple(f"{c.directory}/{c.name}/" for c in changes.make if c.over is Kind.DIRECTORY)
    changes.remove = [r for r in changes.remove if not f"{r.directory}/".startswith(replaced)]
    return changes


def _ways(plan: Plan) -> set[str]:
    """Every directory that the plan needs, those on the way included."""
    ways = {paths.REGISTRY}
    for path in plan:
        while path and path not in ways:
            ways.add(path)
            path = path.rpartition("/")[0]
    return ways


def _compare_entry(changes: Changes, directory: Directory, name: str, entry: Entry, linking: Linking) -> None:
    seen = directory.entries.get(name)
    if isinstance(entry, AsServed):
        return
    if seen is None:
        changes.make.append(Change(directory.path, name, entry))
    elif _is_as_planned(changes, directory, name, seen, entry, linking):
        changes.keep += 1
    else:
        changes.make.append(Change(directory.path, name, entry, seen.kind))


def _is_as_planned(
    changes: Changes, directory: Directory, name: str, seen: Seen, entry: Entry, linking: Linking
) -> bool:
    match entry:
        case Content():
            if seen.kind is Kind.FILE and seen.inode == entry.inode and linking.can(entry):
                return True  # what the listing says is enough: nothing need be looked at
            return seen.kind is Kind.FILE and _is_content(changes, directory, name, entry, linking)
        case Head(content):
            inner = f"{name}/{name}"
            return seen.kind is Kind.DIRECTORY and _is_content(changes, directory, inner, content, linking)
        case Pointer(target):
            return seen.kind is Kind.LINK and directory.target(name) == target
        case Text(data):
            return seen.kind is Kind.FILE and directory.holds(name, data)
        case Pages():
            # Its name tells what is in it, but only when it is in use was all of it on the disk.
            return seen.kind is Kind.DIRECTORY and directory.target(paths.PAGES) == name
        case AsServed():
            return True


def _is_content(changes: Changes, directory: Directory, name: str, content: Content, linking: Linking) -> bool:
    status = directory.status(name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    if linking.can(content):
        return status.st_ino == content.inode
    # It can only be a copy, and a copy took this name when all its bytes had been found right.
    if status.st_size != content.size or not status.st_mode & stat.S_IROTH:
        return False
    changes.copies.setdefault(content.digest, f"{directory.path}/{name}")
    return True


def hold_back(changes: Changes, released: Mapping[str, float], now: float, grace: float) -> None:
    """Leave content that nothing names any more to pulls in flight, until `grace` seconds after it was let go of.

    `released` is what the last export noted. A time of it that lies ahead, after a clock was set back, counts as now.
    """
    due = []
    for removal in changes.remove:
        since = min(released.get(removal.path, now), now)
        if removal.is_content and since + grace > now:
            changes.waiting[removal.path] = since
        else:
            due.append(removal)
    full = _ways({path.rpartition("/")[0]: {} for path in changes.waiting})
    changes.remove = [r for r in due if r.path not in full]
