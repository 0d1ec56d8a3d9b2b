"""Making a site what the plan says, so that at every instant whatever it answers can be pulled whole.

Content comes before what names it: blobs, manifests, tags, lists. What goes, goes the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scr_export.images.content import Content
from scr_export.oci.digest import Digest
from scr_export.site import paths
from scr_export.site.changes import Change, Changes, Linking, Removal
from scr_export.site.files import How, Tree, cannot_link
from scr_export.site.observe import Kind
from scr_export.site.plan import Head, Pointer, Text


class Publisher:
    """Carries out changes. `how` counts files and `bytes` their bytes, by the way in which they came into the site."""

    def __init__(self, tree: Tree, linking: Linking, copies: dict[Digest, str]) -> None:
        self.how: Counter[How] = Counter()
        self.bytes: Counter[How] = Counter()
        self._tree = tree
        self._linking = linking
        self._copies = dict(copies)

    def publish(self, changes: Changes) -> None:
        """Make all that is to be made and remove all that is to be removed, in the order that loses nothing."""
        for change in _ordered(changes.make):
            self._make(change)
        for removal in _last_first(changes.remove):
            self._remove(removal)

    def _make(self, change: Change) -> None:
        directory, name, entry, over = change
        match entry:
            case Content():
                self._place(entry, directory, name, free=over is None)
            case Head(content):
                self._tree.make_directory(directory, name)
                self._place(content, directory, f"{name}/{name}", free=over is None)
            case Pointer(target):
                self._tree.symlink(target, directory, name, free=over is None)
            case Text(data):
                self._tree.write(data, directory, name)

    def _place(self, content: Content, directory: str, name: str, *, free: bool) -> None:
        how = self._link(content, directory, name, free) or self._copy(content, directory, name, free)
        self.how[how] += 1
        self.bytes[how] += content.size

    def _link(self, content: Content, directory: str, name: str, free: bool) -> How | None:
        if not self._linking.can(content):
            return None
        try:
            self._tree.link(content, directory, name, free=free)
        except OSError as error:
            if not cannot_link(error):
                raise
            self._linking.refused.add(content.identity)
            return None
        return How.LINKED

    def _copy(self, content: Content, directory: str, name: str, free: bool) -> How:
        if path := self._copies.get(content.digest):
            try:
                self._tree.link_within(path, directory, name, free=free)
            except OSError as error:
                if not cannot_link(error):
                    raise
            else:
                return How.LINKED
        how = self._tree.copy(content, directory, name)
        self._copies[content.digest] = f"{directory}/{name}"
        return how

    def _remove(self, removal: Removal) -> None:
        if removal.kind is Kind.DIRECTORY and not removal.is_content:
            self._tree.remove_directory(removal.directory, removal.name)
        else:
            self._tree.remove(removal.directory, removal.name)


def _ordered(changes: Iterable[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: (_rank(change), change.directory, change.name))


def _rank(change: Change) -> int:
    match change.entry:
        case Content():
            return 0
        case Head():
            return 1
        case Pointer():
            return 2
    return 4 if change.name == paths.CATALOG else 3


def _last_first(removals: Iterable[Removal]) -> list[Removal]:
    # What names goes before what is named. The directories that became empty came the inner ones first.
    def rank(removal: Removal) -> int:
        if removal.is_content:
            return 2 if removal.kind is Kind.DIRECTORY else 3
        return {Kind.LINK: 1, Kind.DIRECTORY: 4}.get(removal.kind, 0)

    return sorted(removals, key=rank)
