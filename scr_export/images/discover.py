"""Find the image directories below IMAGES."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from scr_export.fs.safe import open_directory, read_file
from scr_export.images import remedies
from scr_export.images.other_kinds import OtherKind, archive_kind, directory_kind
from scr_export.images.place import UNNAMED, Arguments, Place
from scr_export.images.skopeo_dir import TOP_MANIFEST, VERSION, VERSION_TEXT, is_part, parts_in
from scr_export.problems import Problems

# No repository name of 255 characters is deeper, and every level holds a file descriptor.
_DEEPEST = 130

# What file systems, their snapshots and desktops put beside a user's files; none can be the name of a repository.
_OF_THE_SYSTEM = re.compile(
    r"lost\+found|\.snapshots?|\.zfs|\.Trash-.*|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information", re.DOTALL
)

# What the system says of a link without a target, or in a circle.
_DANGLING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class ImageDirectory:
    """A directory that holds a `manifest.json`; `descriptor` is open until the next one is asked for."""

    path: str
    descriptor: int
    arguments: Arguments = UNNAMED

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.path, self.arguments)


class _Parent(NamedTuple):
    """A directory that was listed, and whether its file system counts directories as links of their parent."""

    descriptor: int
    device: int
    counts: bool

    @classmethod
    def of(cls, descriptor: int, entries: list[os.DirEntry[str]]) -> _Parent:
        status = os.fstat(descriptor)
        directories = sum(entry.is_dir(follow_symlinks=False) for entry in entries)
        return cls(descriptor, status.st_dev, status.st_nlink == directories + 2)

    def shows_no_directory_in(self, child: int) -> bool:
        """Whether the child surely holds no directory, without listing it."""
        status = os.fstat(child)
        return self.counts and status.st_dev == self.device and status.st_nlink == 2


def discover(
    images: int, problems: Problems, empty: list[str], arguments: Arguments = UNNAMED
) -> Iterator[ImageDirectory]:
    """Walk the open directory IMAGES in the order of names. Links are never followed.

    Directories that hold neither an image nor another directory are added to `empty`.
    """
    return _Walk(problems, empty, arguments).images(images)


class _Walk:
    """One walk. A tree of another kind is reported once, also if several of its directories show what it is."""

    def __init__(self, problems: Problems, empty: list[str], arguments: Arguments) -> None:
        self.problems = problems
        self.empty = empty
        self.arguments = arguments
        self.told: set[Place] = set()

    def images(self, root: int) -> Iterator[ImageDirectory]:
        """All image directories. IMAGES is one itself only if there is none below it."""
        place = Place("", self.arguments)
        is_image = self._is_image(place, root)
        if not is_image:
            yield from self._below(place, root) if is_image is False else ()
            return
        below = self._below(place, root, is_image=True)
        first = next(below, None)
        if first is None:
            yield ImageDirectory("", root, self.arguments)
            return
        stray, what = place.below(TOP_MANIFEST), "lies beside image directories and is of none of them"
        self.problems.fault(stray.path, "stray", what, remedies.move_out(stray))
        yield from chain([first], below)

    def _is_image(self, place: Place, directory: int) -> bool | None:
        """None, and told, if it cannot be found out."""
        try:
            return not stat.S_ISDIR(os.stat(TOP_MANIFEST, dir_fd=directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._unreadable(place, "cannot be listed", error)
            return None

    def _below(self, place: Place, directory: int, *, is_image: bool = False) -> Iterator[ImageDirectory]:
        try:
            entries = _entries(directory)
            parent = _Parent.of(directory, entries)
        except OSError as error:
            self._unreadable(place, "cannot be listed", error)
            return
        if not is_image:
            if kind := directory_kind(place, directory, {entry.name for entry in entries}):
                self._report_kind(kind)
                return
            if not self._report_half_copied(place, directory, entries):
                self._note_empty(place, entries)
        for entry in entries:
            below = place.below(entry.name)
            if is_of_the_system(entry.name):
                continue
            if entry.is_symlink():
                self._report_link(below, directory, entry.name)
            elif entry.is_dir(follow_symlinks=False):
                yield from self._descend(below, parent, entry.name)
            elif not is_image and not is_part(entry.name) and entry.is_file(follow_symlinks=False):
                self._report_archive(below, directory, entry.name)

    def _report_archive(self, place: Place, directory: int, name: str) -> None:
        if kind := archive_kind(place, directory, name):
            self.problems.warning(place.path, kind.code, kind.what, kind.remedy)

    def _descend(self, place: Place, parent: _Parent, name: str) -> Iterator[ImageDirectory]:
        if place.path.count("/") > _DEEPEST:
            what = "lies too deep for the name of a repository"
            self.problems.fault(place.path, "too-deep", what, remedies.move_out(place))
            return
        try:
            descriptor = open_directory(name, parent.descriptor)
        except OSError as error:
            self._unreadable(place, "cannot be opened", error)
            return
        try:
            is_image = self._is_image(place, descriptor)
            if is_image:
                yield ImageDirectory(place.path, descriptor, self.arguments)
                if not parent.shows_no_directory_in(descriptor):
                    yield from self._inside(place, descriptor)
            elif is_image is False:
                yield from self._below(place, descriptor)
        finally:
            os.close(descriptor)

    def _inside(self, outer: Place, directory: int) -> Iterator[ImageDirectory]:
        """The image directories inside another, which must have been copied without a tag."""
        quiet = _Walk(Problems(), [], self.arguments)
        try:
            entries = _entries(directory)
            parent = _Parent.of(directory, entries)
        except OSError:  # an image can be read by those who may not list its directory
            return
        for entry in entries:
            if _is_walked(entry):
                for image in quiet._descend(outer.below(entry.name), parent, entry.name):
                    self._report_nested(outer, image, {entry.name for entry in entries})
                    yield image

    def _report_nested(self, outer: Place, inner: ImageDirectory, names: set[str]) -> None:
        if outer in self.told:
            return
        self.told.add(outer)
        what = f"is an image directory, and {inner.path!r:.300} inside it is another: was its tag forgotten?"
        tag = next(tag for tag in ("latest", "untagged", "untagged-image") if tag not in names)
        self.problems.fault(outer.path, "nested", what, remedies.move_in(outer, tag))

    def _report_kind(self, kind: OtherKind) -> None:
        if kind.place not in self.told:
            self.told.add(kind.place)
            self.problems.fault(kind.place.path, kind.code, kind.what, kind.remedy)

    def _note_empty(self, place: Place, entries: list[os.DirEntry[str]]) -> None:
        if place.path and not any(_is_walked(entry) for entry in entries):
            self.empty.append(place.path)

    def _report_half_copied(self, place: Place, directory: int, entries: list[os.DirEntry[str]]) -> bool:
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
        parts = parts_in(files, VERSION in files and _is_version(directory))
        if not parts:
            return False
        if not place.path:
            stray, what = place.below(parts[0]), "is left of an image that was not copied whole"
            self.problems.fault(stray.path, "half-copied", what, remedies.delete(place, parts))
            return True
        remedy = remedies.delete(place, parts) if len(files) < len(entries) else remedies.copy_anew(place)
        what = f"has {parts[0]!r:.90} but no {TOP_MANIFEST}: an image whose copy was not finished"
        self.problems.fault(place.path, "half-copied", what, remedy)
        return True

    def _report_link(self, place: Place, directory: int, name: str) -> None:
        """Report a link that hides images: to a directory, or to nothing, which may be a disk that is not mounted.

        A link to a file is ignored as a file is, and so is an editor's lock: its name begins with a dot.
        """
        try:
            is_directory = stat.S_ISDIR(os.stat(name, dir_fd=directory).st_mode)
        except OSError as error:
            if not (error.errno in _DANGLING and name.startswith(".")):
                what = f"is a symbolic link that cannot be followed ({error.strerror}): is a disk not mounted?"
                self.problems.fault(place.path, "link", what, remedies.remove_link(place))
            return
        if is_directory:
            what = "is a symbolic link to a directory, and links are not followed"
            target = os.readlink(name, dir_fd=directory)
            self.problems.fault(place.path, "link", what, remedies.replace_link(place, target))

    def _unreadable(self, place: Place, what: str, error: OSError) -> None:
        self.problems.fault(place.path, "unreadable", f"{what}: {error.strerror}", remedies.make_readable(place, error))


def _entries(directory: int) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        return sorted(listing, key=lambda entry: entry.name)


def is_of_the_system(name: str) -> bool:
    """Tell whether a directory of this name is passed over: file systems, snapshots and desktops make such."""
    return _OF_THE_SYSTEM.fullmatch(name) is not None


def _is_walked(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not is_of_the_system(entry.name)


def _is_version(directory: int) -> bool:
    with suppress(OSError, ValueError):
        return read_file(VERSION, directory, 4096)[0].startswith(VERSION_TEXT)
    return False
