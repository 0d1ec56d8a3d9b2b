"""Reading one image as skopeo's `dir:` transport writes it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from scr_export.errors import Findings
from scr_export.images.content import Content, directory_at, read_file
from scr_export.images.discover import ImageDirectory
from scr_export.images.reference import Reference, parse_path
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT, Descriptor, InvalidManifest, Manifest
from scr_export.oci.mediatype import MediaType
from scr_export.oci.referrers import Referrer, Referrers, referrers_in, subject_of

_COPY_AGAIN = "copy the image again"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's media type and the file that holds its exact bytes."""

    media_type: MediaType
    content: Content


@dataclass(frozen=True, slots=True)
class Image:
    """All that one image directory gives to a site. The first of `manifests` is the one that its reference names.

    `elsewhere` are subjects, each with what refers to it by an index that lists it and by a manifest that is not here.
    """

    path: str
    reference: Reference
    manifests: tuple[StoredManifest, ...]
    blobs: tuple[Content, ...]
    referrers: Referrers = field(default_factory=dict)
    elsewhere: tuple[tuple[Digest, Digest], ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest of the manifest that the reference names."""
        return self.manifests[0].content.digest


def load_image(directory: ImageDirectory, prefix: str, findings: Findings) -> Image | None:
    """Read an image's manifests and look at each of its files; None if that gave a fault."""
    return _Loader(directory, findings).image(prefix)


def find_elsewhere(images: list[Image], root: int) -> None:
    """Complete the referrers of images by manifests that other directories of the same repository have."""
    if not any(image.elsewhere for image in images):
        return
    stored = {(image.reference.repository, m.content.digest): m.content for image in images for m in image.manifests}
    for image in images:
        for subject, digest in image.elsewhere:
            if content := stored.get((image.reference.repository, digest)):
                directory, _, name = content.path.rpartition("/")
                with suppress(OSError, ValueError), directory_at(directory, root) as descriptor:
                    manifest = Manifest.parse(read_file(name, descriptor, SIZE_LIMIT)[0], digest.algorithm)
                    image.referrers.setdefault(subject, {})[digest] = Referrer.of(manifest)


class _Loader:
    """Follows descriptors from `manifest.json`; whatever else lies in the directory is a leftover and not looked at."""

    def __init__(self, directory: ImageDirectory, findings: Findings) -> None:
        self.path = directory.path
        self.directory = directory.descriptor
        self.findings = findings
        self.sound = True
        self.asked: set[Digest] = set()  # for as children: a file that lies about its digest may list itself
        self.manifests: dict[Digest, StoredManifest] = {}
        self.parsed: dict[Digest, Manifest] = {}
        self.blobs: dict[Digest, Content] = {}

    def image(self, prefix: str) -> Image | None:
        reference = self._reference(prefix)
        expected = reference.digest if reference else None
        unread = self._manifest("manifest.json", expected.algorithm if expected else "sha256")
        while unread:
            manifest = unread.pop()
            for descriptor in manifest.blobs:
                self._blob(descriptor, manifest)
            unread += self._children(manifest)
        if reference is None or not self.sound:
            return None
        tags = {reference.tag: next(iter(self.manifests))} if reference.tag else {}
        image = Image(
            self.path,
            reference,
            tuple(self.manifests.values()),
            tuple(self.blobs.values()),
            referrers_in(self.parsed, tags),
            self._elsewhere(reference),
        )
        if expected and image.digest != expected:
            self._fault("digest", f"manifest.json has the digest {image.digest}, not the one in the path", _COPY_AGAIN)
        return image if self.sound else None

    def _elsewhere(self, reference: Reference) -> tuple[tuple[Digest, Digest], ...]:
        subject = subject_of(reference.tag) if reference.tag else None
        index = next(iter(self.parsed.values()), None)
        if not subject or not index:
            return ()
        return tuple((subject, child.digest) for child in index.children if child.digest not in self.parsed)

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
            for problem in error.problems:
                self._fault("manifest", f"{name} {problem}", "copy it again with a current skopeo")
        except OSError as error:
            self._fault("unreadable", f"{name} cannot be read: {error.strerror}", "let this user read it")
        except ValueError as error:
            self._fault("manifest", f"{name} {error}", _COPY_AGAIN)
        else:
            content = Content.of(manifest.digest, f"{self.path}/{name}", status)
            self.manifests[manifest.digest] = StoredManifest(manifest.media_type, content)
            self.parsed[manifest.digest] = manifest
            return [manifest]
        return []

    def _children(self, index: Manifest) -> list[Manifest]:
        """Read the manifests that an index lists and that were copied (image-spec, image-index.md)."""
        found: list[Manifest] = []
        absent = 0
        for child in index.children:
            if child.digest in self.manifests or child.digest in self.asked:
                continue
            self.asked.add(child.digest)
            file = self._file_of(child.digest, ".manifest.json")
            if file is None:
                absent += 1
                continue
            for manifest in self._manifest(file[0], child.digest.algorithm):
                found.append(manifest)
                self._compare(manifest, child, file[0])
        if absent:
            self.findings.warn(
                self.path,
                "sparse",
                f"{absent} of the {len(index.children)} manifests that {index.digest} lists were not copied",
                "to have them too, copy with `skopeo copy --all`",
            )
        return found

    def _compare(self, manifest: Manifest, child: Descriptor, name: str) -> None:
        if manifest.digest != child.digest:
            self._fault("digest", f"{name} holds {manifest.digest}, not what its name and the index say", _COPY_AGAIN)
        elif manifest.size != child.size:
            self._fault("size", f"{name} has {manifest.size} bytes, the index says {child.size}", _COPY_AGAIN)

    def _blob(self, descriptor: Descriptor, manifest: Manifest) -> None:
        found = self._file_of(descriptor.digest)
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
            self.blobs[descriptor.digest] = Content.of(descriptor.digest, f"{self.path}/{name}", status)

    def _absent(self, descriptor: Descriptor, manifest: Manifest) -> None:
        what = f"{descriptor.place} of {manifest.digest} is missing: {descriptor.digest}"
        if descriptor.has_urls:
            self.findings.warn(self.path, "foreign", what, "clients fetch it from the URLs in the manifest")
        else:
            self._fault("missing", what, _COPY_AGAIN)

    def _file_of(self, digest: Digest, suffix: str = "") -> tuple[str, os.stat_result] | None:
        """The file of a digest: `HEX`, or `ALGORITHM-HEX` as skopeo from 1.23 on writes all but sha256."""
        names = [digest.encoded + suffix]
        if digest.algorithm != "sha256":
            names.insert(0, f"{digest.algorithm}-{digest.encoded}{suffix}")
        for name in names:
            try:
                return name, os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            except OSError:
                continue
        return None

    def _may_read(self, name: str) -> bool:
        return os.access(name, os.R_OK, dir_fd=self.directory, effective_ids=True)

    def _fault(self, code: str, what: str, remedy: str) -> None:
        self.sound = False
        self.findings.fault(self.path, code, what, remedy)
