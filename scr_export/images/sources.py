"""Choose one file for each digest, and verify it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from scr_export.fs.file import SourceFile
from scr_export.fs.hashing import find_damaged
from scr_export.images import remedies
from scr_export.images.image import Image
from scr_export.images.place import UNNAMED, Arguments, Place
from scr_export.oci.digest import Digest
from scr_export.problems import Problems


def choose_sources(images: Iterable[Image], known: Set[bytes]) -> dict[Digest, SourceFile]:
    """Return one file for each digest, however many directories hold a copy.

    One that a web server may read is preferred, and then one that the site was made from (its identity is `known`), so
    that a new copy of an old blob is neither hashed nor linked.
    """
    chosen: dict[Digest, SourceFile] = {}
    settled: set[Digest] = set()  # no other file can be better
    for image in images:
        for file in (*(manifest.file for manifest in image.manifests), *image.blobs):
            first = chosen.setdefault(file.digest, file)
            if first is file or file.digest in settled or first.inode == file.inode:
                continue
            rank = _rank(first, known)
            if rank == (True, True):
                settled.add(file.digest)
            elif _rank(file, known) > rank:
                chosen[file.digest] = file
    return chosen


def _rank(file: SourceFile, known: Set[bytes]) -> tuple[bool, bool]:
    return file.is_public, file.identity in known


@dataclass(slots=True)
class Verification:
    """What hashing found: the identities of blobs that hold their digest, and how many bytes were hashed."""

    verified: set[bytes] = field(default_factory=set)
    hashed: int = 0


class SourceVerifier:
    """Hashes the chosen blobs that were not verified before. Manifests were hashed when they were read.

    `result` is valid at any time, also when the run was interrupted.
    """

    def __init__(self, root: int, jobs: int, verified: Set[bytes], arguments: Arguments = UNNAMED) -> None:
        self.result = Verification()
        self._root = root
        self._jobs = jobs
        self._verified = verified
        self._arguments = arguments

    def unverified(self, images: Iterable[Image], sources: dict[Digest, SourceFile]) -> list[SourceFile]:
        """Return the chosen blobs that have to be hashed."""
        found: dict[Digest, SourceFile] = {}
        visited: set[Digest] = set()
        for image in images:
            self.result.verified.update(sources[manifest.file.digest].identity for manifest in image.manifests)
            for blob in image.blobs:
                if blob.digest in visited:
                    continue
                visited.add(blob.digest)
                source = sources[blob.digest]
                if (identity := source.identity) in self._verified:
                    self.result.verified.add(identity)
                else:
                    found[blob.digest] = source
        return list(found.values())

    def verify(
        self,
        images: Sequence[Image],
        sources: dict[Digest, SourceFile],
        unverified: Sequence[SourceFile],
        problems: Problems,
        advance: Callable[[int], None],
    ) -> None:
        """Hash files. Where the chosen file of a digest is damaged, another copy takes its place in `sources`.

        A damaged file is a warning if another copy is sound, else a fault of every image that needs it.
        """
        damaged = self._hash(unverified, advance)
        if not damaged:
            return
        others = _other_copies(images, {file.digest for file in damaged}, set(damaged))
        damaged |= self._hash([file for copies in others.values() for file in copies], advance)
        for digest, copies in others.items():
            if sound := [file for file in copies if file not in damaged]:
                sources[digest] = sound[0]
        _report(images, sources, damaged, problems, self._arguments)

    def _hash(self, files: Sequence[SourceFile], advance: Callable[[int], None]) -> dict[SourceFile, str]:
        self.result.hashed += sum(file.size for file in files)
        return dict(find_damaged(files, self._root, self._jobs, advance=advance, sound=self._note_sound))

    def _note_sound(self, file: SourceFile) -> None:
        self.result.verified.add(file.identity)


def _other_copies(
    images: Iterable[Image], digests: Set[Digest], known: Set[SourceFile]
) -> dict[Digest, list[SourceFile]]:
    stamps = {(file.digest, file.stamp) for file in known}
    others: defaultdict[Digest, list[SourceFile]] = defaultdict(list)
    for image in images:
        for blob in image.blobs:
            if blob.digest in digests and (blob.digest, blob.stamp) not in stamps:
                stamps.add((blob.digest, blob.stamp))
                others[blob.digest].append(blob)
    return others


def _report(
    images: Iterable[Image],
    sources: dict[Digest, SourceFile],
    damaged: dict[SourceFile, str],
    problems: Problems,
    arguments: Arguments,
) -> None:
    defects = {(file.digest, file.stamp): what for file, what in damaged.items()}
    for image in images:
        for blob in image.blobs:
            what = defects.get((blob.digest, blob.stamp))
            if what is None:
                continue
            again = remedies.copy_again(Place(image.path, arguments))
            name, source = blob.name, sources[blob.digest]
            if (source.digest, source.stamp) in defects:
                problems.fault(image.path, "digest", f"{name} {what}", again)
            else:
                what = f"{name} {what}; the copy {source.path} is published in its place"
                problems.warning(image.path, "digest", what, again)
