"""Compare the plan of a site with what is there. Asks directories for their entries, and changes nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from scr_export.fs.file import COARSEST_CLOCK, SourceFile
from scr_export.oci.digest import Digest
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.repository import Keep
from scr_export.site import paths
from scr_export.site.entries import (
    Entry,
    GeneratedFile,
    Kind,
    ManifestDirectory,
    Observed,
    ObservedDirectory,
    PagesDirectory,
    PlannedDirectory,
    Symlink,
    walk_order,
)
from scr_export.site.paths import Part
from scr_export.site.roles import Role, role_of

_NO_ENTRIES: Mapping[str, Entry] = {}
_PUBLIC_DIRECTORY = stat.S_IROTH | stat.S_IXOTH
_KIND_OF_ROLE = {Role.BLOB: Kind.FILE, Role.MANIFEST: Kind.DIRECTORY, Role.INDEX: Kind.DIRECTORY, Role.TAG: Kind.LINK}


class Change(NamedTuple):
    """An entry to make. `replaces` is the kind of what has the name now."""

    directory: str
    name: str
    entry: Entry
    role: Role
    replaces: Kind | None = None


class Removal(NamedTuple):
    """An entry that the plan does not have. `is_sound`: content whose bytes have the digest of its name."""

    directory: str
    name: str
    kind: Kind
    role: Role
    is_sound: bool = True

    @property
    def path(self) -> str:
        """The path below SITE."""
        return f"{self.directory}/{self.name}".lstrip("/")

    @property
    def is_opaque(self) -> bool:
        """Whether it goes with all that is in it. Any other directory has become empty before it goes."""
        return self.kind is not Kind.DIRECTORY or paths.is_opaque(self.directory, self.name)


class TagChange(NamedTuple):
    """A tag that appears (no `before`), moves, or goes (no `after`)."""

    repository: RepositoryName
    tag: Tag
    before: ManifestName | None
    after: ManifestName | None


@dataclass(slots=True)
class Changes:
    """Everything that turns the site into the plan.

    `remove` has inner entries before outer ones. `chmod` has directories that a web server cannot enter.
    `unreferenced` has the content that stays for the grace period, with the time since when nothing refers to it, in
    seconds since 1970. `copies` are files of the site itself, by digest. `tags_before` counts the site's tags.
    """

    make: list[Change] = field(default_factory=list)
    remove: list[Removal] = field(default_factory=list)
    chmod: list[str] = field(default_factory=list)
    tags: list[TagChange] = field(default_factory=list)
    tags_before: int = 0
    unchanged: int = 0
    unreferenced: dict[str, float] = field(default_factory=dict)
    copies: dict[Digest, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.make or self.remove or self.chmod)

    @property
    def content_size(self) -> int:
        """How many bytes of content are to be linked or copied."""
        return sum(file.size for change in self.make if (file := _file_of(change.entry)))


class Files(Protocol):
    """What the destination knows of files.

    `looked_at` is when the last export that changed the site had ended, in nanoseconds since 1970. A directory that was
    not changed since holds what it held then.
    """

    looked_at: int

    def can_link(self, source: SourceFile) -> bool:
        """Tell whether this file of IMAGES can have another name in the site."""

    def prove(self, file: SourceFile) -> bool:
        """Tell whether a file of the site holds its digest; it is read where that is not known."""


def compare(planned: Iterable[PlannedDirectory], observed: Iterable[ObservedDirectory], files: Files) -> Changes:
    """Compare two streams of directories, both in `walk_order`. What the plan lacks is in `remove`."""
    comparison = _Comparison(files)
    rest = iter(planned)
    following = next(rest, None)
    for directory in observed:
        position = walk_order(directory.path)
        while following and walk_order(following.path) < position:
            comparison.missing(following)
            following = next(rest, None)
        if following and following.path == directory.path:
            comparison.directory(directory, following.entries)
            following = next(rest, None)
        else:
            comparison.directory(directory, _NO_ENTRIES)
    while following:
        comparison.missing(following)
        following = next(rest, None)
    return comparison.finish()


class _Comparison:
    def __init__(self, files: Files) -> None:
        self.files = files
        self.changes = Changes()
        self.needed = {paths.REGISTRY}  # planned directories that came so far, and those above them

    def missing(self, planned: PlannedDirectory) -> None:
        """Everything of a planned directory that does not exist has to be made."""
        self._need(planned.path)
        for name, entry in planned.entries.items():
            if not isinstance(entry, Keep):
                self._make(planned.path, name, entry)

    def directory(self, directory: ObservedDirectory, wanted: Mapping[str, Entry]) -> None:
        """Compare the entries of one directory."""
        if wanted:
            self._need(directory.path)
        if directory.path and not directory.is_public:
            self.changes.chmod.append(directory.path)
        for name, entry in wanted.items():
            self._entry(directory, name, entry)
        for name, observed in directory.entries.items():
            if name not in wanted and f"{directory.path}/{name}" not in self.needed:
                self._remove(directory, name, observed)

    def finish(self) -> Changes:
        # What lies in a directory that is replaced goes with it.
        replaced = tuple(f"{c.directory}/{c.name}/" for c in self.changes.make if c.replaces is Kind.DIRECTORY)
        if replaced:
            self.changes.remove = [r for r in self.changes.remove if not f"{r.directory}/".startswith(replaced)]
            self.changes.chmod = [path for path in self.changes.chmod if not f"{path}/".startswith(replaced)]
        gone = {removal.path for removal in self.changes.remove}
        self.changes.chmod = [path for path in self.changes.chmod if path not in gone]
        return self.changes

    def _need(self, path: str) -> None:
        while path and path not in self.needed:
            self.needed.add(path)
            path = path.rpartition("/")[0]

    def _entry(self, directory: ObservedDirectory, name: str, entry: Entry) -> None:
        observed = directory.entries.get(name)
        if isinstance(entry, Symlink) and paths.place(directory.path).part is Part.MANIFESTS:
            self._tag(directory, name, entry, observed)
        elif isinstance(entry, Keep) or (observed and self._is_as_planned(directory, name, observed, entry)):
            self.changes.unchanged += 1
        else:
            self._make(directory.path, name, entry, observed.kind if observed else None)

    def _tag(self, directory: ObservedDirectory, name: str, entry: Symlink, observed: Observed | None) -> None:
        before = directory.target(name) if observed and observed.kind is Kind.LINK else None
        if before == entry.target:
            self.changes.unchanged += 1
            self.changes.tags_before += 1
        else:
            self._make(directory.path, name, entry, observed.kind if observed else None, before)

    def _make(
        self, directory: str, name: str, entry: Entry, replaces: Kind | None = None, before: str | None = None
    ) -> None:
        role = role_of(directory, name)
        self.changes.make.append(Change(directory, name, entry, role, replaces))
        if role is Role.TAG and isinstance(entry, Symlink):
            self._note_tag(directory, name, before, ManifestName.parse(entry.target))

    def _remove(self, directory: ObservedDirectory, name: str, observed: Observed) -> None:
        role = role_of(directory.path, name)
        if _KIND_OF_ROLE.get(role, observed.kind) is not observed.kind:
            role = Role.OTHER
        is_sound = True
        if role is Role.TAG:
            self._note_tag(directory.path, name, directory.target(name), None)
        elif role is Role.BLOB:
            is_sound = self._is_sound_blob(directory, name)
        elif role in (Role.MANIFEST, Role.INDEX):
            is_sound = _is_sound_manifest(directory, ManifestName(name))
        self.changes.remove.append(Removal(directory.path, name, observed.kind, role, is_sound))

    def _note_tag(self, directory: str, name: str, before: str | None, after: ManifestName | None) -> None:
        repository = paths.place(directory).name
        known = ManifestName(before) if before and paths.is_manifest_name(before) else None
        self.changes.tags_before += known is not None
        if repository and (known or after):
            self.changes.tags.append(TagChange(repository, Tag(name), known, after))

    def _is_sound_blob(self, directory: ObservedDirectory, name: str) -> bool:
        status = directory.status(name)
        return status is not None and self.files.prove(SourceFile.of(Digest(name), directory.path, name, status))

    def _is_as_planned(self, directory: ObservedDirectory, name: str, observed: Observed, entry: Entry) -> bool:
        match entry:
            case SourceFile():
                return observed.kind is Kind.FILE and self._is_blob(directory, name, observed, entry)
            case ManifestDirectory(file):
                return observed.kind is Kind.DIRECTORY and self._is_manifest(directory, name, file)
            case Symlink(target):
                return observed.kind is Kind.LINK and directory.target(name) == target
            case GeneratedFile(data):
                return observed.kind is Kind.FILE and directory.holds(name, data)
            case PagesDirectory():
                return observed.kind is Kind.DIRECTORY and _are_pages_in_use(directory, name)
            case Keep():
                return True

    def _is_blob(self, directory: ObservedDirectory, name: str, observed: Observed, source: SourceFile) -> bool:
        if self.files.can_link(source):
            return observed.inode == source.inode  # what the listing says is enough
        status = directory.status(name)
        if status is None or status.st_size != source.size or not status.st_mode & stat.S_IROTH:
            return False
        file = SourceFile.of(source.digest, directory.path, name, status)
        if not self.files.prove(file):
            return False
        self.changes.copies.setdefault(file.digest, file.path)
        return True

    def _is_manifest(self, directory: ObservedDirectory, name: str, source: SourceFile) -> bool:
        status, path = directory.status(name), f"{directory.path}/{name}"
        if status and status.st_mode & _PUBLIC_DIRECTORY != _PUBLIC_DIRECTORY:
            self.changes.chmod.append(path)
        if status is None or status.st_mtime_ns > self.files.looked_at - COARSEST_CLOCK:
            strays = [stray for stray in directory.names_in(name) if stray != name]
            self.changes.remove += [Removal(path, stray, Kind.OTHER, Role.OTHER) for stray in strays]
        status = directory.status(f"{name}/{name}")
        if status is None or not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IROTH:
            return False
        if self.files.can_link(source):
            return status.st_ino == source.inode
        if status.st_size != source.size or not _is_sound_manifest(directory, ManifestName(name)):
            return False
        self.changes.copies.setdefault(source.digest, f"{path}/{name}")
        return True


def _file_of(entry: Entry) -> SourceFile | None:
    if isinstance(entry, ManifestDirectory):
        return entry.file
    return entry if isinstance(entry, SourceFile) else None


def _is_sound_manifest(directory: ObservedDirectory, name: ManifestName) -> bool:
    try:
        return Digest.of(directory.manifest(name), name.digest.algorithm) == name.digest
    except (OSError, ValueError):
        return False


def _are_pages_in_use(directory: ObservedDirectory, name: str) -> bool:
    # The name says what is in the directory, but only when it was taken into use was all of it on the disk.
    if directory.target(paths.PAGES) != name:
        return False
    status, whole = directory.status(name), directory.status(f"{name}/{paths.ALL}")
    if status is None or status.st_mode & _PUBLIC_DIRECTORY != _PUBLIC_DIRECTORY:
        return False
    return whole is not None and bool(whole.st_mode & stat.S_IROTH)


def apply_grace_period(changes: Changes, unreferenced: Mapping[str, float], now: float, grace: float) -> list[Removal]:
    """Defer the removal of content until nothing has referred to it for `grace` seconds, so that pulls can finish.

    `unreferenced` is what the last export noted. A time in it that is ahead of `now`, after the clock was set back,
    counts as now. Damaged content goes at once; it is returned.
    """
    due, damaged = [], []
    for removal in changes.remove:
        since = min(unreferenced.get(removal.path, now), now)
        if removal.role.is_pulled_by_digest and not removal.is_sound:
            damaged.append(removal)
        elif removal.role.is_pulled_by_digest and since + grace > now:
            changes.unreferenced[removal.path] = since
            continue
        due.append(removal)
    occupied: set[str] = set()
    for path in changes.unreferenced:
        while path := path.rpartition("/")[0]:
            occupied.add(path)
    changes.remove = [removal for removal in due if removal.path not in occupied]
    return damaged
