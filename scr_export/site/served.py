"""What a site answers now, for the images that an export cannot read anew or must leave alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

from scr_export.images.content import read_file
from scr_export.images.reference import Reference, parse_path, repositories_below
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT, Manifest
from scr_export.oci.name import RepositoryName, Tag, repository_name
from scr_export.oci.name import tag as parse_tag
from scr_export.oci.referrers import referrers_in
from scr_export.site import paths
from scr_export.site.observe import Directory, Kind, observe
from scr_export.site.plan import Served


class Unread:
    """The references that faulty paths below IMAGES stand for, as far as the paths tell."""

    def __init__(self, faulty: Iterable[str], prefix: str) -> None:
        self._references: defaultdict[str, list[Reference]] = defaultdict(list)
        self._below: list[str] = []
        for path in set(faulty):
            self._below.append(repositories_below(path, prefix))
            try:
                reference = parse_path(path, prefix)
            except ValueError:
                continue
            self._references[reference.repository].append(reference)

    def has(self, name: RepositoryName, tag: Tag | None, digest: Digest) -> bool:
        """Whether this tag, or this digest without a tag, may be one of them."""
        if any(f"{name}/".startswith(f"{below}/" if below else "") for below in self._below):
            return True
        named = self._references.get(name, ())
        return any(r.tag == tag if r.tag else tag is None and r.digest == digest for r in named)


def repositories(directories: Iterable[Directory], let_go: Container[str] = ()) -> dict[RepositoryName, Served]:
    """Every repository of a site with its tags, and what refers to what if anything does.

    `let_go` are the paths of manifests that only wait for pulls in flight to end.
    """
    found: defaultdict[RepositoryName, Served] = defaultdict(Served)
    for directory in directories:
        if (name := repository_of(directory, paths.TAGS)) and paths.TAG_LIST in directory.entries:
            found[name] = found[name]
        if name := repository_of(directory, paths.MANIFESTS):
            if tags := tags_of(directory):
                found[name].tags |= tags.keys()
            heads = heads_of(directory) if directory.status(f"../{paths.REFERRERS}") else {}
            named = [head for head in heads.values() if f"{directory.path}/{head}" not in let_go]
            manifests = [manifest for head in named if (manifest := read_manifest(directory, head))]
            if manifests:
                by_digest = {manifest.digest: manifest for manifest in manifests}
                found[name].referrers = referrers_in(by_digest, digests(tags))
    return dict(found)


def closures(site: int, unread: Unread) -> dict[RepositoryName, Served]:
    """The tags and digests that `unread` has, with every manifest and blob that a pull of them asks for."""
    found: dict[RepositoryName, Served] = {}
    for directory in observe(site):
        name = repository_of(directory, paths.MANIFESTS)
        if name is None:
            continue
        heads, tags = heads_of(directory), tags_of(directory)
        served = Served()
        manifests: dict[Digest, Manifest] = {}
        for tag, target in tags.items():
            if target in directory.entries and unread.has(name, tag, Digest(target.partition("@")[2])):
                served.tags.add(tag)
                _follow(directory, heads, target, served, manifests)
        for digest, head in heads.items():
            if unread.has(name, None, digest):
                _follow(directory, heads, head, served, manifests)
        if served.heads:
            served.referrers = referrers_in(manifests, digests({tag: tags[tag] for tag in served.tags}))
            found[name] = served
    return found


def repository_of(directory: Directory, kind: str) -> RepositoryName | None:
    """The repository whose directory of that kind (`paths.BLOBS`, `MANIFESTS` or `TAGS`) this is, or None."""
    path, _, last = directory.path.rpartition("/")
    if last != kind or not path.startswith(f"{paths.REGISTRY}/"):
        return None
    try:
        return repository_name(path.removeprefix(f"{paths.REGISTRY}/"))
    except ValueError:
        return None


def tags_of(directory: Directory) -> dict[Tag, str]:
    """The tags in a directory of manifests, and the heads that they point to."""
    found = {}
    for name, seen in directory.entries.items():
        if seen.kind is Kind.LINK and (target := directory.target(name)):
            try:
                found[parse_tag(name)] = target
            except ValueError:
                continue
    return found


def heads_of(directory: Directory) -> dict[Digest, str]:
    """The heads in a directory of manifests, by digest."""
    return {paths.parse_head(name)[1]: name for name in directory.entries if paths.is_head(directory.path, name)}


def digests(tags: Mapping[Tag, str]) -> dict[Tag, Digest]:
    """The digests that tags point to; of what is no head, a text that is no digest."""
    return {tag: Digest(target.partition("@")[2]) for tag, target in tags.items()}


def _follow(
    directory: Directory, heads: dict[Digest, str], head: str, served: Served, manifests: dict[Digest, Manifest]
) -> None:
    unread = [head]
    while unread:
        head = unread.pop()
        if head in served.heads:
            continue
        served.heads.add(head)
        if manifest := read_manifest(directory, head):
            manifests[manifest.digest] = manifest
            served.blobs |= {blob.digest for blob in manifest.blobs}
            unread += [heads[child.digest] for child in manifest.children if child.digest in heads]


def read_manifest(directory: Directory, head: str) -> Manifest | None:
    """The manifest of a head, None if it cannot be read."""
    try:
        raw, _ = read_file(f"{head}/{head}", directory.descriptor, SIZE_LIMIT)
        return Manifest.parse(raw, paths.parse_head(head)[1].algorithm)
    except (OSError, ValueError):
        return None
