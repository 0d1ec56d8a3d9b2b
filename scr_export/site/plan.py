"""What the site shall be. Pure: images go in, directories with their entries come out, no file is touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from scr_export.errors import Fault
from scr_export.images.content import Content
from scr_export.images.skopeo_dir import Image
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag
from scr_export.oci.referrers import Referrer, Referrers, referrers_index
from scr_export.oci.taglist import List
from scr_export.site import pages, paths


@dataclass(frozen=True, slots=True)
class Head:
    """A directory that holds one manifest, both named by the manifest's type and digest."""

    content: Content


@dataclass(frozen=True, slots=True)
class Pointer:
    """A symbolic link: a tag to the head beside it, or the way to a list."""

    target: str


@dataclass(frozen=True, slots=True)
class Text:
    """A file that the site writes itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pages:
    """A directory that holds a list and its pages."""

    of: List


@dataclass(frozen=True, slots=True)
class AsServed:
    """Whatever the site has under this name now."""


# A blob is planned as the very content that it links to.
Entry = Content | Head | Pointer | Text | Pages | AsServed


@dataclass(slots=True)
class Served:
    """What of a repository a new plan must leave as the site has it."""

    tags: set[Tag] = field(default_factory=set)
    heads: set[str] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)
    referrers: Referrers = field(default_factory=dict)


# Directory below SITE -> name in it -> entry. Directories on the way are not told.
Plan = dict[str, dict[str, Entry]]


def clashes(images: Iterable[Image], served: Mapping[RepositoryName, Served]) -> list[Fault]:
    """Faults that no image has alone: one tag claimed twice, one path wanted as a file and as a directory.

    `served` is what stays in the site besides the images.
    """
    claims: defaultdict[tuple[RepositoryName, Tag], list[Image]] = defaultdict(list)
    by_name: defaultdict[RepositoryName, list[Image]] = defaultdict(list)
    for image in images:
        by_name[image.reference.repository].append(image)
        if image.reference.tag:
            claims[image.reference.repository, image.reference.tag].append(image)
    tags = claims.keys() | {(name, tag) for name, kept in served.items() for tag in kept.tags}
    return _claimed_twice(claims) + _paths_claimed_twice(by_name, by_name.keys() | served.keys(), tags)


def _claimed_twice(claims: Mapping[tuple[RepositoryName, Tag], list[Image]]) -> list[Fault]:
    faults = []
    for (name, tag), claimants in claims.items():
        for image in claimants:
            other = next((other for other in claimants if other.digest != image.digest), None)
            if other:
                what = f"claims {name}:{tag}, as {other.path} does with other content"
                faults.append(Fault(image.path, "tag-clash", what, "remove one of the two"))
    return faults


def _paths_claimed_twice(
    images: Mapping[RepositoryName, list[Image]], names: Set[RepositoryName], tags: Set[tuple[RepositoryName, Tag]]
) -> list[Fault]:
    faults = []
    for name in sorted(names):
        for outer in _outer_repositories(name, names):
            if taken := _taken(outer, name[len(outer) + 1 :], tags):
                what = f"the repository {name} would need a directory where {outer} has {taken}"
                blamed = images.get(name) or images.get(outer, [])
                faults += [Fault(image.path, "path-clash", what, "rename one of the two") for image in blamed]
    return faults


def _outer_repositories(name: RepositoryName, names: Set[RepositoryName]) -> list[RepositoryName]:
    parts = name.split("/")
    prefixes = (RepositoryName("/".join(parts[:count])) for count in range(1, len(parts)))
    return [prefix for prefix in prefixes if prefix in names]


def _taken(outer: RepositoryName, below: str, tags: Set[tuple[RepositoryName, Tag]]) -> str | None:
    """What `outer` puts where the repository `outer/below` needs a directory, or None."""
    first, _, rest = below.partition("/")
    wanted = [rest.partition("/")[0]] if rest else [paths.BLOBS, paths.MANIFESTS, paths.TAGS]
    if first == paths.MANIFESTS:
        return next((f"the tag {tag}" for tag in wanted if (outer, Tag(tag)) in tags), None)
    if first == paths.TAGS and paths.TAG_LIST in wanted:
        return "its list of tags"
    return None


def plan_site(images: Iterable[Image], served: Mapping[RepositoryName, Served]) -> Plan:
    """The whole site: these images, and what of the present site is to stay as it is served."""
    images = list(images)
    chosen = choose(images)
    plan: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
    tags: defaultdict[RepositoryName, set[Tag]] = defaultdict(set)
    referrers: defaultdict[tuple[RepositoryName, Digest], dict[Digest, Referrer]] = defaultdict(dict)
    for name, kept in served.items():
        plan[paths.blobs(name)].update(dict.fromkeys(kept.blobs, AsServed()))
        plan[paths.manifests(name)].update(dict.fromkeys([*kept.heads, *kept.tags], AsServed()))
        tags[name] |= kept.tags
        for subject, found in kept.referrers.items():
            referrers[name, subject] |= found
    for image in images:
        _add_image(plan, image, chosen)
        name, tag = image.reference.repository, image.reference.tag
        tags[name] |= {tag} if tag else set()
        for subject, found in image.referrers.items():
            referrers[name, subject] |= found
    for (name, subject), found in referrers.items():
        plan[paths.referrers(name, subject)].update(_referrers_lists(found.values()))
    for name, tags_of_it in tags.items():
        plan[paths.tags(name)].update(_list(paths.TAG_LIST, List(name, tuple(sorted(tags_of_it)))))
    plan[paths.REGISTRY].update(_list(paths.CATALOG, List(None, tuple(sorted(tags)))))
    plan[""] = {name: Text(paths.snippet(name)) for name in paths.SNIPPETS}
    return dict(plan)


def _list(name: str, listing: List) -> dict[str, Entry]:
    """A list is read through two links, so that it and all its pages change in one instant."""
    directory = pages.directory_name(listing)
    return {
        directory: Pages(listing),
        paths.PAGES: Pointer(directory),
        name: Pointer(f"{paths.PAGES}/{paths.ALL}"),
    }


def _referrers_lists(referrers: Iterable[Referrer]) -> dict[str, Entry]:
    lists: defaultdict[str, list[Referrer]] = defaultdict(list)
    for referrer in referrers:
        lists[paths.ALL].append(referrer)
        if referrer.artifact_type and (name := paths.artifact_type(referrer.artifact_type)):
            lists[name].append(referrer)
    return {name: Text(referrers_index(found)) for name, found in lists.items()}


def choose(images: Iterable[Image]) -> dict[Digest, Content]:
    """One file for each digest, however many directories hold a copy: the first that a web server may read."""
    chosen: dict[Digest, Content] = {}
    for image in images:
        for content in (*(manifest.content for manifest in image.manifests), *image.blobs):
            known = chosen.setdefault(content.digest, content)
            if content.readable and not known.readable:
                chosen[content.digest] = content
    return chosen


def _add_image(plan: defaultdict[str, dict[str, Entry]], image: Image, chosen: Mapping[Digest, Content]) -> None:
    name = image.reference.repository
    blobs, manifests = plan[paths.blobs(name)], plan[paths.manifests(name)]
    for blob in image.blobs:
        blobs[blob.digest] = chosen[blob.digest]
    for manifest in reversed(image.manifests):  # what is listed before what lists it
        digest = manifest.content.digest
        manifests[paths.head(manifest.media_type, digest)] = Head(chosen[digest])
    if image.reference.tag:
        top = image.manifests[0]
        manifests[image.reference.tag] = Pointer(paths.head(top.media_type, top.content.digest))
