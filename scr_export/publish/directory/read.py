"""Read what a site holds, as a catalog."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count, takewhile

from scr_export.fs.file import SourceFile
from scr_export.fs.safe import directory_at, read_file
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.name import ManifestName, RepositoryName, Tag, parse_tag
from scr_export.oci.referrers import referrers_in
from scr_export.oci.repository import KEEP, Catalog, Keep, KeepSignature, Repository
from scr_export.oci.signature import SIZE_LIMIT
from scr_export.problems import Problems
from scr_export.publish.directory.observe import Directory, observe
from scr_export.site import paths
from scr_export.site.entries import Kind
from scr_export.site.paths import Part

IsWanted = Callable[[RepositoryName, Tag | None, Digest], bool]


def read_names(directories: Iterable[Directory]) -> Catalog[Keep]:
    """Return every repository with its tags, the names of its manifests, and which have signatures. Opens no file."""
    catalog: Catalog[Keep] = Catalog()
    signatures: list[tuple[RepositoryName, Digest, int]] = []
    for directory in directories:
        name, part, subject = paths.place(directory.path)
        if name and part is Part.TAGS and paths.TAG_LIST in directory.entries:
            catalog.repository(name)
        elif name and part is Part.MANIFESTS and (tags := tags_in(directory)):
            repository = catalog.repository(name)
            repository.tags = tags
            repository.manifests = dict.fromkeys(manifests_in(directory), KEEP)
        elif name and subject:
            signatures.append((name, subject, len(signatures_in(directory.entries))))
    for name, subject, number in signatures:
        if name in catalog and number:
            catalog.repository(name).signatures[subject] = [KEEP] * number
    return catalog


def read_all(site: int, unreferenced: Container[str]) -> Catalog[Keep]:
    """Return everything that a site answers for. `unreferenced` are the paths of content in its grace period."""
    catalog = read_names(observe(site))
    for directory in observe(site):
        name, part, subject = paths.place(directory.path)
        if not name or name not in catalog:
            continue
        repository = catalog.repository(name)
        if subject in repository.signatures:
            repository.signatures[subject] = _read_signatures(directory.path, directory.descriptor, unreferenced)
        if part is not Part.MANIFESTS:
            continue
        names = [each for each in manifests_in(directory) if f"{directory.path}/{each}" not in unreferenced]
        repository.manifests = dict.fromkeys(names, KEEP)
        if directory.status(f"../{Part.REFERRERS.value}"):
            manifests = {each.digest: manifest for each in names if (manifest := _try_read(directory, each))}
            repository.referrers = referrers_in(manifests, digests_of(repository.tags))
    return catalog


def content_of_catalog(catalog: Catalog[SourceFile | Keep], site: int | None) -> Iterator[tuple[Digest, int]]:
    """Yield the digest and the size in bytes of every manifest and blob. What the catalog keeps lies in the site."""
    for name, repository in catalog.repositories.items():
        for manifest, file in repository.manifests.items():
            path = f"{paths.manifests(name)}/{manifest}/{manifest}"
            yield manifest.digest, file.size if isinstance(file, SourceFile) else _size_at(path, site)
        for digest, file in repository.blobs.items():
            yield digest, file.size if isinstance(file, SourceFile) else _size_at(f"{paths.blobs(name)}/{digest}", site)


def content_of_site(site: int, unreferenced: Container[str]) -> Iterator[tuple[Digest, int]]:
    """Yield the digest and the size in bytes of every manifest and blob of a site that is not `unreferenced`."""
    for directory in observe(site):
        part = paths.place(directory.path).part
        named: Iterable[tuple[str, Digest, str]] = ()
        if part is Part.BLOBS:
            named = ((each, Digest(each), each) for each in directory.entries if paths.is_digest(each))
        elif part is Part.MANIFESTS:
            named = ((each, each.digest, f"{each}/{each}") for each in manifests_in(directory))
        for entry, digest, file in named:
            if f"{directory.path}/{entry}" not in unreferenced and (status := directory.status(file)):
                yield digest, status.st_size


def _size_at(path: str, site: int | None) -> int:
    try:
        return os.stat(path, dir_fd=site, follow_symlinks=False).st_size
    except OSError:  # a foreign layer that is not there, or a part that cannot be looked at
        return 0


def sum_of_sizes(content: Iterable[tuple[Digest, int]]) -> int:
    """Return the sum of the sizes, each digest once."""
    total, counted = 0, set[Digest]()
    for digest, size in content:
        if digest not in counted:
            counted.add(digest)
            total += size
    return total


def read_closures(site: int, is_wanted: IsWanted, problems: Problems) -> Catalog[Keep]:
    """Return the wanted tags and digests, with every manifest and blob that a pull of them asks for.

    A manifest that cannot be read is a fault, and nothing of its repository is left out then: what it lists is unknown.
    """
    catalog: Catalog[Keep] = Catalog()
    for directory in observe(site):
        name, part, _ = paths.place(directory.path)
        if name is None or part is not Part.MANIFESTS:
            continue
        closure = _Closure(directory)
        for tag, manifest_name in tags_in(directory).items():
            if manifest_name in directory.entries and is_wanted(name, tag, manifest_name.digest):
                closure.repository.tags[tag] = manifest_name
                closure.add(manifest_name)
        for manifest_name in manifests_in(directory):
            if is_wanted(name, None, manifest_name.digest):
                closure.add(manifest_name)
        if closure.unreadable:
            _retain_everything(site, name, directory, closure.repository)
            _report_unreadable(directory, closure.unreadable, problems)
        if closure.repository.manifests:
            catalog.repositories[name] = closure.finish()
            catalog.repositories[name].signatures = _signatures_in(site, name, closure.repository.manifests)
    return catalog


class _Closure:
    """Everything that pulls from one repository of a site ask for."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.names = {each.digest: each for each in manifests_in(directory)}
        self.repository: Repository[Keep] = Repository()
        self.manifests: dict[Digest, Manifest] = {}
        self.unreadable: dict[ManifestName, str] = {}

    def add(self, name: ManifestName) -> None:
        unread = [name]
        while unread:
            name = unread.pop()
            if name in self.repository.manifests:
                continue
            self.repository.manifests[name] = KEEP
            try:
                manifest = read_manifest(self.directory, name)
            except (OSError, ValueError) as error:
                self.unreadable[name] = (error.strerror if isinstance(error, OSError) else None) or str(error)
                continue
            self.manifests[name.digest] = manifest
            self.repository.blobs |= dict.fromkeys((blob.digest for blob in manifest.blobs), KEEP)
            unread += [self.names[child.digest] for child in manifest.children if child.digest in self.names]

    def finish(self) -> Repository[Keep]:
        self.repository.referrers = referrers_in(self.manifests, digests_of(self.repository.tags))
        return self.repository


def _retain_everything(site: int, name: RepositoryName, directory: Directory, repository: Repository[Keep]) -> None:
    repository.manifests |= dict.fromkeys(manifests_in(directory), KEEP)
    with suppress(OSError), directory_at(paths.blobs(name), site) as blobs:
        repository.blobs |= {Digest(each): KEEP for each in os.listdir(blobs) if paths.is_digest(each)}


def _signatures_in(site: int, name: RepositoryName, manifests: Iterable[ManifestName]) -> dict[Digest, list[Keep]]:
    found: dict[Digest, list[Keep]] = {}
    for manifest in manifests:
        path = paths.signatures(name, manifest.digest)
        with suppress(OSError), directory_at(path, site) as directory:
            found[manifest.digest] = _read_signatures(path, directory)
    return found


def _read_signatures(path: str, directory: int, unreferenced: Container[str] = ()) -> list[Keep]:
    """Return the signatures in an open directory. The place of one that cannot be read stays taken."""
    found: list[Keep] = []
    for name in signatures_in(os.listdir(directory)):
        if f"{path}/{name}" in unreferenced:
            break
        try:
            found.append(KeepSignature(Digest.of(read_file(name, directory, SIZE_LIMIT)[0])))
        except (OSError, ValueError):
            found.append(KEEP)
    return found


def signatures_in(names: Container[str]) -> list[str]:
    """Return those of these names that clients look for: they count from 1, and stop where none is."""
    counted = (paths.signature(number) for number in count(1))
    return list(takewhile(lambda name: name in names, counted))


def _report_unreadable(directory: Directory, unreadable: Mapping[ManifestName, str], problems: Problems) -> None:
    for name, reason in unreadable.items():
        path = f"{directory.path}/{name}/{name}"
        what = f"cannot be read: {reason}; nothing of its repository is removed"
        problems.fault(path, "unreadable", what, "let this user read it, or mend the image and export again", "SITE")


def tags_in(directory: Directory) -> dict[Tag, ManifestName]:
    """Return the tags in a directory of manifests that lead to a manifest's name."""
    return dict(_tags_in(directory))


def _tags_in(directory: Directory) -> Iterator[tuple[Tag, ManifestName]]:
    for name, observed in directory.entries.items():
        if observed.kind is Kind.LINK and (target := directory.target(name)):
            with suppress(ValueError):
                yield parse_tag(name), ManifestName.parse(target)


def manifests_in(directory: Directory) -> list[ManifestName]:
    """Return the names of the manifests in a directory of manifests."""
    return [ManifestName(name) for name in directory.entries if paths.is_manifest_name(name)]


def digests_of(tags: Mapping[Tag, ManifestName]) -> dict[Tag, Digest]:
    """Return the digests that tags lead to."""
    return {tag: name.digest for tag, name in tags.items()}


def read_manifest(directory: Directory, name: ManifestName) -> Manifest:
    """Return the manifest of this name. OSError, ValueError: it cannot be read, or other bytes are there."""
    return parse_manifest(directory.manifest(name), name)


def parse_manifest(raw: bytes, name: ManifestName) -> Manifest:
    """Return the manifest that these bytes are. ValueError: they are not of this name."""
    manifest = Manifest.parse(raw, name.digest.algorithm)
    if ManifestName.of(manifest.media_type, manifest.digest) != name:
        raise ValueError(f"is damaged: it holds {manifest.media_type} {manifest.digest}")
    return manifest


def _try_read(directory: Directory, name: ManifestName) -> Manifest | None:
    try:
        return read_manifest(directory, name)
    except (OSError, ValueError):
        return None
