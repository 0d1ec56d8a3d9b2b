"""Which images are signed, and what IMAGES itself shows to be missing. Pure; no signature is verified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from scr_export.images import remedies
from scr_export.images.image import Image
from scr_export.images.place import Arguments, Place
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName
from scr_export.oci.signature import SignatureFormat, is_companion, is_cosign_type, signed_by_tag
from scr_export.problems import Problem

_NAMED = 3  # so many tags are named in one message


@dataclass(frozen=True, slots=True)
class Signed:
    """How many images are signed: by cosign, and by simple signatures. An image can be both."""

    cosign: int = 0
    simple: int = 0

    def __bool__(self) -> bool:
        return bool(self.cosign or self.simple)


class Signatures:
    """The signatures among images. They are looked for in the repository of the image only, as clients do it."""

    def __init__(self, images: Sequence[Image], arguments: Arguments) -> None:
        self._images = [image for image in images if not _is_companion(image)]
        self._by_cosign: defaultdict[Digest, list[Image]] = defaultdict(list)
        for image in images:
            for subject in _signed_by(image):
                self._by_cosign[subject].append(image)
        self._all = images
        self._arguments = arguments

    def count(self) -> Signed:
        """Count the signed images."""
        return Signed(sum(map(self._is_by_cosign, self._images)), sum(map(_is_simple, self._images)))

    def problems(self) -> Iterator[Problem]:
        """Yield a warning for each signature whose image is not there, and for unsigned images beside signed ones."""
        yield from self._without_image()
        by_name: defaultdict[RepositoryName, list[Image]] = defaultdict(list)
        for image in self._images if self._by_cosign or any(map(_is_simple, self._images)) else ():
            by_name[image.reference.repository].append(image)
        for name, images in by_name.items():
            unsigned = [image for image in images if not self._is_by_cosign(image) and not _is_simple(image)]
            if 0 < len(unsigned) < len(images):
                yield _unsigned(name, unsigned)

    def _is_by_cosign(self, image: Image) -> bool:
        if any(each.format is SignatureFormat.SIGSTORE for each in image.signatures):
            return True
        signatures = self._by_cosign.get(image.top.name.digest, ())
        return any(each.reference.repository == image.reference.repository for each in signatures)

    def _without_image(self) -> Iterator[Problem]:
        if not self._by_cosign:
            return
        there = {(image.reference.repository, each.name.digest) for image in self._all for each in image.manifests}
        for subject, images in self._by_cosign.items():
            for image in images:
                name = image.reference.repository
                if (name, subject) not in there:
                    what = f"is the signature of {subject}, which no image of {name} has"
                    remedy = remedies.copy_signed(Place(image.path, self._arguments), subject)
                    yield Problem("warning", image.path, "signature", what, remedy)


def _signed_by(image: Image) -> Set[Digest]:
    """Return the digests that an image directory has cosign signatures of."""
    found = {subject for subject, each in image.referrers if is_cosign_type(each.artifact_type)}
    if image.reference.tag and (subject := signed_by_tag(image.reference.tag)):
        found.add(subject)
    return found


def _is_companion(image: Image) -> bool:
    """Tell whether this is no image, but what belongs to one."""
    if image.reference.tag and is_companion(image.reference.tag):
        return True
    return any(referrer.digest == image.top.name.digest for _, referrer in image.referrers)


def _is_simple(image: Image) -> bool:
    return any(each.format is SignatureFormat.SIMPLE for each in image.signatures)


def _unsigned(name: RepositoryName, images: Iterable[Image]) -> Problem:
    first, *others = sorted(images, key=lambda image: image.path)
    named = ", ".join(str(image.reference) for image in (first, *others[: _NAMED - 1]))
    more = f" and {len(others) - _NAMED + 1:,} more" if len(others) >= _NAMED else ""
    what = f"is not signed, while other images of {name} are; unsigned: {named}{more}"
    return Problem("warning", first.path, "unsigned", what, "copy it with its signatures, or have it signed")
