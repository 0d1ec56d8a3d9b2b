"""Read an image: follow descriptors from its top manifest to files, and look at each of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from scr_export.fs.file import SourceFile
from scr_export.fs.safe import directory_at, read_file
from scr_export.images import remedies
from scr_export.images.discover import ImageDirectory
from scr_export.images.image import Image, StoredManifest, StoredSignature
from scr_export.images.naming import parse_path
from scr_export.images.other_kinds import unpacked_archive
from scr_export.images.skopeo_dir import TOP_MANIFEST, SignatureName, blob_names, manifest_names
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT, Defect, Descriptor, InvalidManifest, Manifest, Reason
from scr_export.oci.mediatype import SCHEMA_1
from scr_export.oci.name import ManifestName, RepositoryName
from scr_export.oci.reference import Reference
from scr_export.oci.referrers import Referrer, referrers_in, subject_of
from scr_export.oci.signature import SIZE_LIMIT as SIGNATURE_LIMIT
from scr_export.oci.signature import SignatureFormat
from scr_export.problems import Problems


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
            with suppress(OSError, ValueError), directory_at(file.directory, root) as descriptor:
                manifest = Manifest.parse(read_file(file.name, descriptor, SIZE_LIMIT)[0], digest.algorithm)
                found.append((subject, Referrer.of(manifest)))
    return image._replace(referrers=(*image.referrers, *found))


class _Loader:
    """Follows descriptors from the top manifest. Any other file of the directory is a leftover and not looked at."""

    def __init__(self, directory: ImageDirectory, problems: Problems) -> None:
        self.path = directory.path
        self.place = directory.place
        self.directory = directory.descriptor
        self.problems = problems
        self.is_sound = True
        self.requested: set[Digest] = set()  # as children: a file that lies about its digest may list itself
        self.manifests: dict[Digest, Manifest] = {}
        self.stored: list[StoredManifest] = []
        self.blobs: dict[Digest, SourceFile] = {}
        self.with_urls: list[Descriptor] = []
        self.left_out: list[Digest] = []
        self.is_other_kind = False

    @property
    def _copy_again(self) -> str:
        return remedies.copy_again(self.place)

    def image(self, prefix: str) -> Image | None:
        reference, misnamed = self._reference(prefix)
        expected = reference.digest if reference else None
        unread = self._manifest(TOP_MANIFEST, expected.algorithm if expected else "sha256")
        while unread:
            manifest = unread.pop()
            for descriptor in manifest.blobs:
                self._blob(descriptor, manifest)
            unread += self._children(manifest)
        if misnamed and not self.is_other_kind:
            self._fault(*misnamed)
        if reference is None or not self.is_sound:
            return None
        if expected and self.stored[0].name.digest != expected:
            self._fault_other_digest(self.stored[0].name)
            return None
        self._warn_of_urls()
        return self._image(reference)

    def _fault_other_digest(self, name: ManifestName) -> None:
        what = f"{TOP_MANIFEST} has the digest {name.digest}, not the one in the path"
        if not name.is_index:
            what += "; that may be of a list from which one platform was copied, without --all"
        self._fault("digest", what, self._copy_again)

    def _warn_of_urls(self) -> None:
        if not self.with_urls:
            return
        first = self.with_urls[0]
        what = f"{first.place} has URLs, which containerd, podman 5 and CRI-O ask before this registry"
        is_compressed = first.media_type.endswith(("gzip", "zstd"))
        command = remedies.rewrite(self.place, "--dest-decompress " if is_compressed else "--dest-compress ")
        remedy = f"to remove them: regctl image mod --external-urls-rm where it came from, or here: {command}"
        self.problems.warning(self.path, "urls", what, remedy)

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
            tuple(self.left_out),
            tuple(self._signatures()),
        )

    def _unresolved_referrers(self, reference: Reference) -> tuple[tuple[Digest, Digest], ...]:
        subject = subject_of(reference.tag) if reference.tag else None
        index = next(iter(self.manifests.values()), None)
        if not subject or not index:
            return ()
        return tuple((subject, child.digest) for child in index.children if child.digest not in self.manifests)

    def _signatures(self) -> Iterator[StoredSignature]:
        """Yield the signatures of the manifests, in the order of their numbers."""
        names = [name for name in os.listdir(self.directory) if "signature-" in name]
        parsed = [(found, name) for name in names if (found := SignatureName.parse(name))]
        subjects = {start: digest for digest in self.manifests for start in blob_names(digest)} if parsed else {}
        subjects[""] = self.stored[0].name.digest
        absent = []
        for found, name in sorted(parsed):
            if subject := subjects.get(found.start):
                yield from self._signature(subject, name)
            else:
                absent.append(name)
        if absent:
            what = f"{absent[0]} signs a manifest that was not copied"
            self.problems.warning(self.path, "signature", what, self._copy_again)

    def _signature(self, subject: Digest, name: str) -> Iterator[StoredSignature]:
        """A file that clients cannot read is left out: they would not look at the signatures after it."""
        try:
            data, status = read_file(name, self.directory, SIGNATURE_LIMIT)
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
        except ValueError as error:
            what = str(error)
        else:
            if kind := SignatureFormat.of(data):
                yield StoredSignature(subject, kind, SourceFile.of(Digest.of(data), self.path, name, status))
                return
            what = "is no signature that clients read"
        self.problems.warning(self.path, "signature", f"{name} {what}, and is left out", self._copy_again)

    def _reference(self, prefix: str) -> tuple[Reference | None, tuple[str, str, str] | None]:
        """Return what the path says, or the fault that it is: code, words and remedy."""
        if not self.path:
            return None, ("name", "is itself an image directory", remedies.give_parent(self.place, 2))
        try:
            return parse_path(self.path, prefix), None
        except ValueError as error:
            return None, ("name", str(error), remedies.name_anew(self.place))

    def _manifest(self, name: str, algorithm: str, child: Descriptor | None = None) -> list[Manifest]:
        try:
            raw, status = read_file(name, self.directory, SIZE_LIMIT)
            manifest = Manifest.parse(raw, algorithm)
        except InvalidManifest as error:
            if child and child.media_type in SCHEMA_1 and error.defects[0].reason is Reason.SCHEMA_1:
                self._leave_out(name, child)
            else:
                self._invalid(name, error.defects)
        except OSError as error:
            self._unreadable(name, error)
        except ValueError as error:
            self._fault("manifest", f"{name} {error}", self._copy_again)
        else:
            file = SourceFile.of(manifest.digest, self.path, name, status)
            manifest_name = ManifestName.of(manifest.media_type, manifest.digest)
            children = tuple(child.digest for child in manifest.children)
            self.stored.append(StoredManifest(manifest_name, file, children))
            self.manifests[manifest.digest] = manifest
            return [manifest]
        return []

    def _invalid(self, name: str, defects: list[Defect]) -> None:
        if name == TOP_MANIFEST and (kind := unpacked_archive(self.place, self.directory)):
            self.is_other_kind = True
            self._fault(kind.code, kind.what, kind.remedy)
            return
        for defect in defects:
            self._fault("manifest", f"{name} {defect.what}", remedies.for_defect(self.place, name, defect.reason))

    def _children(self, index: Manifest) -> list[Manifest]:
        """Read the manifests that an index lists and that were copied (image-spec, image-index.md)."""
        found: list[Manifest] = []
        for child in index.children:
            if child.digest in self.manifests or child.digest in self.requested:
                continue
            self.requested.add(child.digest)
            file = self._find(manifest_names(child.digest))
            if file is None:
                continue
            for manifest in self._manifest(file[0], child.digest.algorithm, child):
                found.append(manifest)
                self._compare(manifest, child, file[0])
        return found

    def _leave_out(self, name: str, child: Descriptor) -> None:
        """Tell of a child of schema 1. Clients pull the other platforms all the same."""
        self.left_out.append(child.digest)
        what = f"{name} is of docker's schema 1; it is left out, and clients pull the other platforms"
        self.problems.warning(self.path, "schema-1", what, remedies.rewrite(self.place, "--format v2s2 "))

    def _compare(self, manifest: Manifest, child: Descriptor, name: str) -> None:
        if manifest.digest != child.digest:
            self._fault(
                "digest",
                f"{name} is damaged: its bytes have the digest {manifest.digest}",
                self._copy_again,
            )
        elif manifest.size != child.size:
            self._fault(
                "size",
                f"{name} has {manifest.size} bytes, {child.place} says {child.size}",
                self._copy_again,
            )
        elif manifest.media_type != child.media_type:
            what = f"{name} is of the type {manifest.media_type}, the index says {child.media_type!r:.160}"
            self._fault("manifest", f"{what}, which clients refuse", remedies.rewrite(self.place))

    def _blob(self, descriptor: Descriptor, manifest: Manifest) -> None:
        found = self._find(blob_names(descriptor.digest))
        if found is None:
            self._absent(descriptor, manifest)
            return
        name, status = found
        if not stat.S_ISREG(status.st_mode):
            self._fault("blob", f"{name} is not a regular file", self._copy_again)
        elif status.st_size != descriptor.size:
            self._fault(
                "size",
                f"{name} has {status.st_size} bytes, {descriptor.place} says {descriptor.size}",
                self._copy_again,
            )
        elif not status.st_mode & stat.S_IROTH and not self._may_read(name):
            self._unreadable(name, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        else:
            self.blobs[descriptor.digest] = SourceFile.of(descriptor.digest, self.path, name, status)
            if descriptor.has_urls:
                self.with_urls.append(descriptor)

    def _absent(self, descriptor: Descriptor, manifest: Manifest) -> None:
        what = f"{descriptor.place} of {manifest.digest} is missing: {descriptor.digest}"
        if descriptor.has_urls and descriptor.place != "config":
            self.problems.warning(self.path, "foreign", what, "clients fetch it from the URLs in the manifest")
        else:
            self._fault("missing", what, self._copy_again)

    def _find(self, names: Iterable[str]) -> tuple[str, os.stat_result] | None:
        """Return the first of these names that exists, and its status."""
        for name in names:
            try:
                return name, os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            except OSError:
                continue
        return None

    def _may_read(self, name: str) -> bool:
        return os.access(name, os.R_OK, dir_fd=self.directory, effective_ids=True)

    def _unreadable(self, name: str, error: OSError) -> None:
        self._fault("unreadable", f"{name} cannot be read: {error.strerror}", remedies.make_readable(self.place, error))

    def _fault(self, code: str, what: str, remedy: str) -> None:
        self.is_sound = False
        self.problems.fault(self.path, code, what, remedy)
