"""`scr-export list SITE [GLOB]`: read what a site has, image by image."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from scr_export.commands.inventories import reading_inventories
from scr_export.oci.digest import Digest
from scr_export.oci.inventory import ListedImage
from scr_export.oci.name import RepositoryName
from scr_export.oci.reference import Reference
from scr_export.oci.repository import Keep, Repository
from scr_export.problems import Problems
from scr_export.progress import counted
from scr_export.report import SCHEMA, Result, problems_as_dict
from scr_export.text import count, printable, size, table

_SHORT = 12  # so many digits of a digest are printed without --verbose
_LONGEST = 200  # characters of an artifact type or annotation that are printed
_NAMED = 3  # so many platforms are named in full
_HEADINGS = ("IMAGE", "DIGEST", "SIZE", "SIGNATURES", "REFERRERS", "PLATFORMS, TYPE")
_RIGHT = "  rrr"
_WIDEST = {False: 48, True: 72}  # characters of a column; a whole digest has 71
_NONE = "-"
_Row = tuple[str, str, str, str, str, str]


@dataclass(slots=True)
class ListReport(Result):
    """What a site has. `size` is in bytes: all content of these images, each digest once. `glob` is '' for all."""

    site: str
    glob: str = ""
    images: list[ListedImage] = field(default_factory=list)
    size: int = 0
    seconds: float = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def repositories(self) -> int:
        """In how many repositories the images are."""
        return len({image.reference.repository for image in self.images})

    def as_json(self) -> str:
        """Return one JSON document."""
        document = {
            "schema": SCHEMA,
            "site": self.site,
            "glob": self.glob or None,
            "repositories": self.repositories,
            "size": self.size,
            "images": [_as_dict(image) for image in self.images],
            "seconds": round(self.seconds, 3),
        }
        return json.dumps(document | problems_as_dict(self.problems), indent=2)

    @property
    def brief(self) -> str:
        """The names alone."""
        return "\n".join(str(image.reference) for image in self.images)

    def text(self, *, verbose: bool) -> str:
        """Return a table, and a line that sums it up."""
        rows = [row for image in self.images for row in _rows(image, verbose=verbose)]
        return "\n".join([*(table([_HEADINGS, *rows], _WIDEST[verbose], _RIGHT) if rows else ()), str(self)])

    def __str__(self) -> str:
        images, repositories = count(len(self.images), "image"), count(self.repositories, "repository")
        return (
            f"{printable(self.site)}: {images} in {repositories}\n"
            f"  content  {size(self.size)}, each digest once; SIZE is of all platforms of an image that are here"
        )


def list_images(site: str, glob: str = "") -> ListReport:
    """Return what a site has, sorted by name.

    `glob` is matched with NAME:TAG and with NAME as `fnmatch` does, so `*` stands for slashes too; '' is all.
    SiteError, SiteLockedError: the text says what the operator has to know.
    """
    started = time.monotonic()
    report = ListReport(site, glob)
    content: dict[Digest, int] = {}
    with reading_inventories(site, report.problems) as inventories:
        total = len(inventories.catalog.repositories)
        for name, repository in counted(inventories.catalog, "reading the site", "repository", total):
            if not _may_match(name, repository, glob):
                continue
            inventory = inventories.of(name)
            for image in inventory.images(inventories.untagged(inventory)):
                if _matches(image.reference, glob):
                    report.images.append(image)
                    content |= inventory.content(image.name.digest)
                    inventories.is_whole(inventory, image.name.digest)
    report.size = sum(content.values())
    report.seconds = time.monotonic() - started
    return report


def _matches(reference: Reference, glob: str) -> bool:
    return not glob or fnmatchcase(str(reference), glob) or fnmatchcase(reference.repository, glob)


def _may_match(name: RepositoryName, repository: Repository[Keep], glob: str) -> bool:
    """Tell by its names whether a repository has to be read. Of one without tags no other names are known."""
    if not repository.tags:
        return True
    tags = (Reference(name, tag) for tag in repository.tags)
    digests = (Reference(name, None, manifest.digest) for manifest in repository.manifests)
    return any(_matches(each, glob) for references in (tags, digests) for each in references)


def _as_dict(image: ListedImage) -> dict[str, Any]:
    return {
        "name": str(image.reference),
        "repository": image.reference.repository,
        "tag": image.reference.tag,
        "digest": image.name.digest,
        "media_type": image.name.media_type,
        "artifact_type": image.artifact_type,
        "platforms": image.platforms,
        "size": image.size,
        "annotations": image.annotations,
        "signatures": {"cosign": image.cosign, "simple": image.simple},
        "referrers": [
            {"digest": each.digest, "artifact_type": each.artifact_type, "subject": subject}
            for subject, each in image.referrers
        ],
        "manifests": [{"digest": part.digest, "platforms": part.platforms, "size": part.size} for part in image.parts],
    }


def _rows(image: ListedImage, *, verbose: bool) -> Iterator[_Row]:
    kinds = [*_short(image.platforms), *([_cut(image.artifact_type)] if image.artifact_type else [])]
    yield (
        str(image.reference),
        image.name.digest if verbose else image.name.digest.encoded[:_SHORT],
        _NONE if image.size is None else size(image.size),
        _number(image.cosign + image.simple),
        _number(len(image.referrers)),
        ",".join(kinds) or _NONE,
    )
    if verbose:
        yield from _details(image)


def _details(image: ListedImage) -> Iterator[_Row]:
    for part in image.parts:
        yield "  manifest", part.digest, size(part.size), "", "", ",".join(part.platforms) or _NONE
    for _, referrer in image.referrers:
        yield "  referrer", referrer.digest, "", "", "", _cut(referrer.artifact_type or _NONE)
    for key, value in sorted(image.annotations.items()):
        yield "  annotation", "", "", "", "", _cut(f"{key}={value}")


def _short(platforms: Sequence[str]) -> list[str]:
    """Name platforms; of many, each system once: `linux/amd64,arm64,riscv64,s390x`."""
    if len(platforms) <= _NAMED:
        return list(platforms)
    by_system: dict[str, list[str]] = {}
    for platform in platforms:
        system, _, rest = platform.partition("/")
        by_system.setdefault(system, []).append(rest)
    return [f"{system}/{','.join(rest)}" for system, rest in by_system.items()]


def _number(number: int) -> str:
    return f"{number:,}" if number else _NONE


def _cut(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
