"""Indexes of which not every manifest is in the image's own directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from scr_export.images import remedies
from scr_export.images.image import Image, StoredManifest
from scr_export.images.place import Arguments, Place
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problem

_Stored = Set[tuple[RepositoryName, Digest]]


def find_incomplete_indexes(
    images: Sequence[Image], retained: Catalog[Keep], arguments: Arguments
) -> tuple[list[Problem], list[Problem]]:
    """Return faults of images of which no client could pull anything, and warnings of those that lack some platforms.

    What an index lists may lie in any directory of its repository, or in the site where it is retained.
    """
    indexes = [(image, index) for image in images for index in image.manifests if _absent(image, index)]
    if not indexes:
        return [], []
    stored = {(image.reference.repository, each.name.digest) for image in images for each in image.manifests}
    stored |= {(name, each.digest) for name, repository in retained for each in repository.manifests}
    found = list(_problems(indexes, stored, arguments))
    return [each for each in found if each.severity == "fault"], [each for each in found if each.severity == "warning"]


def _absent(image: Image, index: StoredManifest) -> set[Digest]:
    """The manifests that are not in the image's directory; one that is left out is there, and nobody can pull it."""
    if not index.children:
        return set()
    return set(index.children) - {each.name.digest for each in image.manifests}


def _problems(
    indexes: Sequence[tuple[Image, StoredManifest]], stored: _Stored, arguments: Arguments
) -> Iterator[Problem]:
    for image, index in indexes:
        absent = {digest for digest in _absent(image, index) if (image.reference.repository, digest) not in stored}
        again = remedies.copy_again(Place(image.path, arguments))
        listed = set(index.children)
        if absent == listed and index is image.top:
            what = (
                f"none of the manifests that {index.name.digest} lists was copied, so that nothing of it can be pulled"
            )
            yield Problem("fault", image.path, "sparse", what, again)
        elif absent := absent - set(image.left_out):
            what = f"{len(absent)} of the {len(listed)} manifests that {index.name.digest} lists were not copied"
            yield Problem("warning", image.path, "sparse", what, f"to have them too, {again}")
