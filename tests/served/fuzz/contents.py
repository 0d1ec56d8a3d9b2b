"""A small site with something of everything, and what each path of it must answer.

This knows the images that were built and the specification, nothing of the snippets: it is what they are judged by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tests.support import builders, requests_table
from tests.support.builders import Built
from tests.support.runner import export

NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
OF_REPOSITORY = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)", re.DOTALL)
MANY = "many/tags"
_IMAGES: dict[str, Callable[[Path], Built]] = {
    each: requests_table.IMAGES[each]
    for each in (
        *("docker/app:1", "oci/app:1", "oci/app:v1.gz", "oci/app:UPPER_Case-1", "oci/app:_under", "list:latest"),
        *("a/b-c/d.e/f_g/h__i/j---k:1", "charts/app:1.0.0", "sha512:1", "sha384:1", "hollow:1", "v2:list"),
        *("tags/list:tags", "a/v2/x/manifests/app:1", "blobs/blobs:manifests", f"oci/app:{'x' * 128}"),
        *("oci/app:signature", "oci/app:signature-2", "oci/app:sbom", "oci/app:odd", "oci/app:of-sbom", "list:chart"),
    )
}
_IMAGES |= {
    # names that are words of the paths
    "a/manifests:1": partial(builders.write_image, seed=101),
    "a/tags:list": partial(builders.write_image, seed=102),
    "a/blobs/x:1": partial(builders.write_image, seed=103),
    "a/referrers:manifests": partial(builders.write_index, seed=104),
    # one path below several upstreams
    "library/app:1": partial(builders.write_image, seed=105),
    "docker.io/library/app:1": partial(builders.write_image, seed=106),
    "docker.io/library/app:2": partial(builders.write_image, seed=107, docker=True),
    "docker.io/only/here:1": partial(builders.write_image, seed=108),
    "quay.io/library/app:1": partial(builders.write_index, seed=109),
    "localhost_5000/library/app:1": partial(builders.write_image, seed=110),
}


@dataclass(frozen=True, slots=True)
class Api:
    """The registry is there."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, asked for by a tag or by its digest."""

    media_type: str
    digest: str
    raw: bytes
    by_tag: bool


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob."""

    digest: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """A list at its path: the tags of a repository by its `name`, or, without one, all repositories."""

    path: str
    name: str
    entries: list[str]

    @property
    def key(self) -> str:
        """The member of the document that has the entries."""
        return "tags" if self.name else "repositories"


@dataclass(frozen=True, slots=True)
class Referrers:
    """The descriptors of what refers to a digest."""

    descriptors: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Text:
    """The list of all images, for people."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing, for one of these reasons."""

    codes: frozenset[str]


Found = Api | Manifest | Blob | Listing | Referrers | Text | Missing


class Contents:
    """What the site must have."""

    def __init__(self, site: Path, images: dict[str, Built]) -> None:
        self.site = site
        self.images = images
        self.tags: dict[str, dict[str, Built]] = {}
        for reference, built in images.items():
            name, _, tag = reference.rpartition(":")
            self.tags.setdefault(name, {})[tag] = built

    @cached_property
    def manifests(self) -> dict[str, dict[str, tuple[str, bytes]]]:
        """Media type and bytes of each manifest, by repository and digest."""
        return {
            name: {digest: each for built in tags.values() for digest, each in built.manifests.items()}
            for name, tags in self.tags.items()
        }

    @cached_property
    def blobs(self) -> dict[str, dict[str, bytes]]:
        """Each blob, by repository and digest."""
        return {
            name: {digest: each for built in tags.values() for digest, each in built.blobs.items()}
            for name, tags in self.tags.items()
        }

    @cached_property
    def upstreams(self) -> frozenset[str]:
        """What may stand for a host: the first component of each name."""
        return frozenset(name.partition("/")[0] for name in self.tags)

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """The descriptors of what refers to a digest in a repository, in the order of their digests."""
        found = {}
        for built in self.tags[name].values():
            subject = json.loads(built.raw).get("subject")
            if subject and subject["digest"] == digest:
                found[built.digest] = builders.referrer(built)
        return [found[each] for each in sorted(found)]

    def find(self, path: str) -> Found:
        """What a path leads to that is written as plainly as can be."""
        match path:
            case "/v2" | "/v2/":
                return Api()
            case "/v2/_catalog":
                return Listing(path, "", sorted(self.tags))
            case "/v2/_images.txt" if (self.site / "images.txt").is_file():
                return Text((self.site / "images.txt").read_bytes())
        of_repository = OF_REPOSITORY.fullmatch(path)
        if not of_repository:
            return Missing(frozenset({"UNSUPPORTED"}))
        name, kind, reference = of_repository.groups()
        faults = frozenset(self._faults(name, kind, reference))
        return Missing(faults) if faults else self._in_repository(name, kind, reference)

    def _faults(self, name: str, kind: str, reference: str) -> Iterable[str]:
        if not NAME.fullmatch(name):
            yield "NAME_INVALID"
        elif name not in self.tags:
            yield "NAME_UNKNOWN"
            if len(name) > 200:
                yield "NAME_INVALID"  # a server may have a limit
            if kind == "manifests" and not TAG.fullmatch(reference):
                yield "MANIFEST_UNKNOWN"  # no repository has it
        if kind == "tags" and reference != "list":
            yield "UNSUPPORTED"
        needs_digest = kind in ("blobs", "referrers") or (kind == "manifests" and ":" in reference)
        if needs_digest and not DIGEST.fullmatch(reference):
            yield "DIGEST_INVALID"

    def _in_repository(self, name: str, kind: str, reference: str) -> Found:
        if kind == "tags":
            return Listing(f"/v2/{name}/tags/list", name, sorted(self.tags[name]))
        if kind == "referrers":
            return Referrers(self.referrers(name, reference))
        if kind == "blobs":
            data = self.blobs[name].get(reference)
            return Missing(frozenset({"BLOB_UNKNOWN"})) if data is None else Blob(reference, data)
        built = self.tags[name].get(reference)
        digest = built.digest if built else reference
        if digest not in self.manifests[name]:
            return Missing(frozenset({"MANIFEST_UNKNOWN"}))
        return Manifest(*self.manifests[name][digest][:1], digest, self.manifests[name][digest][1], built is not None)


def publish(directory: Path) -> Contents:
    """Build the images, and export them to a site beside them; both are the same in each run."""
    images = directory / "images"
    written = {each: write(images / each.replace(":", "/")) for each, write in _IMAGES.items()}
    first = builders.write_image(images / MANY / "t000", seed=111)
    for number in range(120):
        tag = f"t{number:03}"
        written[f"{MANY}:{tag}"] = first
        if number:
            builders.link_image(images / MANY / "t000", images / MANY / tag)
    export(images, directory / "site", "--no-html")  # all paths but those of the registry are errors then
    return Contents(directory / "site", written)
