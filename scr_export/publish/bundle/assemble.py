"""Put together what a bundle is made of, and compute sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from scr_export.oci.digest import Digest
from scr_export.publish.bundle import form
from scr_export.publish.bundle.have import Have
from scr_export.publish.bundle.names import FinishedNames, Names, on_disk
from scr_export.publish.bundle.read import Contents
from scr_export.publish.directory.prove import Blob, ProvenContent
from scr_export.site import paths

_COPIES_OF_LISTS = 4


class SentBlob(NamedTuple):
    """A blob that goes into a bundle, with its sha256, which is its digest for most."""

    sum: str
    digest: Digest
    blob: Blob


class _File(NamedTuple):
    path: str
    sum: str
    size: int


class Member(NamedTuple):
    """A member of a bundle that is not a blob; `pieces` are its bytes."""

    name: str
    size: int
    pieces: Iterable[bytes]  # can be asked for more than once
    mode: int = 0o644

    @classmethod
    def of(cls, name: str, data: bytes, mode: int = 0o644) -> Member:
        """Make a member of these bytes."""
        return cls(name, len(data), [data], mode)

    def sha256(self) -> str:
        """Compute the sum of the bytes."""
        hasher = sha256()
        for piece in self.pieces:
            hasher.update(piece)
        return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """All members, and sizes in bytes: `full` if the receiver had nothing, `room` of what it unpacks and notes."""

    members: Sequence[Member]
    blobs: Sequence[SentBlob]
    parent: str
    blobs_in_all: int
    full: int

    @property
    def size(self) -> int:
        """The size of the archive."""
        return _archive_size(self._sizes())

    @property
    def room(self) -> int:
        """What the members take when they are unpacked, and the lists that `receive` sorts and keeps."""
        lists = sum(on_disk(member.size) for member in self.members if member.name in (form.LINKS, form.CONTENT))
        return sum(map(on_disk, self._sizes())) + _COPIES_OF_LISTS * lists

    def _sizes(self) -> list[int]:
        return [*(member.size for member in self.members), *(each.blob.size for each in self.blobs)]


def assemble(
    contents: Contents,
    have: Have,
    names: Names,
    spool: BinaryIO | None,
    receive: bytes,
    content: ProvenContent,
) -> Bundle:
    """Make every member but the blobs, which are read when they go out; those without a sha256 in their name before."""
    sums = {digest: content.sha256(digest, blob) for digest, blob in contents.blobs.items()}
    blobs = _sent(contents, have, sums)
    files = _all_files(contents, sums)
    listed = [file for file in files if file.path not in contents.unlisted]
    parent = have.files.get(paths.IMAGES_TXT, form.NO_PARENT)
    names_tar = FinishedNames(names, spool, (file.size for file in listed), (file.size for file in files))
    members = [
        Member.of(form.RECEIVE, receive, 0o755),
        Member.of(form.PARENT, f"{parent}\n".encode()),
        Member.of(form.LINKS, "".join(f"{link.path} {link.target}\n" for link in contents.links).encode()),
        Member.of(form.CONTENT, "".join(map(_line, listed)).encode()),
        Member(form.NAMES, names_tar.size, names_tar),
    ]
    sizes = {sum_: contents.blobs[digest].size for digest, sum_ in sums.items()}
    members.insert(1, Member.of(form.SUMS, _sum_list(members, [each.sum for each in blobs])))
    return Bundle(members, blobs, parent, len(sizes), _full_size(members, files, names_tar, sizes, len(blobs)))


def _sent(contents: Contents, have: Have, sums: Mapping[Digest, str]) -> list[SentBlob]:
    """Return the blobs that the receiver lacks, each sum once, in the order of sums."""
    sent: dict[str, SentBlob] = {}
    for digest, blob in sorted(contents.blobs.items()):
        if not have.has_blob(digest, sums[digest]):
            sent.setdefault(sums[digest], SentBlob(sums[digest], digest, blob))
    return sorted(sent.values())


def _all_files(contents: Contents, sums: Mapping[Digest, str]) -> list[_File]:
    """Return every file of the site, in the order of paths."""
    small = (_File(path, *sum_and_size) for path, sum_and_size in contents.sums.items())
    blobs = (_File(path, sums[digest], contents.blobs[digest].size) for path, digest in contents.blob_paths.items())
    return sorted([*small, *blobs])


def _line(file: _File) -> str:
    return f"{file.sum}  {file.path}\n"


def _sum_list(members: Iterable[Member], blobs: Iterable[str]) -> bytes:
    """Return SHA256SUMS: the sum and the name of every other member, in their order."""
    lines = [f"{member.sha256()}  {member.name}\n" for member in members]
    return "".join([*lines, *(_sum_line(sum_) for sum_ in blobs)]).encode()


def _sum_line(sum_: str) -> str:
    return f"{sum_}  {form.DATA}{sum_}\n"


def _archive_size(sizes: Iterable[int]) -> int:
    """Return the size of an archive of members with these sizes."""
    size = sum(map(form.member_size, sizes))
    return size + len(form.end(size))


def _full_size(
    members: Iterable[Member], files: Iterable[_File], names: FinishedNames, blobs: Mapping[str, int], sent: int
) -> int:
    """Return the size of the bundle for a receiver that has nothing; `blobs` has the size of each by its sum."""
    sizes = {member.name: member.size for member in members}
    sizes[form.SUMS] += (len(blobs) - sent) * len(_sum_line("0" * 64))
    sizes[form.PARENT] = len(form.NO_PARENT) + 1
    sizes[form.NAMES] = names.full_size
    sizes[form.CONTENT] = sum(len(_line(file)) for file in files)
    return _archive_size([*sizes.values(), *blobs.values()])
