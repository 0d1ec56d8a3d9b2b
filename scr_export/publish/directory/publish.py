"""Apply changes to a site so that at every instant each reference that it answers can be pulled completely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from scr_export.fs.file import SourceFile
from scr_export.fs.hashing import ignore
from scr_export.oci.digest import Digest
from scr_export.publish.directory.files import KnownFiles
from scr_export.publish.directory.tree import Placement, Tree, cannot_link, is_across_mounts
from scr_export.site import paths
from scr_export.site.compare import Change, Changes, Removal
from scr_export.site.documents import listing
from scr_export.site.entries import GeneratedFile, Kind, ManifestDirectory, PagesDirectory, Symlink
from scr_export.site.roles import Role


@dataclass(slots=True)
class Transfer:
    """What was placed in the site.

    `files` and `sizes` (in bytes) count by placement, `why_copied` counts files by the reason why they are no links.
    `verified` are the identities of copies, `copied` those of them that could be links without a mount between IMAGES
    and SITE, `link_refused` those of files of IMAGES that the system does not link.
    """

    files: Counter[Placement] = field(default_factory=Counter)
    sizes: Counter[Placement] = field(default_factory=Counter)
    why_copied: Counter[str] = field(default_factory=Counter)
    verified: set[bytes] = field(default_factory=set)
    copied: set[bytes] = field(default_factory=set)
    link_refused: set[bytes] = field(default_factory=set)


def publish(tree: Tree, changes: Changes, files: KnownFiles, advance: Callable[[int], None] = ignore) -> Transfer:
    """Apply changes in publication order. `advance` is called with the bytes of content that is placed.

    New content is synced before any tag or list changes; removed names are synced before content is deleted.
    """
    publisher = _Publisher(tree, files, changes.copies, advance)
    new, replaced, names = _in_order(changes.make)
    names_gone, content_gone = _names_first(changes.remove)
    for directory in changes.chmod:
        tree.make_public(directory)
    publisher.make(new)
    if replaced or names:
        tree.sync()
    publisher.make(replaced)
    publisher.make(names)
    publisher.remove(names_gone)
    if content_gone:
        tree.sync()
    publisher.remove(content_gone)
    return publisher.transfer


class _Publisher:
    def __init__(
        self, tree: Tree, files: KnownFiles, copies: dict[Digest, str], advance: Callable[[int], None]
    ) -> None:
        self.transfer = Transfer()
        self._tree = tree
        self._files = files
        self._copies = dict(copies)
        self._advance = advance

    def make(self, changes: Iterable[Change]) -> None:
        for directory, name, entry, _, replaces in changes:
            overwrite = replaces is not None
            match entry:
                case SourceFile():
                    self._place(entry, directory, name, overwrite)
                case ManifestDirectory(file):
                    self._tree.make_directory(directory, name)
                    self._place(file, directory, f"{name}/{name}", overwrite)
                case Symlink(target):
                    self._tree.symlink(target, directory, name, overwrite=overwrite)
                case GeneratedFile(data):
                    if name == paths.IMAGES_TXT and not directory:
                        self._tree.set_aside(paths.IMAGES_TXT_SIGNATURES)  # they are of what is replaced
                    # At the top of SITE, a file that a power cut left empty would pass for the operator's own.
                    self._tree.write(data, directory, name, overwrite=overwrite or not directory)
                case PagesDirectory(of):
                    self._tree.fill_directory(listing.files(of), directory, name)

    def remove(self, removals: Iterable[Removal]) -> None:
        for removal in removals:
            if removal.is_opaque:
                self._tree.remove(removal.directory, removal.name)
            else:
                self._tree.remove_directory(removal.directory, removal.name)

    def _place(self, file: SourceFile, directory: str, name: str, overwrite: bool) -> None:
        placement = self._link(file, directory, name, overwrite) or self._copy(file, directory, name, overwrite)
        self.transfer.files[placement] += 1
        self.transfer.sizes[placement] += file.size

    def _link(self, file: SourceFile, directory: str, name: str, overwrite: bool) -> Placement | None:
        if not self._files.can_link(file):
            return None
        try:
            self._tree.link(file, directory, name, overwrite=overwrite)
        except OSError as error:
            if not cannot_link(error):
                raise
            self._refuse(file, error)
            return None
        self._advance(file.size)
        return Placement.LINKED

    def _refuse(self, file: SourceFile, error: OSError) -> None:
        if is_across_mounts(error):
            self._files.can_link_at_all = False  # true of every file, and perhaps not of the next run
        else:
            self._files.link_refused.add(file.identity)
            self.transfer.link_refused.add(file.identity)

    def _copy(self, file: SourceFile, directory: str, name: str, overwrite: bool) -> Placement:
        if path := self._copies.get(file.digest):
            try:
                self._tree.link_within(path, directory, name, overwrite=overwrite)
            except OSError as error:
                if not cannot_link(error):
                    raise
            else:
                self._advance(file.size)
                return Placement.LINKED
        placement, copy = self._tree.copy(file, directory, name, self._advance)
        self._copies[file.digest] = copy.path
        self.transfer.verified.add(copy.identity)
        self.transfer.why_copied[self._why(file)] += 1
        if file.device == self._files.device and not self._files.can_link_at_all:
            self.transfer.copied.add(copy.identity)
        return placement

    def _why(self, file: SourceFile) -> str:
        if file.device != self._files.device:
            return "IMAGES and SITE are on two file systems"
        if not file.is_public:
            return "not readable by all in IMAGES"
        if not self._files.can_link_at_all:
            return "IMAGES and SITE are two mounts"
        return "the system refused a hard link: too many links, or a file of another user"


def _in_order(changes: Iterable[Change]) -> tuple[list[Change], list[Change], list[Change]]:
    """Return new content, content that replaces what is served, and the entries that lead to content."""
    new, replaced, names = [], [], []
    for change in changes:
        if change.role > Role.LIST_PAGE:
            names.append(change)
        elif change.replaces is None or change.role is Role.LIST_PAGE:  # pages that are made again are not in use
            new.append(change)
        else:
            replaced.append(change)
    # Sorting is stable: indexes stay behind those that they list. A link to pages comes before what leads through it.
    for group in (new, replaced, names):
        group.sort(key=lambda change: (change.role, change.directory, change.name != paths.PAGES))
    # Signatures that others were put before move up from the last one, so that none is missing meanwhile.
    growing = {change.directory for change in new if change.role is Role.SIGNATURE}
    moving = [change for change in replaced if change.directory in growing]
    replaced = [*(change for change in replaced if change.directory not in growing), *reversed(moving)]
    return new, replaced, names


def _names_first(removals: Iterable[Removal]) -> tuple[list[Removal], list[Removal]]:
    """Return entries that lead to content, and content, both in the reverse of publication order.

    Directories that became empty stay in their order, the inner ones first, behind all else.
    """

    def is_emptied(removal: Removal) -> bool:
        return removal.kind is Kind.DIRECTORY and not removal.is_opaque

    # What leads through a link to pages goes before that link.
    ordered = sorted(removals, key=lambda each: (is_emptied(each), -each.role, each.name == paths.PAGES))
    names = [removal for removal in ordered if not is_emptied(removal) and not removal.role.is_pulled_by_digest]
    content = [removal for removal in ordered if is_emptied(removal) or removal.role.is_pulled_by_digest]
    return names, content
