"""Read a site for a bucket: small files whole, of blobs only names and sizes. Damage that shows so is a fault."""

from __future__ import annotations

import stat
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from scr_export.fs.safe import read_file
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import Manifest
from scr_export.oci.name import ManifestName, RepositoryName
from scr_export.oci.referrers import referrers_in
from scr_export.oci.repository import Catalog, Repository, children_first
from scr_export.oci.signature import SIZE_LIMIT
from scr_export.problems import Problems
from scr_export.publish.bucket.objects import Stored, md5
from scr_export.publish.directory.images_txt import ImagesTxt, read_images_txt
from scr_export.publish.directory.observe import Directory, observe
from scr_export.publish.directory.read import digests_of, manifests_in, parse_manifest, signatures_in, tags_in
from scr_export.site import paths
from scr_export.site.entries import Kind
from scr_export.site.paths import Part

_REMEDY = "export again, or carry the site over again"


@dataclass(slots=True)
class Contents:
    """What a site answers for, and its list of images."""

    catalog: Catalog[Stored] = field(default_factory=Catalog)
    images_txt: ImagesTxt = field(default_factory=ImagesTxt)
    problems: Problems = field(default_factory=Problems)


def read_contents(site: int, unreferenced: Container[str]) -> Contents:
    """Read a site. `unreferenced` are the paths of content in its grace period, which a new bucket does not need."""
    reader = _Reader(site, unreferenced)
    for directory in observe(site):
        reader.directory(directory)
    return reader.finish()


class _Reader:
    def __init__(self, site: int, unreferenced: Container[str]) -> None:
        self.contents = Contents()
        self.site = site
        self.unreferenced = unreferenced
        self.blobs: dict[RepositoryName, dict[Digest, Stored]] = {}
        self.signatures: list[tuple[RepositoryName, Digest, list[Stored]]] = []

    def fault(self, path: str, code: str, what: str) -> None:
        self.contents.problems.fault(path, code, what, _REMEDY, "SITE")

    def directory(self, directory: Directory) -> None:
        name, part, subject = paths.place(directory.path)
        if name and part is Part.BLOBS:
            self.blobs[name] = _blobs_in(directory)
        elif name and part is Part.MANIFESTS:
            self._manifests(name, directory)
        elif name and part is Part.TAGS and paths.TAG_LIST in directory.entries:
            self.contents.catalog.repository(name)
        elif name and subject:
            self.signatures.append((name, subject, self._signatures(directory)))

    def finish(self) -> Contents:
        for name, subject, signatures in self.signatures:
            if name in self.contents.catalog and signatures:
                repository = self.contents.catalog.repository(name)
                if subject in {manifest.digest for manifest in repository.manifests}:
                    repository.signatures[subject] = signatures
        self.contents.images_txt = read_images_txt(self.site)
        return self.contents

    def _manifests(self, name: RepositoryName, directory: Directory) -> None:
        tags = tags_in(directory)
        needed = set(tags.values())
        repository: Repository[Stored] = Repository()
        manifests: dict[Digest, Manifest] = {}
        for each in sorted(manifests_in(directory)):
            if each in needed or f"{directory.path}/{each}" not in self.unreferenced:
                self._manifest(directory, each, repository, manifests)
        for tag, target in sorted(tags.items()):
            if target in repository.manifests:
                repository.tags[tag] = target
            elif target not in directory.entries:  # of one that cannot be read that was said
                self.fault(f"{directory.path}/{tag}", "tag", "leads to no manifest")
        if repository.manifests:
            repository.manifests = _with_levels(repository.manifests, manifests)
            repository.blobs = self._blobs_of(name, manifests.values())
            repository.referrers = referrers_in(manifests, digests_of(repository.tags))
            self.contents.catalog.repositories[name] = repository

    def _manifest(
        self,
        directory: Directory,
        name: ManifestName,
        repository: Repository[Stored],
        manifests: dict[Digest, Manifest],
    ) -> None:
        path = f"{directory.path}/{name}"
        try:
            raw = directory.manifest(name)
            manifests[name.digest] = parse_manifest(raw, name)
        except (OSError, ValueError) as error:
            self.fault(path, "manifest", _words(error))
            return
        repository.manifests[name] = Stored(name.digest, f"{path}/{name}", len(raw), md5(raw))

    def _blobs_of(self, name: RepositoryName, manifests: Iterable[Manifest]) -> dict[Digest, Stored]:
        """Return the blobs that these manifests need. One that is missing, or has another size, is a fault."""
        there = self.blobs.get(name, {})
        needed: dict[Digest, Stored] = {}
        for manifest in manifests:
            path = f"{paths.manifests(name)}/{ManifestName.of(manifest.media_type, manifest.digest)}"
            for descriptor in manifest.blobs:
                blob = there.get(descriptor.digest)
                if blob is None:
                    if not descriptor.has_urls:
                        self.fault(path, "missing", f"{descriptor.place} is missing: {descriptor.digest}")
                    continue
                if blob.size != descriptor.size:
                    what = f"{descriptor.place} says {descriptor.size} bytes, {descriptor.digest} has {blob.size}"
                    self.fault(path, "size", what)
                needed[blob.digest] = blob
        return needed

    def _signatures(self, directory: Directory) -> list[Stored]:
        found: list[Stored] = []
        for name in signatures_in(directory.entries):
            path = f"{directory.path}/{name}"
            if path in self.unreferenced:
                break
            try:
                data, _ = read_file(name, directory.descriptor, SIZE_LIMIT)
            except (OSError, ValueError) as error:
                self.fault(path, "unreadable", _words(error))
                continue
            found.append(Stored(Digest.of(data), path, len(data), md5(data)))
        return found


def _blobs_in(directory: Directory) -> dict[Digest, Stored]:
    found = {}
    for name, observed in directory.entries.items():
        status = directory.status(name) if observed.kind is Kind.FILE and paths.is_digest(name) else None
        if status and stat.S_ISREG(status.st_mode):
            digest = Digest(name)
            found[digest] = Stored(digest, f"{directory.path}/{name}", status.st_size)
    return found


def _with_levels(
    files: Mapping[ManifestName, Stored], manifests: Mapping[Digest, Manifest]
) -> dict[ManifestName, Stored]:
    """Return the files with the level of each manifest, in an order in which each comes after those that it lists."""
    children = {digest: [child.digest for child in each.children] for digest, each in manifests.items()}
    levels: dict[Digest, int] = {}
    for digest in children_first(children):
        known = [levels[child] for child in children[digest] if child in levels]
        levels[digest] = 1 + max(known, default=0) if children[digest] else 0
    ordered = sorted(files.items(), key=lambda item: levels[item[0].digest])
    return {name: file._replace(level=levels[name.digest]) for name, file in ordered}


def _words(error: OSError | ValueError) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
