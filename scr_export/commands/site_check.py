"""Check a site by itself, without IMAGES: everything that it answers for can be pulled completely."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from scr_export.commands.documents import documents
from scr_export.fs.file import SourceFile
from scr_export.fs.hashing import find_damaged
from scr_export.fs.safe import directory_at, read_file
from scr_export.oci.digest import Digest
from scr_export.oci.listing import Listing
from scr_export.oci.manifest import Manifest
from scr_export.oci.name import ManifestName, RepositoryName, Tag, parse_tag
from scr_export.oci.referrers import Referrers, referrers_in
from scr_export.oci.repository import KEEP, Catalog, Repository
from scr_export.oci.signature import SIZE_LIMIT, SignatureFormat
from scr_export.problems import Problem, Problems
from scr_export.progress import Progress, counted
from scr_export.publish.directory.files import KnownFiles
from scr_export.publish.directory.images_txt import read_images_txt
from scr_export.publish.directory.index_page import read_index_page
from scr_export.publish.directory.observe import Directory, observe
from scr_export.publish.directory.read import read_manifest, signatures_in
from scr_export.publish.directory.state import State, forget_verified
from scr_export.site import paths
from scr_export.site.compare import Changes, Removal, compare
from scr_export.site.documents import listing
from scr_export.site.entries import HardLink, Kind, PagesDirectory, PlannedDirectory, Symlink
from scr_export.site.paths import Part
from scr_export.site.plan import File, plan
from scr_export.site.roles import Role

_LIST_LIMIT = 2**30
_CLOSED = ("unreadable", "cannot be entered by a web server", "export again, or chmod 755")
_AGAIN = "export again, or carry the site over again"
_UNFINISHED = ("left-over", "a transfer left it unfinished", "a later transfer or export removes it")


@dataclass(slots=True)
class Found:
    """What the directories of one repository hold. `tags` are with the targets of their links, whatever these are."""

    is_listed: bool = False
    tags: dict[Tag, str] = field(default_factory=dict)
    manifests: dict[ManifestName, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, SourceFile] = field(default_factory=dict)

    def valid_tags(self) -> dict[Tag, ManifestName]:
        return {tag: ManifestName(name) for tag, name in self.tags.items() if paths.is_manifest_name(name)}


class SiteCheck:
    """Looks at an open site in steps. What is wrong goes to `problems`.

    `state` is None where the site has no notes of an export: it was carried here.
    """

    def __init__(self, site: int, state: State | None, problems: Problems) -> None:
        self.site = site
        self.state = state
        self.problems = problems
        self.found: defaultdict[RepositoryName, Found] = defaultdict(Found)
        self.signatures: defaultdict[RepositoryName, dict[Digest, int]] = defaultdict(dict)

    def fault(self, path: str, code: str, what: str, remedy: str = _AGAIN) -> None:
        self.problems.fault(path, code, what, remedy, "SITE")

    def warning(self, path: str, code: str, what: str, remedy: str) -> None:
        self.problems.warning(path, code, what, remedy, "SITE")

    def read(self) -> None:
        """Look into every directory of the registry."""
        for directory in counted(observe(self.site), "reading the site", "directory"):
            if not (directory.is_public if directory.path else _is_open(directory)):
                self.fault(directory.path, *_CLOSED)
            for entry in filter(paths.is_unfinished, directory.entries):
                self.warning(f"{directory.path}/{entry}", *_UNFINISHED)
            name, part, subject = paths.place(directory.path)
            if name and subject:
                self._read_signatures(name, subject, directory)
            elif name and part is Part.MANIFESTS:
                self._read_manifests(name, directory)
            elif name and part is Part.TAGS and paths.TAG_LIST in directory.entries:
                self.found[name].is_listed = True
            elif name and part is Part.BLOBS and (blobs := dict(self._read_blobs(directory))):
                self.found[name].blobs = blobs

    def _read_manifests(self, name: RepositoryName, directory: Directory) -> None:
        tags, manifests = {}, {}
        for entry, observed in directory.entries.items():
            if observed.kind is Kind.LINK and not paths.is_unfinished(entry):
                try:
                    tags[parse_tag(entry)] = directory.target(entry) or ""
                except ValueError:
                    continue
            elif paths.is_manifest_name(entry):
                manifests[ManifestName(entry)] = self._read_manifest(directory, ManifestName(entry))
        if tags or manifests:  # else the directory may be part of the name of a repository below
            found = self.found[name]
            found.tags = tags
            found.manifests = {entry: manifest for entry, manifest in manifests.items() if manifest}

    def _read_manifest(self, directory: Directory, name: ManifestName) -> Manifest | None:
        path = f"{directory.path}/{name}"
        try:
            manifest = read_manifest(directory, name)
            self._check_manifest_directory(directory, name)
        except OSError as error:
            self.fault(path, "unreadable", f"cannot be read: {error.strerror}")
        except ValueError as error:
            self.fault(path, "digest" if "damaged" in str(error) else "manifest", str(error))
        else:
            return manifest
        return None

    def _check_manifest_directory(self, directory: Directory, name: ManifestName) -> None:
        path = f"{directory.path}/{name}"
        with directory_at(name, directory.descriptor) as inner:
            for entry in os.listdir(inner):
                if paths.is_unfinished(entry):
                    self.warning(f"{path}/{entry}", *_UNFINISHED)
                elif entry != name:
                    self.fault(f"{path}/{entry}", "left-over", "does not belong there")
            modes = os.fstat(inner).st_mode, os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode
        if not modes[0] & stat.S_IXOTH or not modes[1] & stat.S_IROTH:
            remedy = "export again, or chmod 755 it, and 644 the file in it"
            self.fault(path, "unreadable", "cannot be read by a web server", remedy)

    def _read_blobs(self, directory: Directory) -> Iterable[tuple[Digest, SourceFile]]:
        for name, observed in directory.entries.items():
            if observed.kind is not Kind.FILE or not paths.is_digest(name):
                continue
            path, status = f"{directory.path}/{name}", directory.status(name)
            if status:
                if not status.st_mode & stat.S_IROTH:
                    self.fault(path, "unreadable", "cannot be read by a web server", "export again, or chmod 644")
                yield Digest(name), SourceFile.of(Digest(name), directory.path, name, status)

    def _read_signatures(self, name: RepositoryName, subject: Digest, directory: Directory) -> None:
        names = signatures_in(directory.entries)
        self.signatures[name][subject] = len(names)
        for entry in names:
            path = f"{directory.path}/{entry}"
            try:
                data, status = read_file(entry, directory.descriptor, SIZE_LIMIT)
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self.fault(path, "unreadable", f"cannot be read: {reason}")
                continue
            if not status.st_mode & stat.S_IROTH:
                self.fault(path, "unreadable", "cannot be read by a web server", "export again, or chmod 644")
            if not SignatureFormat.of(data):
                self.fault(path, "signature", "is no signature that clients read")

    def references(self) -> None:
        """Every tag leads to a manifest, and every descriptor to a blob of its size."""
        for name, found in self.found.items():
            directory = paths.manifests(name)
            for tag, target in found.tags.items():
                if target not in found.manifests:
                    self.fault(f"{directory}/{tag}", "tag", "leads to no sound manifest")
            for manifest_name, manifest in found.manifests.items():
                for descriptor in manifest.blobs:
                    blob, path = found.blobs.get(descriptor.digest), f"{directory}/{manifest_name}"
                    if blob is None and not descriptor.has_urls:
                        self.fault(path, "missing", f"{descriptor.place} is missing: {descriptor.digest}")
                    elif blob and blob.size != descriptor.size:
                        what = f"{descriptor.place} says {descriptor.size} bytes, {descriptor.digest} has {blob.size}"
                        self.fault(path, "size", what)

    def lists(self) -> None:
        """Lists and snippets are those that the rest asks for, and nothing is left over."""
        images_txt = read_images_txt(self.site)
        images_txt.warn_if_foreign(self.problems)
        catalog = self._catalog()
        images_txt.mark_untagged(catalog)
        page = read_index_page(self.site)  # where there is none, none was wanted
        index_page = page.planned(is_wanted=page.data is not None)
        planned = list(plan(catalog, documents(has_foreign_images_txt=bool(images_txt.foreign), index_page=index_page)))
        known = KnownFiles(site=self.site, device=-1, verified=set(), hash_unknown=False)
        changes = compare(planned, observe(self.site), known)
        for directory in planned:
            self._check_pages(directory)
        self._report_changes(changes)
        for removal in changes.remove:
            self._report_left_over(removal)

    def _catalog(self) -> Catalog[File]:
        catalog: Catalog[File] = Catalog()
        for name, found in self.found.items():
            if found.is_listed or found.tags:
                blobs = (blob.digest for manifest in found.manifests.values() for blob in manifest.blobs)
                catalog.repositories[name] = Repository(
                    tags=found.valid_tags(),
                    manifests=dict.fromkeys(found.manifests, KEEP),
                    blobs=dict.fromkeys(blobs, KEEP),
                    referrers=self._referrers(name, found),
                    signatures=self._signatures(name, found),
                )
        return catalog

    def _signatures(self, name: RepositoryName, found: Found) -> dict[Digest, list[File]]:
        """Signatures are left over where their manifest is not there, or is in its grace period with them."""
        unreferenced = self.state.unreferenced if self.state else {}
        signatures: dict[Digest, list[File]] = {}
        for manifest in found.manifests:
            directory = paths.signatures(name, manifest.digest)
            numbers = range(1, self.signatures[name].get(manifest.digest, 0) + 1)
            if kept := [each for each in numbers if f"{directory}/{paths.signature(each)}" not in unreferenced]:
                signatures[manifest.digest] = [KEEP] * len(kept)
        return signatures

    def _referrers(self, name: RepositoryName, found: Found) -> Referrers:
        """Referrers count unless they are in their grace period. Without notes, the lists of referrers tell."""
        manifests = {manifest.digest: manifest for manifest in found.manifests.values()}
        if self.state is None:
            manifests = {
                digest: manifest
                for digest, manifest in manifests.items()
                if not manifest.subject or self._is_listed(name, manifest.subject, digest)
            }
        else:
            for manifest_name in found.manifests:
                if f"{paths.manifests(name)}/{manifest_name}" in self.state.unreferenced:
                    manifests.pop(manifest_name.digest, None)
        return referrers_in(manifests, {tag: each.digest for tag, each in found.valid_tags().items()})

    def _is_listed(self, name: RepositoryName, subject: Digest, digest: Digest) -> bool:
        try:
            with directory_at(paths.referrers(name, subject), self.site) as directory:
                return digest.encode() in read_file(paths.ALL, directory, _LIST_LIMIT)[0]
        except (OSError, ValueError):
            return False

    def _check_pages(self, planned: PlannedDirectory) -> None:
        for name, entry in planned.entries.items():
            if isinstance(entry, PagesDirectory):
                self._check_pages_of(f"{planned.path}/{name}", entry.listing)

    def _check_pages_of(self, path: str, of: Listing) -> None:
        """Every page exists, has the right bytes and can be read; one fault stands for all that are wrong."""
        expected: dict[str, bytes | Symlink] = {}
        for name, file in listing.files(of):
            expected[name] = expected[file.path] if isinstance(file, HardLink) else file
        try:
            with directory_at(path, self.site) as directory:
                found = self._pages(path, directory)
        except FileNotFoundError:
            return  # reported by the comparison with the plan
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if wrong:
            what = f"{len(wrong)} pages are not those of its list, the first: {wrong[0]}"
            self.fault(path, "list", what, "remove it, then export again or carry the site over again")

    def _pages(self, path: str, directory: int) -> dict[str, bytes | Symlink]:
        found: dict[str, bytes | Symlink] = {}
        for below, inner, names, descriptor in os.fwalk(".", dir_fd=directory):
            for name in filter(paths.is_unfinished, [*inner, *names]):
                self.warning(os.path.normpath(f"{path}/{below}/{name}"), *_UNFINISHED)
            inner[:] = [name for name in inner if not paths.is_unfinished(name)]
            if not os.fstat(descriptor).st_mode & stat.S_IXOTH:
                self.fault(os.path.normpath(f"{path}/{below}"), *_CLOSED)
            for name in names:
                if not paths.is_unfinished(name):
                    found[os.path.normpath(f"{below}/{name}")] = _page(name, descriptor)
        return found

    def _report_changes(self, changes: Changes) -> None:
        for change in changes.make:
            if change.role in (Role.SNIPPET, Role.INDEX_PAGE) and change.replaces:
                what = "is not the one of this version of scr-export"
                code = "snippet" if change.role is Role.SNIPPET else "index-page"
                self.warning(change.name, code, what, "an export by this version replaces it")
                continue
            what = "does not say what the site has" if change.replaces else "is missing"
            self.fault(f"{change.directory}/{change.name}".lstrip("/"), "list", what)

    def _report_left_over(self, removal: Removal) -> None:
        if paths.is_unfinished(removal.path):
            return  # reported where it was seen
        if self.state is None:
            if not removal.is_opaque:
                return  # whatever is in it is reported by itself
            if removal.role.is_pulled_by_digest or removal.role is Role.LIST_PAGE:
                self.warning(removal.path, "left-over", "is unreferenced", "a later export or transfer removes it")
                return
        unreferenced = self.state.unreferenced if self.state else ()
        if not any(path == removal.path or path.startswith(f"{removal.path}/") for path in unreferenced):
            self.fault(removal.path, "left-over", "is unreferenced")

    def blobs(self, jobs: int) -> int:
        """Hash every blob, each file once. Returns how many bytes were read."""
        files = {file.identity: file for found in self.found.values() for file in found.blobs.values()}
        total = sum(file.size for file in files.values())
        with Progress("hashing", total) as progress:
            damaged = find_damaged(files.values(), self.site, jobs, advance=progress.advance)
        for file, what in damaged:
            self.fault(file.path, "digest", what)
        if self.state and damaged:
            forget_verified(self.site, self.state, {file.identity for file, _ in damaged})
        return total

    def excuse_transfer(self) -> None:
        """Until a transfer ends, lists may be old and untagged manifests may lack content: one warning for all."""
        if _UNFINISHED[1] not in (warning.what for warning in self.problems.warnings):
            return
        needed = {path for name, found in self.found.items() for path in _needed_by_tags(name, found)}

        def is_excused(fault: Problem) -> bool:
            if fault.code in ("missing", "unreadable"):
                return paths.is_manifest_name(fault.path.rpartition("/")[2]) and fault.path not in needed
            return fault.code in ("list", "left-over")

        excused = [fault for fault in self.problems.faults if is_excused(fault)]
        if excused:
            what = f"a transfer has not finished: {len(excused)} faults in lists and untagged manifests, the first here"
            self.warning(excused[0].path, "unfinished", what, "start the transfer again")
            self.problems.faults = [fault for fault in self.problems.faults if not is_excused(fault)]


def _is_open(site: Directory) -> bool:
    """SITE itself may be closed to all but the web server's group."""
    return bool(os.fstat(site.descriptor).st_mode & (stat.S_IXGRP | stat.S_IXOTH))


def _page(name: str, directory: int) -> bytes | Symlink:
    """Return the bytes of a file that all may read, or the link."""
    try:
        return Symlink(os.readlink(name, dir_fd=directory))
    except OSError:
        pass
    try:
        data, status = read_file(name, directory, _LIST_LIMIT)
    except (OSError, ValueError):
        return b""
    return data if status.st_mode & stat.S_IROTH else b""


def _needed_by_tags(name: RepositoryName, found: Found) -> set[str]:
    """Return the paths of the manifests that tags lead to, also through an index."""
    by_digest = {manifest.digest: each for each, manifest in found.manifests.items()}
    needed: set[str] = set()
    unvisited: list[str] = list(found.tags.values())
    while unvisited:
        each = unvisited.pop()
        if each not in needed:
            needed.add(each)
            manifest = found.manifests.get(ManifestName(each)) if paths.is_manifest_name(each) else None
            children = manifest.children if manifest else ()
            unvisited += [by_digest[child.digest] for child in children if child.digest in by_digest]
    return {f"{paths.manifests(name)}/{each}" for each in needed}
