"""What a registry holds: repositories with their tags, manifests, blobs and referrers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scr_export.oci.digest import Digest
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.referrers import Referrers

File = TypeVar("File")


@dataclass(frozen=True, slots=True)
class Keep:
    """In place of a file: a manifest, blob or tag stays as the site has it."""


KEEP = Keep()


@dataclass(frozen=True, slots=True)
class KeepSignature(Keep):
    """A signature that stays as the site has it, with the digest of its bytes."""

    digest: Digest


@dataclass(slots=True)
class Repository(Generic[File]):
    """One repository. `File` is what holds the bytes of a manifest, blob or signature.

    A manifest comes after what it lists. `untagged` are the images that were put there by their digest alone; other
    manifests are parts of images. `signatures` are those of a manifest, in the order of their numbers.
    """

    tags: dict[Tag, ManifestName] = field(default_factory=dict)
    manifests: dict[ManifestName, File] = field(default_factory=dict)
    blobs: dict[Digest, File] = field(default_factory=dict)
    untagged: dict[Digest, None] = field(default_factory=dict)
    referrers: Referrers = field(default_factory=dict)
    signatures: dict[Digest, list[File]] = field(default_factory=dict)


@dataclass(slots=True)
class Catalog(Generic[File]):
    """All repositories of a registry. Everything that counts, lists or looks up what a registry has asks this."""

    repositories: dict[RepositoryName, Repository[File]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.repositories)

    def __iter__(self) -> Iterator[tuple[RepositoryName, Repository[File]]]:
        """Yield repositories in ASCII order of their names."""
        return iter(sorted(self.repositories.items(), key=lambda item: item[0]))

    def __contains__(self, name: RepositoryName) -> bool:
        return name in self.repositories

    def repository(self, name: RepositoryName) -> Repository[File]:
        """Return a repository, which is added if it is not there."""
        return self.repositories.setdefault(name, Repository())

    def has_tag(self, name: RepositoryName, tag: Tag) -> bool:
        """Tell whether a repository has this tag."""
        repository = self.repositories.get(name)
        return repository is not None and tag in repository.tags

    @property
    def tag_count(self) -> int:
        """The number of tags in all repositories."""
        return sum(len(repository.tags) for repository in self.repositories.values())


def children_first(children: Mapping[Digest, Iterable[Digest]]) -> list[Digest]:
    """Order manifests so that each comes after those that it lists, as far as they are among the keys."""
    ordered: dict[Digest, None] = {}
    for root in children:
        _visit(root, children, ordered)
    return list(ordered)


def _visit(root: Digest, children: Mapping[Digest, Iterable[Digest]], ordered: dict[Digest, None]) -> None:
    # Not recursive: a file that lies about its digest can make a long chain, or a circle.
    visited = {root}
    stack = [(root, iter(children[root]))]
    while stack:
        digest, rest = stack[-1]
        child = next((each for each in rest if each in children and each not in visited and each not in ordered), None)
        if child is None:
            ordered.setdefault(digest)
            stack.pop()
        else:
            visited.add(child)
            stack.append((child, iter(children[child])))
