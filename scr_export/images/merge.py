"""Merge images, and what a site must retain, into one catalog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from scr_export.fs.file import SourceFile
from scr_export.images.image import Image
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag
from scr_export.oci.repository import Catalog, Keep, KeepSignature, children_first
from scr_export.problems import Problem


def merge(
    images: Iterable[Image], retained: Catalog[Keep], sources: Mapping[Digest, SourceFile]
) -> Catalog[SourceFile | Keep]:
    """Return everything that the images and `retained` give, with one file of `sources` for each digest.

    The caller has dropped the images of `find_clashes`.
    """
    catalog: Catalog[SourceFile | Keep] = Catalog()
    children: defaultdict[RepositoryName, dict[Digest, tuple[Digest, ...]]] = defaultdict(dict)
    for name, served in retained.repositories.items():
        repository = catalog.repository(name)
        repository.tags |= served.tags
        repository.manifests |= served.manifests
        repository.blobs |= served.blobs
        repository.untagged |= served.untagged
        for subject, referrers in served.referrers.items():
            repository.referrers.setdefault(subject, {}).update(referrers)
        repository.signatures |= {digest: list(files) for digest, files in served.signatures.items()}
    for image in images:
        name = image.reference.repository
        repository = catalog.repository(name)
        if image.reference.tag:
            repository.tags[image.reference.tag] = image.top.name
        else:
            repository.untagged[image.top.name.digest] = None
        for manifest in reversed(image.manifests):
            repository.manifests[manifest.name] = sources[manifest.file.digest]
            if manifest.children:
                children[name][manifest.file.digest] = manifest.children
        for blob in image.blobs:
            repository.blobs[blob.digest] = sources[blob.digest]
        for subject, referrer in image.referrers:
            repository.referrers.setdefault(subject, {})[referrer.digest] = referrer
        for signature in image.signatures:
            _add_signature(repository.signatures.setdefault(signature.subject, []), signature.file)
    for name, listed in children.items():
        _put_children_first(catalog, name, listed)
    return catalog


def _add_signature(signatures: list[SourceFile | Keep], file: SourceFile) -> None:
    """Add what is not there yet. Two tags of one manifest can have a signature each, or the same one."""
    digests = {each.digest for each in signatures if isinstance(each, SourceFile | KeepSignature)}
    if file.digest not in digests:
        signatures.append(file)


def _put_children_first(
    catalog: Catalog[SourceFile | Keep], name: RepositoryName, children: Mapping[Digest, tuple[Digest, ...]]
) -> None:
    """Order a repository's manifests: first those that list none, then each index after the indexes that it lists."""
    manifests = catalog.repositories[name].manifests
    rank = {digest: number for number, digest in enumerate(children_first(children), 1)}
    ordered = sorted(manifests.items(), key=lambda item: rank.get(item[0].digest, 0))
    catalog.repositories[name].manifests = dict(ordered)


def find_clashes(images: Sequence[Image], retained: Catalog[Keep]) -> list[Problem]:
    """Return the faults that no image has alone: a tag claimed twice, a path needed as a file and as a directory.

    Only the images that claim the tag or the path are at fault, not others of the same repository.
    """
    return [*_tag_clashes(images), *_path_clashes(images, retained)]


def _tag_clashes(images: Iterable[Image]) -> list[Problem]:
    claims: defaultdict[tuple[RepositoryName, Tag], list[Image]] = defaultdict(list)
    for image in images:
        if image.reference.tag:
            claims[image.reference.repository, image.reference.tag].append(image)
    problems = []
    for (name, tag), claimants in claims.items():
        for image in claimants if len(claimants) > 1 else ():
            other = next((other for other in claimants if other.top.name != image.top.name), None)
            if other:
                what = f"claims {name}:{tag}, as {other.path} does with other content"
                problems.append(Problem("fault", image.path, "tag-clash", what, "remove one of the two"))
    return problems


# The names that a repository has in its directory, and that a repository below it can have too.
_BLOBS, _MANIFESTS, _TAGS, _TAG_LIST = "blobs", "manifests", "tags", "list"


def _path_clashes(images: Sequence[Image], retained: Catalog[Keep]) -> list[Problem]:
    by_name: defaultdict[RepositoryName, list[Image]] = defaultdict(list)
    for image in images:
        by_name[image.reference.repository].append(image)
    names = by_name.keys() | retained.repositories.keys()
    problems = []
    for name in sorted(names):
        for outer in _outer_repositories(name, names):
            below = name[len(outer) + 1 :]
            for tag in _tags_in_the_way(below):
                claimants = [image for image in by_name.get(outer, ()) if image.reference.tag == tag]
                if claimants or retained.has_tag(outer, tag):
                    what = f"the repository {name} needs a directory where {outer} has the tag {tag}"
                    problems += _blame(by_name.get(name) or claimants, what)
            if _needs_tag_list(below):
                what = f"the repository {name} needs a directory where {outer} has its list of tags"
                problems += _blame(by_name.get(name) or by_name[outer], what)
    return problems


def _blame(claimants: Iterable[Image], what: str) -> list[Problem]:
    return [Problem("fault", image.path, "path-clash", what, "rename one of the two") for image in claimants]


def _outer_repositories(name: RepositoryName, names: Set[RepositoryName]) -> list[RepositoryName]:
    parts = name.split("/")
    prefixes = (RepositoryName("/".join(parts[:count])) for count in range(1, len(parts)))
    return [prefix for prefix in prefixes if prefix in names]


def _tags_in_the_way(below: str) -> list[Tag]:
    """Return the tags of a repository whose links stand where the repository `below` it needs a directory."""
    first, _, rest = below.partition("/")
    if first != _MANIFESTS:
        return []
    return [Tag(rest.partition("/")[0])] if rest else [Tag(_BLOBS), Tag(_MANIFESTS), Tag(_TAGS)]


def _needs_tag_list(below: str) -> bool:
    return f"{below}/".startswith(f"{_TAGS}/{_TAG_LIST}/")
