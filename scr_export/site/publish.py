"""Making a site what the plan says, so that at every instant whatever it answers can be pulled whole.

Content comes before what names it: blobs, manifests, referrers, tags, lists. What goes, goes the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scr_export.images.content import Content
from scr_export.oci.digest import Digest
from scr_export.site import pages, paths
from scr_export.site.changes import Change, Changes, Linking, Removal
from scr_export.site.files import How, Tree, cannot_link
from scr_export.site.observe import Kind
from scr_export.site.plan import Head, Pages, Pointer, Text


class Publisher:
    """Carries out changes. `how` counts files and `bytes` their bytes, by the way in which they came into the site."""

    def __init__(self, tree: Tree, linking: Linking, copies: dict[Digest, str]) -> None:
        self.how: Counter[How] = Counter()
        self.bytes: Counter[How] = Counter()
        self._tree = tree
        self._linking = linking
        self._copies = dict(copies)

    def publish(self, changes: Changes) -> None:
        """Make all that is to be made and remove all that is to be removed, in the order that loses nothing.

        A power cut loses nothing either: before anything that is served changes, what it changes to is on the disk, and
        before content goes, that no name leads to it is.
        """
        new, served, names = _in_order(changes.make)
        gone, unnamed = _names_first(changes.remove)
        self._make_all(new)
        if served or names:
            self._tree.settle()
        self._make_all(served)
        self._make_all(names)
        self._remove_all(gone)
        if unnamed:
            self._tree.settle()
        self._remove_all(unnamed)

    def _make_all(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._make(change)

    def _remove_all(self, removals: Iterable[Removal]) -> None:
        for removal in removals:
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
                self._tree.write(data, directory, name, free=over is None)
            case Pages(listing):
                self._tree.fill_directory(pages.files(listing), directory, name)

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
        if removal.is_whole:
            self._tree.remove(removal.directory, removal.name)
        else:
            self._tree.remove_directory(removal.directory, removal.name)


def _in_order(changes: Iterable[Change]) -> tuple[list[Change], list[Change], list[Change]]:
    """New content, content that takes the place of what is served, and the links that name content."""
    new, served, names = [], [], []
    for change in changes:
        if isinstance(change.entry, Pointer):
            names.append(change)
        elif change.over is None or isinstance(change.entry, Pages):  # pages that are made anew are in no use
            new.append(change)
        else:
            served.append(change)
    # In a repository `blobs` sort before `manifests`, and there an index comes after what it lists.
    for content in (new, served):
        content.sort(key=lambda change: (change.directory, paths.is_index(change.name)))
    # Tags are in `manifests`, lists in `tags`. The catalog comes last, and a way to pages before what leads through it.
    names.sort(key=lambda change: (change.directory == paths.REGISTRY, change.directory, change.name != paths.PAGES))
    return new, served, names


def _names_first(removals: Iterable[Removal]) -> tuple[list[Removal], list[Removal]]:
    """What names, lists first, and then what was named. Directories that became empty came the inner ones first."""

    def rank(removal: Removal) -> int:
        if removal.is_content and removal.kind is Kind.DIRECTORY:
            return 3 if paths.is_index(removal.name) else 4
        if removal.is_content:
            return 5
        if removal.kind is Kind.DIRECTORY:
            return 6
        if removal.name in (paths.TAG_LIST, paths.PAGES):
            return 0
        return 1 if removal.kind is Kind.LINK else 2

    ordered = sorted(removals, key=rank)
    count = sum(rank(removal) < 3 for removal in ordered)
    return ordered[:count], ordered[count:]
