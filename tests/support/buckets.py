"""Is a bucket whole, and what a site says? A judge that knows the keys, but nothing of the code that makes them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from tests.support.stores import Answer, Bucket, Listed

DIGEST = r"sha(?:256|384|512):[0-9a-f]+"
MANIFEST = re.compile(rf"v2/(.+)/manifests/({DIGEST})")
TAG = re.compile(r"v2/(.+)/manifests/([A-Za-z0-9_][A-Za-z0-9._-]*)")
MARKER = re.compile(rf"v2/(.+)/blobs/({DIGEST})")
BYTES = re.compile(rf"blobs/({DIGEST})")
REFERRERS = re.compile(rf"v2/(.+)/referrers/({DIGEST})/(.+)")
TAG_LIST = re.compile(r"v2/(.+)/tags/list")
PAGE = re.compile(r"(v2/(?:_catalog|.+/tags))/_pages@([0-9a-f]{32})/(.*)@(0|10*)")
SIGNATURE = re.compile(r"v2/_sigstore/(.+)@(sha256)=([0-9a-f]{64})/signature-([1-9][0-9]*)")
UPSTREAM = re.compile(r"v2/_ns/([^/]+)")
CATALOG, IMAGES_TXT = "v2/_catalog/list", "v2/_images.txt"
INDEX = "application/vnd.oci.image.index.v1+json"
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(slots=True)
class Judge:
    """Reads a bucket again and again, but an object only if it was written meanwhile."""

    bucket: Bucket
    read: dict[str, tuple[Listed, Answer]] = field(default_factory=dict)
    keys: dict[str, Listed] = field(default_factory=dict)

    def forget(self, path: str) -> None:
        """An object was written, by its path below the store."""
        self.read.pop(unquote(path).removeprefix(f"/{self.bucket.name}/{self.bucket.prefix}"), None)

    def get(self, key: str) -> Answer:
        known = self.read.get(key)
        if known is None or known[0] != self.keys[key]:
            known = self.read[key] = self.keys[key], self.bucket.get(key)
        assert known[1].status == 200, (key, known[1])
        return known[1]

    def assert_whole(self) -> None:
        """Everything that a name in the bucket leads to is there, with the right bytes."""
        self.keys = self.bucket.list()
        for key in self.keys:
            if match := TAG.fullmatch(key):
                self._assert_tag(key, match[1])
            elif match := MANIFEST.fullmatch(key):
                self._assert_manifest(match[1], match[2])
            elif match := MARKER.fullmatch(key):
                assert self.keys[key].size == 0
                assert f"blobs/{match[2]}" in self.keys, f"{key} has no bytes"
            elif match := BYTES.fullmatch(key):
                assert digest_of(self.get(key).body, match[1].partition(":")[0]) == match[1]
            elif match := REFERRERS.fullmatch(key):
                for each in json.loads(self.get(key).body)["manifests"]:
                    assert f"v2/{match[1]}/manifests/{each['digest']}" in self.keys, f"{key} lists {each}"
            elif match := TAG_LIST.fullmatch(key):
                self._assert_tag_list(key, match[1])
            elif key == CATALOG:
                for name in json.loads(self.get(key).body)["repositories"]:
                    assert f"v2/{name}/tags/list" in self.keys, f"{name} is listed, but not there"
            elif key == IMAGES_TXT:
                self._assert_images_txt()
            else:
                assert any(kind.fullmatch(key) for kind in (PAGE, SIGNATURE, UPSTREAM)), f"{key} is no key of a bucket"

    def _assert_tag(self, key: str, name: str) -> None:
        answer = self.get(key)
        digest = answer.headers["x-amz-meta-digest"]
        by_digest = f"v2/{name}/manifests/{digest}"
        assert digest_of(answer.body, digest.partition(":")[0]) == digest
        assert by_digest in self.keys, f"{key} leads to {digest}, which is not there"
        assert self.get(by_digest).headers["content-type"] == answer.headers["content-type"]

    def _assert_manifest(self, name: str, digest: str) -> None:
        answer = self.get(f"v2/{name}/manifests/{digest}")
        assert digest_of(answer.body, digest.partition(":")[0]) == digest
        assert answer.headers["x-amz-meta-digest"] == digest
        manifest = json.loads(answer.body)
        assert answer.headers["content-type"] == manifest.get("mediaType", answer.headers["content-type"])
        for blob in [*manifest.get("layers", []), *filter(None, [manifest.get("config")])]:
            if not blob.get("urls"):
                assert f"v2/{name}/blobs/{blob['digest']}" in self.keys, f"{name}@{digest} lacks {blob['digest']}"
                assert self.keys[f"blobs/{blob['digest']}"].size == blob["size"]
        for child in manifest.get("manifests", []):
            assert f"v2/{name}/manifests/{child['digest']}" in self.keys, f"{name}@{digest} lacks {child['digest']}"

    def _assert_tag_list(self, key: str, name: str) -> None:
        answer = self.get(key)
        listed = json.loads(answer.body)
        assert listed["name"] == name
        for tag in listed["tags"]:
            assert f"v2/{name}/manifests/{tag}" in self.keys, f"{name}:{tag} is listed, but not there"
        self._assert_pages(key, listed["tags"], "tags")

    def _assert_pages(self, key: str, entries: list[str], field: str) -> None:
        """From the start and from every entry on, pages of each size lead to the end."""
        directory = f"{key.removesuffix('/list')}/_pages@{self.get(key).headers['x-amz-meta-pages']}"
        assert json.loads(self.get(f"{directory}/@0").body)[field] == []
        for size in (1, 10, 100, 1000):
            last, found = "", []
            while True:
                sizes = [n for n in (1000, 100, 10, 1) if n <= size and f"{directory}/{last}@{n}" in self.keys]
                answer = self.get(f"{directory}/{last}@{sizes[0]}")
                assert answer.headers["content-type"] == "application/json"
                found += json.loads(answer.body)[field]
                following = answer.headers.get("x-amz-meta-next")
                if following is None:
                    break
                assert following == quote(found[-1], safe="")
                last = found[-1]
            assert found == entries

    def _assert_images_txt(self) -> None:
        for line in self.get(IMAGES_TXT).body.decode().splitlines():
            digest, _, reference = line.partition("  ")
            name = re.sub(r"[:@].*", "", reference)
            assert f"v2/{name}/manifests/{digest}" in self.keys

    def assert_is(self, site: Path, *, and_nothing_else: bool = True) -> None:
        """The bucket is whole and answers for exactly what a site has; `and_nothing_else`: not even old content."""
        self.assert_whole()
        wanted = site_keys(site)
        pages = {key for key in self.keys if PAGE.fullmatch(key)}
        assert {key: digest_of(self.get(key).body) for key in wanted} == wanted
        content = (MARKER, MANIFEST, BYTES, SIGNATURE)
        rest = {key for key in self.keys.keys() - wanted.keys() - pages if not any(p.fullmatch(key) for p in content)}
        assert rest == set()
        for key in wanted:
            if TAG_LIST.fullmatch(key) or key == CATALOG:
                field = "repositories" if key == CATALOG else "tags"
                self._assert_pages(key, json.loads(self.get(key).body)[field], field)
        if and_nothing_else:
            assert self.keys.keys() - wanted.keys() - pages == set()
            used = {
                self.get(key).headers["x-amz-meta-pages"] for key in self.keys if key == CATALOG or "/tags/list" in key
            }
            assert {match[2] for key in pages if (match := PAGE.fullmatch(key))} == used


def site_keys(site: Path) -> dict[str, str]:
    """Return the keys that a site's own files stand for, but for pages, with the sha256 of their bytes."""
    found: dict[str, str] = {}
    for path in sorted(site.glob("v2/**/*")):
        relative = path.relative_to(site).as_posix()
        if path.parent.name == "blobs" and re.fullmatch(DIGEST, path.name):
            found[relative] = digest_of(b"")
            found[f"blobs/{path.name}"] = digest_of(path.read_bytes())
        elif path.parent.name == "manifests" and path.is_symlink():
            (manifest,) = path.iterdir()
            found[relative] = digest_of(manifest.read_bytes())
        elif path.parent.parent.name == "manifests" and path.name == path.parent.name and "@sha" in path.name:
            key = f"{path.parents[1].relative_to(site).as_posix()}/{path.name.partition('@')[2]}"
            found[key] = digest_of(path.read_bytes())
        elif path.is_file() and (path.parents[1].name == "referrers" or path.name.startswith("signature-")):
            found[relative] = digest_of(path.read_bytes())
        elif relative.endswith("/tags/list") and path.is_symlink():
            found[relative] = digest_of(path.read_bytes())
            found[f"v2/_ns/{relative.split('/')[1]}"] = digest_of(b"")
    found[CATALOG] = digest_of((site / "v2/_catalog").read_bytes())
    found[IMAGES_TXT] = digest_of((site / "images.txt").read_bytes())
    return found
