"""Read a site for a bundle: small files whole, of blobs only names and sizes. Damage that shows so is a fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from scr_export.fs.hashing import ignore
from scr_export.fs.safe import directory_at, read_file
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.name import ManifestName, RepositoryName
from scr_export.problems import Problems
from scr_export.publish.bundle.form import SHORT
from scr_export.publish.bundle.have import Have
from scr_export.publish.bundle.names import Names
from scr_export.publish.bundle.pages import Pages, Small, what_is_sent
from scr_export.publish.directory.images_txt import ImagesTxt, read_images_txt
from scr_export.publish.directory.index_page import read_index_page
from scr_export.publish.directory.observe import Directory, observe
from scr_export.publish.directory.prove import Blob
from scr_export.publish.directory.read import parse_manifest, tags_in
from scr_export.site import paths
from scr_export.site.entries import Kind
from scr_export.site.paths import Part
from scr_export.site.roles import Role, role_of

_LIMIT = 2**30
_AGAIN = "export again, or carry the site over again"


class Link(NamedTuple):
    """A tag or a link to a list. Links are published in the order of `key`."""

    key: tuple[Role, str, bool, str]
    path: str
    target: str

    @classmethod
    def of(cls, role: Role, directory: str, name: str, target: str) -> Link:
        """Make the link with its place in the publication order: what leads through a link to pages follows it."""
        return cls((role, directory, name != paths.PAGES, name), f"{directory}/{name}", target)


@dataclass(slots=True)
class Contents:
    """What a site holds. `sums` has the sha256 and the size in bytes of each small file by its path.

    `blobs` has one path for each digest, `blob_paths` all of them. `content` does not list the pages in `unlisted`.
    images.txt has `tag_lines`. `new_tags` lead to manifests that are sent.
    """

    sums: dict[str, tuple[str, int]] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)
    blob_paths: dict[str, Digest] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)
    tag_lines: list[str] = field(default_factory=list)
    new_tags: list[str] = field(default_factory=list)
    images_txt: ImagesTxt = field(default_factory=ImagesTxt)
    repositories: int = 0
    tags: int = 0

    @property
    def has_images_txt(self) -> bool:
        """Whether the site has a list of its images that is this program's."""
        return paths.IMAGES_TXT in self.sums


def read_contents(
    site: int, have: Have, names: Names, problems: Problems, advance: Callable[[int], None] = ignore
) -> Contents:
    """Read a site. Small files that `have` lacks are added to `names`. `advance` is called for each directory."""
    reader = _Reader(site, have, names, problems)
    for directory in observe(site):
        if paths.place(directory.path).part is Part.BLOBS:
            reader.blobs(directory)
    for directory in observe(site):
        reader.directory(directory)
        advance(1)
    reader.contents.links.sort()
    names.flush()
    return reader.contents


class _Reader:
    def __init__(self, site: int, have: Have, names: Names, problems: Problems) -> None:
        self.contents = Contents()
        self.site = site
        self.have = have
        self.names = names
        self.problems = problems

    def fault(self, path: str, code: str, what: str) -> None:
        self.problems.fault(path, code, what, _AGAIN, "SITE")

    def blobs(self, directory: Directory) -> None:
        for name, observed in sorted(directory.entries.items()):
            status = directory.status(name) if observed.kind is Kind.FILE and paths.is_digest(name) else None
            if status:
                path, digest = f"{directory.path}/{name}", Digest(name)
                self.contents.blob_paths[path] = digest
                self.contents.blobs.setdefault(digest, Blob(path, status.st_size))

    def directory(self, directory: Directory) -> None:
        name, part, _ = paths.place(directory.path)
        new_manifests = self._manifests(name, directory) if name and part is Part.MANIFESTS else set()
        new_pages = self._pages(directory)
        for entry in sorted(directory.entries):
            role, kind, path = (
                role_of(directory.path, entry),
                directory.entries[entry].kind,
                _join(directory.path, entry),
            )
            if kind is Kind.LINK and role in (Role.TAG, Role.LIST, Role.CATALOG):
                self._link(role, directory, entry, new_manifests, new_pages)
            elif kind is Kind.FILE and role in (Role.REFERRERS, Role.SIGNATURE, Role.SNIPPET):
                self._small_file(path, directory.descriptor, entry)
            elif not self._is_handled(role, kind, directory.path, entry):
                what = "is unfinished" if paths.is_unfinished(path) else "belongs to no site"
                self.problems.warning(path, "left-over", f"{what}, and is not packed", "see scr-export verify", "SITE")
        if part is Part.TAGS and paths.TAG_LIST in directory.entries:
            self.contents.repositories += 1
        if not directory.path:
            self._index_page()
            self._images_txt(directory)

    def _is_handled(self, role: Role, kind: Kind, directory: str, name: str) -> bool:
        if role in (Role.INDEX_PAGE, Role.IMAGES_TXT):
            return True
        if role is Role.BLOB:
            return kind is Kind.FILE
        if kind is not Kind.DIRECTORY:
            return False
        return role in (Role.MANIFEST, Role.INDEX, Role.LIST_PAGE) or not paths.is_opaque(directory, name)

    def _manifests(self, name: RepositoryName, directory: Directory) -> set[str]:
        """Read every manifest; return the names of those that are sent."""
        sent = set()
        for entry in sorted(directory.entries):
            if directory.entries[entry].kind is Kind.DIRECTORY and paths.is_manifest_name(entry):
                raw = self._read_manifest(name, directory, ManifestName(entry))
                if raw and self._add(Small(f"{directory.path}/{entry}/{entry}", *_sum_of(raw))):
                    sent.add(entry)
        for tag, target in tags_in(directory).items():
            self.contents.tags += 1
            self.contents.tag_lines.append(f"{target.digest}  {name}:{tag}")
            if target in sent:
                self.contents.new_tags.append(f"{name}:{tag} {target.digest}")
            elif target not in directory.entries:
                self.fault(f"{directory.path}/{tag}", "tag", "leads to no manifest")
        return sent

    def _read_manifest(self, repository: RepositoryName, directory: Directory, name: ManifestName) -> bytes:
        try:
            raw = directory.manifest(name)
            manifest = parse_manifest(raw, name)
        except (OSError, ValueError) as error:
            self.fault(f"{directory.path}/{name}", "manifest", _words(error))
            return b""
        self._check_blobs(repository, name, manifest)
        return raw

    def _check_blobs(self, name: RepositoryName, manifest_name: str, manifest: Manifest) -> None:
        path = f"{paths.manifests(name)}/{manifest_name}"
        for descriptor in manifest.blobs:
            if f"{paths.blobs(name)}/{descriptor.digest}" not in self.contents.blob_paths:
                if not descriptor.has_urls:
                    self.fault(path, "missing", f"{descriptor.place} is missing: {descriptor.digest}")
            elif (size := self.contents.blobs[descriptor.digest].size) != descriptor.size:
                what = f"{descriptor.place} says {descriptor.size} bytes, {descriptor.digest} has {size}"
                self.fault(path, "size", what)

    def _pages(self, directory: Directory) -> set[str]:
        """Read every directory of pages; return the names of those that are sent."""
        sent = set()
        for entry in sorted(directory.entries):
            if directory.entries[entry].kind is Kind.DIRECTORY and paths.is_pages(entry):
                path = f"{directory.path}/{entry}"
                try:
                    with directory_at(path, self.site) as opened:
                        pages = _read_pages(path, opened)
                except (OSError, ValueError) as error:
                    self.fault(path, "list", _words(error))
                    continue
                if self._add_pages(pages):
                    sent.add(entry)
        return sent

    def _add_pages(self, pages: Pages) -> bool:
        sent = what_is_sent(pages, self.have)
        self.names.add_pages(pages, sent)
        self.contents.sums |= {file.path: (file.sum, len(file.data)) for file in pages.files}
        if not sent or sent.members is not pages:
            self.contents.unlisted.update(file.path for file in pages.files if file != pages.whole_list)
        return sent is not None

    def _link(self, role: Role, directory: Directory, name: str, new_manifests: set[str], new_pages: set[str]) -> None:
        target = directory.target(name) or ""
        leads_to = target
        if role is not Role.TAG and name != paths.PAGES:
            leads_to = directory.target(paths.PAGES) or ""
        if leads_to not in directory.entries:
            if role is not Role.TAG:  # of tags that was said
                self.fault(f"{directory.path}/{name}", "list", "leads nowhere")
            return
        link = Link.of(role, directory.path, name, target)
        self.contents.links.append(link)
        self.names.add_link(link.path, target, is_sent=leads_to in new_manifests or leads_to in new_pages)

    def _small_file(self, path: str, directory: int, name: str) -> None:
        try:
            data, _ = read_file(name, directory, _LIMIT)
        except (OSError, ValueError) as error:
            self.fault(path, "unreadable", _words(error))
        else:
            self._add(Small(path, *_sum_of(data)))

    def _index_page(self) -> None:
        found = read_index_page(self.site)
        if found.data is not None and not found.foreign:
            self._add(Small(paths.INDEX_PAGE, *_sum_of(found.data)))

    def _images_txt(self, root: Directory) -> None:
        found = self.contents.images_txt = read_images_txt(self.site)
        if found.data is not None and not found.foreign:
            file = Small(paths.IMAGES_TXT, *_sum_of(found.data))
            if not self.have.has_file(file.path, file.sum):
                self.names.untagged = self._lines_without_tag(found.data)
            self._add(file, is_made=self.names.untagged is not None)
            for name in found.signatures:
                self._small_file(name, root.descriptor, name)

    def _lines_without_tag(self, images_txt: bytes) -> list[str] | None:
        """Return what a receiver needs to make images.txt of the tags. None: it gets the file."""
        if paths.IMAGES_TXT not in self.have.files or len(images_txt) < SHORT:
            return None
        tags, lines = self.contents.tag_lines, images_txt.decode().splitlines()
        untagged = sorted(set(lines) - set(tags))
        return untagged if sorted([*tags, *untagged]) == lines else None

    def _add(self, file: Small, *, is_made: bool = False) -> bool:
        is_sent = not self.have.has_file(file.path, file.sum)
        self.names.add(file, is_sent=is_sent and not is_made)
        self.contents.sums[file.path] = file.sum, len(file.data)
        return is_sent


def _words(error: OSError | ValueError) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _sum_of(data: bytes) -> tuple[str, bytes]:
    return sha256(data).hexdigest(), data


def _read_pages(path: str, directory: int) -> Pages:
    """Read every file and every link of a directory of pages."""
    files, links = [], []
    for below, inner, names, descriptor in os.fwalk(".", dir_fd=directory):
        for name in _finished([*names, *inner]):
            own = os.path.normpath(f"{path}/{below}/{name}")
            try:
                links.append((own, os.readlink(name, dir_fd=descriptor)))
                continue
            except OSError:
                pass  # no link
            if name in names:
                files.append(Small(own, *_sum_of(read_file(name, descriptor, _LIMIT)[0])))
    return Pages(path, sorted(files), sorted(links))


def _finished(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not paths.is_unfinished(name))
