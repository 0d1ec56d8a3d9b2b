"""Read an image: follow descriptors from its top manifest to files, and look at each of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from scr_export.fs.file import SourceFile
from scr_export.fs.safe import directory_at, read_file
from scr_export.images.discover import ImageDirectory
from scr_export.images.image import Image, StoredManifest
from scr_export.images.naming import parse_path
from scr_export.images.skopeo_dir import TOP_MANIFEST, blob_names, manifest_names
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT, Descriptor, InvalidManifest, Manifest
from scr_export.oci.name import ManifestName, RepositoryName
from scr_export.oci.reference import Reference
from scr_export.oci.referrers import Referrer, referrers_in, subject_of
from scr_export.problems import Problems

_COPY_AGAIN = "copy the image again"


def load(directory: ImageDirectory, prefix: str, problems: Problems) -> Image | None:
    """Read an image's manifests and look at each of its files. None: it has faults."""
    return _Loader(directory, problems).image(prefix)


def resolve_referrers(images: list[Image], root: int) -> list[Image]:
    """Complete the referrers of images by manifests that other directories of the same repository hold."""
    if not any(image.unresolved_referrers for image in images):
        return images
    stored = {(image.reference.repository, m.name.digest): m.file for image in images for m in image.manifests}
    return [_resolve(image, stored, root) if image.unresolved_referrers else image for image in images]


def _resolve(image: Image, stored: dict[tuple[RepositoryName, Digest], SourceFile], root: int) -> Image:
    found = []
    for subject, digest in image.unresolved_referrers:
        if file := stored.get((image.reference.repository, digest)):
            directory, _, name = file.path.rpartition("/")
            with suppress(OSError, ValueError), directory_at(directory, root) as descriptor:
                manifest = Manifest.parse(read_file(name, descriptor, SIZE_LIMIT)[0], digest.algorithm)
                found.append((subject, Referrer.of(manifest)))
    return replace(image, referrers=(*image.referrers, *found))


class _Loader:
    """Follows descriptors from the top manifest. Any other file of the directory is a leftover and not looked at."""

    def __init__(self, directory: ImageDirectory, problems: Problems) -> None:
        self.path = directory.path
        self.directory = directory.descriptor
        self.problems = problems
        self.is_sound = True
        self.requested: set[Digest] = set()  # as children: a file that lies about its digest may list itself
        self.manifests: dict[Digest, Manifest] = {}
        self.stored: list[StoredManifest] = []
        self.blobs: dict[Digest, SourceFile] = {}

    def image(self, prefix: str) -> Image | None:
        reference = self._reference(prefix)
        expected = reference.digest if reference else None
        unread = self._manifest(TOP_MANIFEST, expected.algorithm if expected else "sha256")
        while unread:
            manifest = unread.pop()
            for descriptor in manifest.blobs:
                self._blob(descriptor, manifest)
            unread += self._children(manifest)
        if reference is None or not self.is_sound:
            return None
        if expected and self.stored[0].name.digest != expected:
            actual = self.stored[0].name.digest
            self._fault("digest", f"{TOP_MANIFEST} has the digest {actual}, not the one in the path", _COPY_AGAIN)
            return None
        return self._image(reference)

    def _image(self, reference: Reference) -> Image:
        tags = {reference.tag: self.stored[0].name.digest} if reference.tag else {}
        referrers = referrers_in(self.manifests, tags)
        return Image(
            self.path,
            reference,
            tuple(self.stored),
            tuple(self.blobs.values()),
            tuple((subject, each) for subject, found in referrers.items() for each in found.values()),
            self._unresolved_referrers(reference),
        )

    def _unresolved_referrers(self, reference: Reference) -> tuple[tuple[Digest, Digest], ...]:
        subject = subject_of(reference.tag) if reference.tag else None
        index = next(iter(self.manifests.values()), None)
        if not subject or not index:
            return ()
        return tuple((subject, child.digest) for child in index.children if child.digest not in self.manifests)

    def _reference(self, prefix: str) -> Reference | None:
        if not self.path:
            self._fault("name", "IMAGES is itself an image directory", "give the directory that holds NAME/TAG")
            return None
        try:
            return parse_path(self.path, prefix)
        except ValueError as error:
            self._fault("name", str(error), "rename the directory")
            return None

    def _manifest(self, name: str, algorithm: str) -> list[Manifest]:
        try:
            raw, status = read_file(name, self.directory, SIZE_LIMIT)
            manifest = Manifest.parse(raw, algorithm)
        except InvalidManifest as error:
            for defect in error.defects:
                self._fault("manifest", f"{name} {defect.what}", "copy it again with a current skopeo")
        except OSError as error:
            self._fault("unreadable", f"{name} cannot be read: {error.strerror}", "let this user read it")
        except ValueError as error:
            self._fault("manifest", f"{name} {error}", _COPY_AGAIN)
        else:
            file = SourceFile.of(manifest.digest, f"{self.path}/{name}", status)
            manifest_name = ManifestName.of(manifest.media_type, manifest.digest)
            children = tuple(child.digest for child in manifest.children)
            self.stored.append(StoredManifest(manifest_name, file, children))
            self.manifests[manifest.digest] = manifest
            return [manifest]
        return []

    def _children(self, index: Manifest) -> list[Manifest]:
        """Read the manifests that an index lists and that were copied (image-spec, image-index.md)."""
        found: list[Manifest] = []
        absent = 0
        for child in index.children:
            if child.digest in self.manifests or child.digest in self.requested:
                continue
            self.requested.add(child.digest)
            file = self._find(manifest_names(child.digest))
            if file is None:
                absent += 1
                continue
            for manifest in self._manifest(file[0], child.digest.algorithm):
                found.append(manifest)
                self._compare(manifest, child, file[0])
        if absent:
            self.problems.warning(
                self.path,
                "sparse",
                f"{absent} of the {len(index.children)} manifests that {index.digest} lists were not copied",
                "to have them too, copy with `skopeo copy --all`",
            )
        return found

    def _compare(self, manifest: Manifest, child: Descriptor, name: str) -> None:
        if manifest.digest != child.digest:
            self._fault("digest", f"{name} is damaged: its bytes have the digest {manifest.digest}", _COPY_AGAIN)
        elif manifest.size != child.size:
            self._fault("size", f"{name} has {manifest.size} bytes, {child.place} says {child.size}", _COPY_AGAIN)
        elif manifest.media_type != child.media_type:
            what = f"{name} is of the type {manifest.media_type}, the index says {child.media_type!r:.160}"
            self._fault("manifest", f"{what}, which clients refuse", _COPY_AGAIN)

    def _blob(self, descriptor: Descriptor, manifest: Manifest) -> None:
        found = self._find(blob_names(descriptor.digest))
        if found is None:
            self._absent(descriptor, manifest)
            return
        name, status = found
        if not stat.S_ISREG(status.st_mode):
            self._fault("blob", f"{name} is not a regular file", _COPY_AGAIN)
        elif status.st_size != descriptor.size:
            self._fault(
                "size", f"{name} has {status.st_size} bytes, {descriptor.place} says {descriptor.size}", _COPY_AGAIN
            )
        elif not status.st_mode & stat.S_IROTH and not self._may_read(name):
            self._fault("unreadable", f"{name} cannot be read: Permission denied", "let this user read it")
        else:
            self.blobs[descriptor.digest] = SourceFile.of(descriptor.digest, f"{self.path}/{name}", status)

    def _absent(self, descriptor: Descriptor, manifest: Manifest) -> None:
        what = f"{descriptor.place} of {manifest.digest} is missing: {descriptor.digest}"
        if descriptor.has_urls:
            self.problems.warning(self.path, "foreign", what, "clients fetch it from the URLs in the manifest")
        else:
            self._fault("missing", what, _COPY_AGAIN)

    def _find(self, names: Iterable[str]) -> tuple[str, os.stat_result] | None:
        """Return the first of these names that exists, and its status."""
        for name in names:
            with suppress(OSError):
                return name, os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        return None

    def _may_read(self, name: str) -> bool:
        return os.access(name, os.R_OK, dir_fd=self.directory, effective_ids=True)

    def _fault(self, code: str, what: str, remedy: str) -> None:
        self.is_sound = False
        self.problems.fault(self.path, code, what, remedy)
