"""One table of requests and their answers, the same for every server: the registry as a client sees it.

In a row, words in angle brackets stand for what only the images know: see `Published.words`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.support import builders
from tests.support.builders import Built
from tests.support.http import Answer, request
from tests.support.runner import export

JSON = "application/json"
INDEX = "application/vnd.oci.image.index.v1+json"
MOVES = frozenset({"no-cache", "no-transform"})
STAYS = frozenset({"public", "max-age=31536000", "immutable", "no-transform"})
LONG = "x" * 128
NEVER = ("Content-Encoding", "Set-Cookie", "Transfer-Encoding", "Location")
UNCONDITIONAL = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Expires")
SECRET = b"SECRET"
LISTS = (b'"tags":', b'"repositories":', b'"manifests":')
SIGNATURE = "application/vnd.example.signature.v1+json"
OF_CONTENT = ("Docker-Content-Digest", "Link", "OCI-Filters-Applied")
Headers = Mapping[str, str]


# the images and their site


def write_hollow(directory: Path) -> Built:
    """Write an artifact whose one layer has no bytes at all."""
    built = builders.write_artifact(directory, seed=90, empty_config=True, artifact_type="application/x.hollow")
    manifest = json.loads(built.raw)
    config, layer = manifest["config"]["digest"], manifest["layers"][0]["digest"]
    empty = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    (directory / layer.removeprefix("sha256:")).unlink()
    (directory / empty.removeprefix("sha256:")).write_bytes(b"")
    manifest["layers"][0] |= {"digest": empty, "size": 0}
    raw = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(raw)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    manifests = {digest: (built.media_type, raw)}
    return Built(media_type=built.media_type, digest=digest, manifests=manifests, blobs={config: b"{}", empty: b""})


def write_referrer(directory: Path, *, of: str, seed: int, artifact_type: str, in_config: bool = False) -> Built:
    """Write an artifact whose subject is another image of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        subject = IMAGES[of](Path(scratch) / "subject")
    annotations = {"org.example.seed": f'{seed} \u00e9 "</>'}
    return builders.write_artifact(
        directory,
        seed=seed,
        artifact_type=artifact_type,
        empty_config=not in_config,
        subject=subject,
        annotations=annotations,
    )


IMAGES: dict[str, Callable[[Path], Built]] = {
    "docker/app:1": partial(builders.write_image, seed=1, docker=True),
    "oci/app:1": partial(builders.write_image, seed=2, media_type_field=False),
    "oci/app:1.0.json": partial(builders.write_image, seed=3),
    "oci/app:v1.gz": partial(builders.write_image, seed=4, compression="zstd"),
    "oci/app:site.conf": partial(builders.write_image, seed=5),
    "oci/app:index.html": partial(builders.write_image, seed=6, compression="none"),
    "oci/app:UPPER_Case-1": partial(builders.write_image, seed=7),
    "oci/app:_under": partial(builders.write_image, seed=8),
    f"oci/app:{LONG}": partial(builders.write_image, seed=9),
    "list:latest": partial(builders.write_index, seed=10, docker=True),
    "a/b-c/d.e/f_g/h__i/j---k:1": partial(builders.write_index, seed=11, sparse=("arm64",)),
    "charts/app:1.0.0": partial(builders.write_artifact, seed=12),
    "sha512:1": partial(builders.write_image, seed=13, algorithm="sha512", prefixed=True),
    "sha384:1": partial(builders.write_image, seed=14, algorithm="sha384", prefixed=True),
    "hollow:1": write_hollow,
    "zero:0": partial(builders.write_image, seed=25),  # a text that nginx takes for false
    # names and tags that are also words of the paths
    "v2:list": partial(builders.write_image, seed=15),
    "tags/list:tags": partial(builders.write_image, seed=16),
    "a/v2/x/manifests/app:1": partial(builders.write_image, seed=17),
    "blobs/blobs:manifests": partial(builders.write_image, seed=18),
    # what refers to others
    "oci/app:signature": partial(write_referrer, of="oci/app:1", seed=19, artifact_type=SIGNATURE),
    "oci/app:signature-2": partial(write_referrer, of="oci/app:1", seed=20, artifact_type=SIGNATURE),
    "oci/app:sbom": partial(write_referrer, of="oci/app:1", seed=21, artifact_type="text/x-sbom.v1"),
    "oci/app:odd": partial(write_referrer, of="oci/app:1", seed=22, artifact_type="application/x.odd;v=1"),
    "oci/app:of-sbom": partial(write_referrer, of="oci/app:sbom", seed=23, artifact_type=SIGNATURE),
    "list:chart": partial(
        write_referrer, of="list:latest", seed=24, artifact_type=builders.HELM_CONFIG, in_config=True
    ),
}


@dataclass(frozen=True, slots=True)
class Published:
    """A site, and what it was made from, by reference."""

    site: Path
    prefix: str
    images: Mapping[str, Built]

    def name(self, reference: str) -> str:
        """The repository of a reference, as the site has it."""
        return self.prefix + reference.rpartition(":")[0]

    def tags(self) -> dict[str, list[str]]:
        """The tags of each repository."""
        found: dict[str, list[str]] = {}
        for reference in self.images:
            found.setdefault(self.name(reference), []).append(reference.rpartition(":")[2])
        return found

    def words(self) -> dict[str, str]:
        """What words in angle brackets stand for."""
        oci, docker = self.images["oci/app:1"], self.images["docker/app:1"]
        return {
            "app": self.name("oci/app:1"),
            "digest": oci.digest,
            "hex": oci.digest.removeprefix("sha256:"),
            "manifest": oci.manifest_name,
            "other-digest": docker.digest,
            "layer": json.loads(oci.raw)["layers"][0]["digest"],
            "other-layer": json.loads(docker.raw)["layers"][0]["digest"],
            "none": f"sha256:{'0' * 64}",
            "none512": f"sha512:{'0' * 128}",
            "8k": "y" * 8000,
            "256": "y" * 256,  # more than a file name can have
            "4k": "y/" * 2050 + "y",  # more than a path can have
        }

    def resolve(self, text: str) -> str:
        """The text with its words replaced."""
        words = self.words()
        return re.sub(r"<([a-z0-9-]+)>", lambda match: words[match[1]], text)


def publish(directory: Path, *, prefix: str = "", images: Iterable[str] = tuple(IMAGES)) -> Published:
    """Write images into the directory, and export them to a site beside them."""
    written = {each: IMAGES[each](directory / "images" / each.replace(":", "/")) for each in images}
    options = ("--name-prefix", prefix.rstrip("/")) if prefix else ()
    export(directory / "images", directory / "site", *options)
    return Published(directory / "site", prefix, written)


def plant(published: Published) -> None:
    """Put files into the site that no export writes and that must never be served."""
    below = published.site / "v2" / published.name("oci/app:1")
    signatures = published.site / "v2/_sigstore/x@sha256=00"
    signatures.mkdir(parents=True)
    (signatures / "secret").write_bytes(SECRET)
    for name in ("images.txt.asc", ".scr-export/secret", "v2/index.html", "v2/_secret", "secret.json", "nginx.conf.d"):
        (published.site / name).write_bytes(SECRET)
    for name in ("secret", ".secret", "index.html", "manifests/.secret", "manifests/@", "manifests/file", "blobs/x"):
        (below / name).write_bytes(SECRET)
    targets = {"passwd": "/etc/passwd", "etc": "/etc", "blobs": "../blobs", "nowhere": "none", "parent": ".."}
    for name, target in targets.items():
        (below / "manifests" / f"to-{name}").symlink_to(target)


# what an answer of a kind must be


def check_manifest(
    answer: Answer, method: str, media_type: str, digest: str, raw: bytes, cache: frozenset[str]
) -> None:
    """A manifest: its bytes, its type with no parameters, its digest as its entity tag; never in ranges."""
    _check_content(answer, method, media_type, digest, raw)
    assert _cache(answer) == cache
    _check_absent(answer, [each for each in UNCONDITIONAL if each != "ETag"])


def check_blob(answer: Answer, method: str, digest: str, data: bytes) -> None:
    """A blob: of the type that says nothing, for ever, and in ranges if one likes."""
    _check_content(answer, method, "application/octet-stream", digest, data)
    assert _cache(answer) == STAYS
    assert answer.all("Accept-Ranges") == ["bytes"] or not data


def check_list(answer: Answer, method: str, document: Any) -> None:
    """A list of tags or of repositories."""
    assert (answer.status, answer.all("Content-Type")) == (200, [JSON])
    assert _cache(answer) == MOVES
    _check_absent(answer, NEVER + UNCONDITIONAL)
    if method == "HEAD":
        assert answer.body == b""
    else:
        assert json.loads(answer.body) == document
        assert answer.one("Content-Length") == str(len(answer.body))


def check_referrers_list(answer: Answer, method: str, descriptors: list[Any], *, filtered: bool) -> None:
    """What refers to a manifest, in the order of digests: an OCI index."""
    assert (answer.status, answer.all("Content-Type")) == (200, [INDEX])
    assert answer.all("OCI-Filters-Applied") == (["artifactType"] if filtered else [])
    assert _cache(answer) == MOVES
    _check_absent(answer, (*NEVER, *UNCONDITIONAL, "Docker-Content-Digest", "Link"))
    if method == "HEAD":
        assert answer.body == b""
    else:
        assert json.loads(answer.body) == {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}
        assert answer.one("Content-Length") == str(len(answer.body))


def check_error(answer: Answer, method: str, status: int, code: str) -> None:
    """An error in the words of the distribution spec."""
    assert (answer.status, answer.all("Content-Type")) == (status, [JSON])
    assert answer.all("Allow") == (["GET, HEAD"] if status == 405 else [])
    _check_absent(answer, (*NEVER, *UNCONDITIONAL, *OF_CONTENT))
    assert _cache(answer) == MOVES
    if method == "HEAD":
        assert answer.body == b""
    else:
        assert answer.codes == [code]
        assert answer.one("Content-Length") == str(len(answer.body))


def _check_content(answer: Answer, method: str, media_type: str, digest: str, data: bytes) -> None:
    assert (answer.status, answer.all("Content-Type")) == (200, [media_type])
    assert answer.all("Docker-Content-Digest") == [digest]
    assert answer.all("ETag") == [f'"{digest}"']
    assert answer.all("Content-Length") == [str(len(data))]
    _check_absent(answer, (*NEVER, "Last-Modified"))
    assert answer.body == (data if method != "HEAD" else b"")


def _check_absent(answer: Answer, names: Iterable[str]) -> None:
    assert [name for name in names if answer.all(name)] == []


def _cache(answer: Answer) -> frozenset[str]:
    (value,) = answer.all("Cache-Control")
    return frozenset(re.split(", *", value))


def check_image(port: int, published: Published, reference: str, headers: Headers | None = None) -> None:
    """Every manifest of an image, by tag and by digest, and every blob, each by GET and by HEAD."""
    image, tag = published.images[reference], reference.rpartition(":")[2]
    below = f"/v2/{published.name(reference)}"
    for method in ("GET", "HEAD"):
        answer = request(port, method, f"{below}/manifests/{tag}", headers)
        check_manifest(answer, method, image.media_type, image.digest, image.raw, MOVES)
        for digest, (media_type, raw) in image.manifests.items():
            answer = request(port, method, f"{below}/manifests/{digest}", headers)
            check_manifest(answer, method, media_type, digest, raw, STAYS)
        for digest, data in image.blobs.items():
            check_blob(request(port, method, f"{below}/blobs/{digest}", headers), method, digest, data)


def check_lists(port: int, published: Published, headers: Headers | None = None) -> None:
    """The tags of every repository, and all repositories: whole, and one by one."""
    tags = published.tags()
    lists: dict[str, dict[str, Any]] = {"/v2/_catalog": {"repositories": sorted(tags)}}
    lists |= {f"/v2/{name}/tags/list": {"name": name, "tags": sorted(each)} for name, each in tags.items()}
    for path, document in lists.items():
        for method in ("GET", "HEAD"):
            answer = request(port, method, path, headers)
            check_list(answer, method, document)
            assert answer.all("Link") == []
            _check_steps(port, method, path, document, headers)


def _check_steps(port: int, method: str, path: str, document: dict[str, Any], headers: Headers | None) -> None:
    """Pages of one entry, each with a link to the next (RFC 8288), and the empty page of none."""
    *_, kind = document
    for number, entry in enumerate(document[kind]):
        last = quote(document[kind][number - 1], safe="") if number else ""
        answer = request(port, method, f"{path}?n=1&last={last}", headers)
        check_list(answer, method, document | {kind: [entry]})
        follows = f'<{path}?n=1&last={quote(entry, safe="")}>; rel="next"'
        is_last = number == len(document[kind]) - 1
        assert answer.all("Link") == ([] if is_last else [follows]) or len(entry) > 110
    answer = request(port, method, f"{path}?n=0", headers)
    check_list(answer, method, document | {kind: []})
    assert answer.all("Link") == []


def check_referrers(port: int, published: Published, headers: Headers | None = None) -> None:
    """What refers to each manifest of each repository: all of it, of each type, and of what is no type."""
    for reference, image in published.images.items():
        name = published.name(reference)
        known = [each for other, each in published.images.items() if published.name(other) == name]
        for digest in [*image.manifests, published.words()["none"]]:
            found = sorted((each for each in known if _refers(each, digest)), key=lambda each: each.digest)
            path = f"/v2/{name}/referrers/{digest}"
            descriptors = [builders.referrer(each) for each in found]
            for method in ("GET", "HEAD"):
                answer = request(port, method, path, headers)
                check_referrers_list(answer, method, descriptors, filtered=False)
                for artifact_type in TYPES:
                    of_type = [each for each in descriptors if each["artifactType"] == artifact_type]
                    for written in {quote(artifact_type, safe=""), quote(artifact_type), artifact_type}:
                        answer = request(port, method, f"{path}?artifactType={written}", headers)
                        check_referrers_list(answer, method, of_type, filtered=True)
                for written in NO_TYPES if descriptors else ():
                    asked = published.resolve(f"{path}?artifactType={written}").encode("latin-1")
                    answer = request(port, method, asked, headers)
                    check_referrers_list(answer, method, descriptors, filtered=False)


def _refers(image: Built, digest: str) -> bool:
    subject = json.loads(image.raw).get("subject")
    return bool(subject and subject["digest"] == digest)


# the table


@dataclass(frozen=True, slots=True)
class Row:
    """A request and its answer: an error's `code`, or the manifest `of` a reference, or else the status alone."""

    path: str
    status: int
    code: str = ""
    method: str = "GET"
    headers: Headers = field(default_factory=dict)
    of: str = ""

    def __str__(self) -> str:
        path = self.path if len(self.path) < 90 else f"{self.path[:80]}...({len(self.path)})"
        sent = "".join(f" {name}={value}" for name, value in self.headers.items())
        return f"{self.method} {path}{sent}".encode("unicode_escape").decode()


def check_row(port: int, published: Published, row: Row) -> None:
    """Send the request of a row, and compare the answer."""
    headers = {name: published.resolve(value) for name, value in row.headers.items()}
    answer = request(port, row.method, published.resolve(row.path), headers)
    if row.of:
        image = published.images[row.of]
        check_manifest(answer, row.method, image.media_type, image.digest, image.raw, MOVES)
    elif row.code:
        check_error(answer, row.method, row.status, row.code)
    else:
        assert answer.status == row.status


def check_hostile(port: int, published: Published, path: str, method: str = "GET") -> None:
    """Check that nothing is served. Status and body may be those of the server itself."""
    answer = request(port, method, published.resolve(path).encode("latin-1"))
    assert answer.status in (400, 403, 404, 405, 414)
    check_no_secret(answer)
    if is_below_v2(published.resolve(path)):
        check_error(answer, method, answer.status, *answer.codes)


def is_below_v2(path: str) -> bool:
    """Whether a request gets as far as our locations: servers refuse some by themselves."""
    is_well_formed = not re.search("%00|%(?![0-9A-Fa-f]{2})", path) and len(path) < 8000
    return path.startswith("/v2/") and ".." not in unquote(path) and is_well_formed


def check_kept(port: int, published: Published, path: str) -> None:
    """Nothing of the site is there. A website that is beside it may have an answer of its own."""
    answer = request(port, "GET", published.resolve(path).encode("latin-1"))
    if "/blobs/" not in path or answer.all("Docker-Content-Digest") != [published.words()["layer"]]:
        check_no_secret(answer)
    if not path.endswith("/"):  # a website's own rewrite may have cut off that
        assert [each for each in LISTS if each in answer.body] == []


def check_kept_or_same(port: int, published: Published, path: str) -> None:
    """Another spelling of a manifest's path: a website may have an answer of its own."""
    answer = request(port, "GET", published.resolve(path))
    image = published.images["oci/app:1"]
    if answer.all("Docker-Content-Digest"):
        check_manifest(answer, "GET", image.media_type, image.digest, image.raw, MOVES)
    else:
        check_no_secret(answer)


def check_harmless(port: int, published: Published, path: str) -> None:
    """Another spelling of a manifest's path: it is refused, or leads to that manifest."""
    answer = request(port, "GET", published.resolve(path))
    if answer.status == 200:
        image = published.images["oci/app:1"]
        check_manifest(answer, "GET", image.media_type, image.digest, image.raw, MOVES)
    else:
        assert answer.status in (400, 404)
        check_no_secret(answer)


def check_no_secret(answer: Answer) -> None:
    """The answer has nothing of the site's files, of the machine's, or of a variable's value."""
    assert answer.all("Docker-Content-Digest") == []
    seen = (SECRET, b"root:", b"scr_", b"orig_uri", b"schemaVersion", b"/site", b"Index of", b"caddy")
    assert [each for each in seen if each in answer.body] == []


def mismatches(port: int, published: Published, headers: Headers | None = None) -> list[str]:
    """All that the whole registry and the whole table have and that is not as it must be."""
    checks = {each: partial(check_image, port, published, each, headers) for each in published.images}
    checks["lists"] = partial(check_lists, port, published, headers)
    checks["referrers"] = partial(check_referrers, port, published, headers)
    checks |= {str(row): partial(check_row, port, published, row) for row in ROWS}
    checks |= {path: partial(check_kept, port, published, path) for path in INSIDE + HOSTILE}
    checks |= {path: partial(check_kept_or_same, port, published, path) for path in HARMLESS}
    return [f"{title}: {error}" for title, check in checks.items() if (error := _failure(check))]


def _failure(check: partial[None]) -> str:
    try:
        check()
    except (AssertionError, ValueError) as error:
        return str(error) or f"{''.join(traceback.format_tb(error.__traceback__)[-2:])}"
    return ""


def _both(status: int, code: str, *paths: str) -> list[Row]:
    return [Row(path, status, code, method) for path in paths for method in ("GET", "HEAD")]


API = [Row(path, 200, method=method) for path in ("/v2/", "/v2", "/v2/?a=b") for method in ("GET", "HEAD")]
UNKNOWN = [
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/none", "/v2/<app>/manifests/<none>"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/<none512>", "/v2/<app>/manifests/<other-digest>"),
    *_both(404, "MANIFEST_UNKNOWN", f"/v2/<app>/manifests/{LONG}x", "/v2/<app>/manifests/.secret"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/upper_case-1", "/v2/<app>/manifests/-dash"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/2?x=/v2/oci/app/manifests/1"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/file", "/v2/<app>/manifests/to-passwd"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/to-etc", "/v2/<app>/manifests/to-blobs"),
    *_both(404, "MANIFEST_UNKNOWN", "/v2/<app>/manifests/to-nowhere", "/v2/<app>/manifests/to-parent"),
    *_both(404, "BLOB_UNKNOWN", "/v2/<app>/blobs/<none>", "/v2/<app>/blobs/<other-layer>"),
    *_both(404, "BLOB_UNKNOWN", "/v2/<app>/blobs/<none512>", "/v2/<app>/blobs/<digest>"),
    *_both(404, "NAME_UNKNOWN", "/v2/no/thing/manifests/1", "/v2/no/thing/manifests/<digest>"),
    *_both(404, "NAME_UNKNOWN", "/v2/no/thing/blobs/<layer>", "/v2/no/thing/tags/list"),
    *_both(404, "NAME_UNKNOWN", "/v2/<app>/more/manifests/1", "/v2/no/manifests/1"),
    *_both(404, "NAME_UNKNOWN", "/v2/no/thing/tags/list?n=1", "/v2/no/thing/tags/list?n=0&last=1"),
    *_both(404, "NAME_UNKNOWN", "/v2/no/thing/referrers/<digest>", "/v2/no/thing/referrers/<none>?artifactType=a/b"),
    *_both(404, "UNSUPPORTED", "/v2/<app>/tags/list?last=none", "/v2/<app>/tags/list?n=1&last=none"),
    *_both(404, "NAME_UNKNOWN", "/v2/<256>/manifests/1", "/v2/<256>/blobs/<layer>", "/v2/<256>/tags/list"),
    *_both(404, "NAME_UNKNOWN", "/v2/<256>/tags/list?n=1", "/v2/<256>/referrers/<none>", "/v2/<256>/manifests/<none>"),
    *_both(404, "UNSUPPORTED", "/v2/_catalog?last=none", "/v2/_catalog?n=1&last=no/thing", "/v2/no/_catalog"),
]
# signatures in files of their own, and what is no such file
SIGSTORE = [
    *_both(404, "UNSUPPORTED", "/v2/_sigstore/<app>@sha256=<hex>/signature-9", "/v2/_sigstore", "/v2/_sigstore/"),
    *_both(404, "UNSUPPORTED", "/v2/_sigstore/<app>", "/v2/_sigstore/<app>@sha256=<hex>", "/v2/_sigstore/none"),
    *_both(404, "UNSUPPORTED", "/v2/_sigstore/<app>@sha256=<hex>/", "/v2/_sigstore/<app>@sha256=<hex>/secret"),
    *_both(404, "UNSUPPORTED", "/v2/_sigstore/<app>@sha256:<hex>/signature-1", "/v2/_sigstore/*/signature-1"),
    *_both(404, "UNSUPPORTED", "/v2/_sigstore/<app>@sha256=<hex>/signature-1/", "/v2/x/_sigstore/signature-1"),
]
MALFORMED = [
    *_both(400, "DIGEST_INVALID", "/v2/<app>/manifests/sha256:1", "/v2/<app>/blobs/sha256:<hex>0"),
    *_both(400, "DIGEST_INVALID", "/v2/<app>/blobs/x", "/v2/<app>/blobs/md5:<hex>", "/v2/<app>/blobs/SHA256:<hex>"),
    *_both(400, "DIGEST_INVALID", "/v2/<app>/manifests/sha512:<hex>", "/v2/<app>/manifests/a:b"),
    *_both(400, "NAME_INVALID", "/v2/Oci/app/manifests/1", "/v2/oci/-app/tags/list", "/v2/a..b/blobs/<layer>"),
    *_both(400, "NAME_INVALID", "/v2/_app/manifests/1", "/v2/app_/tags/list", "/v2/a___b/manifests/<digest>"),
    *_both(400, "DIGEST_INVALID", "/v2/<app>/referrers/x", "/v2/<app>/referrers/<hex>", "/v2/<app>/referrers/@all"),
    *_both(400, "DIGEST_INVALID", "/v2/<app>/referrers/sha512:<hex>?artifactType=a/b", "/v2/<app>/referrers/1"),
    *_both(400, "NAME_INVALID", "/v2/Oci/app/referrers/<digest>", "/v2/Oci/app/tags/list?n=1"),
    *(
        row
        for n in ("-1", "x", "1x", "x1", "1.0", "+1", "%201", "1%00", "1%0a", "0x1", "%ff", "*", "/", "1/../../1")
        for path in ("/v2/<app>/tags/list", "/v2/_catalog")
        for row in _both(400, "UNSUPPORTED", f"{path}?n={n}", f"{path}?n={n}&last=1", f"{path}?last=1&n={n}")
    ),
]
METHODS = [
    Row(path, 405, "UNSUPPORTED", method)
    for method in ("PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCOL", "COPY", "MOVE")
    for path in (
        *("/v2/", "/v2", "/v2/_catalog", "/v2/nothing", "/v2/Oci/app/manifests/1", "/v2/<app>/tags/list"),
        *("/v2/<app>/manifests/1", "/v2/<app>/manifests/<digest>", "/v2/<app>/manifests/none"),
        *("/v2/<app>/blobs/<layer>", "/v2/<app>/blobs/uploads/", "/v2/<app>/referrers/<digest>"),
        *("/v2/<app>/manifests/<manifest>/<manifest>", "/v2/<app>/tags/list?n=1", "/v2/_catalog?n=x"),
        *("/v2/<app>/referrers/<none>", "/v2/<app>/referrers/<digest>?artifactType=a/b", "/v2/no/referrers/<none>"),
    )
]
SAME = [
    Row(path, 200, of="oci/app:1", method=method)
    for method in ("GET", "HEAD")
    for path in ("/v2/<app>/manifests/1?", "/v2/<app>/manifests/1?n=1&last=%00../<hex>")
]
CONDITIONAL = [
    Row("/v2/<app>/manifests/1", 200, of="oci/app:1", method=method, headers=headers)
    for method in ("GET", "HEAD")
    for headers in (
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"Range": "bytes=0-9"},
        {"Range": "bytes=99999-"},
        {"Accept-Encoding": "gzip, zstd, br"},
        {"Accept": "text/html"},
    )
]
ROWS = [*API, *UNKNOWN, *SIGSTORE, *MALFORMED, *METHODS, *SAME, *CONDITIONAL]

# what is in the site but no part of the registry, by the ways that may lead there
INSIDE = [
    *("/nginx.conf", "/Caddyfile", "/nginx%2econf", "/%43addyfile", "//nginx.conf", "/./Caddyfile"),
    *("/.scr-export", "/.scr-export/", "/.scr-export/lock", "/.scr-export%2flock", "/%2escr-export/lock"),
    *("/.scr-export/secret", "//.scr-export//secret", "/v2/../nginx.conf", "/v2/../.scr-export/secret"),
    *("/v2/..%2f.scr-export%2fsecret", "/v2/%2e%2e/.scr-export/secret", "/v2/%2e%2e%2fnginx.conf"),
    *("/v2/<app>/manifests/../../../../.scr-export/secret", "/v2/..%5c.scr-export%5csecret"),
    *("/v2/<app>/manifests/..%2f..%2f..%2f..%2fnginx.conf", "/v2/<app>/blobs/..%2f..%2f..%2f..%2fnginx.conf"),
    *("/v2/_scr", "/v2/_scr/", "/v2/_scr/<app>/manifests/<manifest>", "/v2/_scr/<app>/manifests/<manifest>/<manifest>"),
    *(
        "/v2/%5fscr/<app>/manifests/<manifest>",
        "/v2//_scr/<app>/manifests/<manifest>",
        "/v2/x/../_scr/<app>/manifests/<manifest>",
    ),
    *("/v2/<app>/manifests/<manifest>", "/v2/<app>/manifests/<manifest>/", "/v2/<app>/manifests/<manifest>/<manifest>"),
    *(
        "/v2/<app>/manifests/<manifest>%2f<manifest>",
        "/v2/<app>/manifests/1/<manifest>",
        "/v2/<app>/manifests/1%2f<manifest>",
    ),
    *("/v2/<app>/manifests/vnd.oci.image.manifest.v1%2bjson%40<digest>", "/v2/<app>/manifests/@<digest>"),
    *("/v2/<app>/manifests/", "/v2/<app>/manifests", "/v2/<app>/blobs/", "/v2/<app>/blobs", "/v2/<app>/tags"),
    *("/v2/<app>/tags/", "/v2/<app>/", "/v2/<app>", "/v2/_catalog/", "/v2/<app>/tags/list/"),
    *("/v2/<app>/blobs/<layer>/", "/v2/<app>/manifests/1/", "/v2/<app>/manifests/<digest>/", "/v2/_secret"),
    *("/v2/index.html", "/v2/<app>/secret", "/v2/<app>/.secret", "/v2/<app>/index.html", "/v2/<app>/blobs/x"),
    *("/v2/<app>/manifests/@", "/v2/<app>/manifests/.secret", "/v2/<app>/manifests/to-etc/passwd"),
    *("/v2/<app>/manifests/to-blobs/<layer>", "/v2/<app>/manifests/to-parent/secret", "/v2/<app>/manifests/to-passwd/"),
    *("/v2//<app>/secret", "//v2/<app>/secret", "/x/../v2/<app>/secret", "/%2fv2/<app>/secret", "/v2%2f<app>%2fsecret"),
    *("http://x/.scr-export/secret", "http://x/v2/<app>/secret", "v2/<app>/secret"),
    *("/images.txt", "/images.txt.asc", "/images%2etxt", "/%69mages.txt.sig", "//images.txt", "/v2/../images.txt"),
    *("/v2/_images.txt.asc", "/v2/images.txt", "/v2/_sigstore/../../images.txt", "/v2/_sigstore/..%2f..%2fnginx.conf"),
    *("/v2/_sigstore/x@sha256=00/signature-1", "/v2/_sigstore/<app>@sha256=<hex>/../../../_secret"),
    *("/v2/_pages", "/v2/_pages/", "/v2/_pages/@all", "/v2/_pages/@1", "/v2/_pages%2f@all", "/v2/%5fpages/%40all"),
    *("/v2/list", "/v2/list?n=1", "/v2/<app>/tags/_catalog", "/v2/<app>/tags/_catalog?n=1", "/v2/tags/list"),
    *("/v2/<app>/tags/_pages", "/v2/<app>/tags/_pages/@all", "/v2/<app>/tags/_pages/1@1", "/v2/<app>/tags/list/@all"),
    *("/v2/<app>/referrers", "/v2/<app>/referrers/", "/v2/<app>/referrers/<digest>/"),
    "/v2/<app>/referrers/<digest>/@all",
    *("/v2/<app>/referrers/<digest>%2f@all", "/v2/<app>/referrers/..%2fmanifests%2f<manifest>%2f<manifest>"),
]
LIST_PATHS = ("/v2/<app>/tags/list", "/v2/_catalog")
# no entry of a list, and no path of a file
HOSTILE_LAST = [
    *("../list", "..%2flist", "..%2f..%2fsecret", "..%2f..%2f..%2f..%2fnginx.conf", "%2e%2e/%2e%2e/secret"),
    "/etc/passwd",
    *("%2fetc%2fpasswd", "..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "..", ".", "/", "%2f", "./1", "1/.."),
    "1/../1",
    *("../../docker/app/tags/_pages/1", "..%2f..%2fdocker%2fapp%2ftags%2f_pages%2f1", "1/", "//1", "1%2f"),
    *("%00", "1%00", "1%00@1", "%0a", "1%0a", "%0d%0aX-Evil:%201", "%20", "1%20", "+", "%ff", "\xff", "%c3%a4"),
    "\xc3\xa4",
    *("*", "1*", "**", "%2a", "?", "%3f", "%5b0-9%5d", "[0-9]", "[", "%5b", "{", "%7b", "{1,2}", "\\1", "%5c1", "1\\"),
    *("@all", "@1", "@1@*", "1@1", "1@1@*", "%40all", "%40", "@", "~", "~0", "~*", "~0123456789abcdef", "%2531"),
    *("{http.request.uri}", "%7benv.HOME%7d", "$document_root", "$arg_n", "${scr_root}", "{env.HOME}", "<8k>"),
    *("-1", ".1"),
]
HOSTILE = [
    *("/v2/<app>/manifests/1%00", "/v2/<app>/manifests/1%00.json", "/v2/<app>/manifests/1%0a", "/v2/<app>/secret%00"),
    *("/v2/<app>/manifests/1%0d%0aX-Evil:%201", "/v2/<app>/blobs/<layer>%0a", "/v2/<app>/blobs/<layer>%00"),
    *("/v2/<app>/manifests/<digest>%0a", "/v2/<app>/tags/list%0a", "/v2/_catalog%0a", "/v2/%0a"),
    *("/v2/<app>%0a/manifests/1", "/v2/<app>/manifests/*", "/v2/<app>/manifests/?", "/v2/<app>/manifests/%3f"),
    *("/v2/<app>/manifests/[0-9]", "/v2/*/app/manifests/1", "/v2/oci/*/manifests/1", "/v2/%2a/%2a/manifests/1"),
    *("/v2/oci/a%3fp/manifests/1", "/v2/oci/[a]pp/manifests/1", "/v2/oci/*/blobs/<layer>", "/v2/oci/*/tags/list"),
    *("/v2/<app>/blobs/*", "/v2/<app>/manifests/{http.request.uri}", "/v2/<app>/manifests/%7Benv.HOME%7D"),
    *("/v2/{env.HOME}/manifests/1", "/v2/{http.vars.root}/app/manifests/1", "/v2/<app>/blobs/{http.request.uri.path}"),
    *("/v2/oci/{http.request.uri.path}/blobs/<layer>", "/v2/<app>/manifests/$document_root", "/v2/$scr_name/tags/list"),
    *("/v2/$document_root/manifests/1", "/v2/<app>/manifests/\\1", "/v2/oci\\app/manifests/1"),
    *("/v2/oci%5capp/manifests/1", "/v2/<app>/manifests/..\\1", "/v2/<app>/manifests/\xff", "/v2/<app>/manifests/%ff"),
    *("/v2/%c0%ae%c0%ae/app/manifests/1", "/v2/<app>/manifests/%", "/v2/<app>/manifests/%zz"),
    *("/v2/./404", "/v2/./NAME_INVALID", "/v2/%2e/api", "/v2/.%2fpage/_catalog", "/v2/./page/<app>/tags/list"),
    *(
        "/v2/%20",
        "/v2/%20%20",
        "/v2/......",
        "/v2/.%20",
        "/v2/%09",
        "/v2/%252e/api",
        "/v2/_/api",
        "/v2/_/403",
        "/v2/./missing/manifests",
        "/v2/./304",
    ),
    *("/v2/<4k>/manifests/1", "/v2/<4k>/tags/list", "/v2/<4k>/tags/list?n=1", "/v2/<4k>/blobs/<layer>"),
    *("/v2/<4k>/referrers/<none>", "/v2/<app>/manifests/<4k>", "/v2/<app>/blobs/<4k>", "/v2/<4k>"),
    *("/v2/<app>/manifests/%2531", "/v2/<app>/manifests/<8k>", "/v2/<8k>/manifests/1", "/v2/<app>/blobs/<8k>"),
    *("/V2/<app>/manifests/1", "/v2/<app>/MANIFESTS/1"),
    *("/v2/<app>/manifests/1/manifests/1", "/v2/<app>/manifests/1/blobs/<layer>"),
    *("/v2/<app>/referrers/<digest>%00", "/v2/<app>/referrers/<digest>%0a", "/v2/*/app/referrers/<digest>"),
    *("/v2/<app>/referrers/*", "/v2/<app>/referrers/{http.request.uri.path}", "/v2/<app>/referrers/<8k>"),
    *(f"{path}?{n}last={last}" for last in HOSTILE_LAST for path in LIST_PATHS for n in ("", "n=1&", "n=1000&")),
]
# other spellings of /v2/<app>/manifests/1
HARMLESS = [
    "/v2/<app>/manifests/%31",
    *("//v2/<app>/manifests/1", "/v2//<app>/manifests/1", "/v2/<app>//manifests/1", "/v2/<app>/manifests//1"),
    *("/v2/./<app>/manifests/1", "/v2/x/../<app>/manifests/1", "/v2/<app>/manifests/./1", "/%76%32/<app>/manifests/1"),
    *("/v2/<app>/manifests/x%2f..%2f1", "/x/../v2/<app>/manifests/1", "/v2/<app>/%6danifests/1"),
    *("/v2/oci%2fapp/manifests/1", "/v2%2f<app>%2fmanifests%2f1", "/v2/<app>/manifests/1/."),
    *("/v2/<app>/manifests/1%2f", "/v2/<app>/manifests/1#x", "http://x/v2/<app>/manifests/1"),
]

# artifact types of what the table has, and one of nothing
TYPES = [SIGNATURE, "text/x-sbom.v1", builders.HELM_CONFIG, "application/x.nothing"]
# what one cannot ask for by its type: the server does as if it had not been asked, and does not say that it was
NO_TYPES = [
    *("", "x", "/", "a/", "/b", "a/b/c", "%2fa", "..", "../..", "..%2f..", ".%2f.", "../../../nginx.conf"),
    *("@all", "%40all"),
    *("a/..%2f..%2fsecret", "..%2f<digest>%2f@all", "application/x.odd%3Bv%3D1", "application/x.odd%3bv=1"),
    *("a/b+", "a/b%2b"),
    *("a%00/b", "a/b%00", "a/b%0a", "%0aa/b", "a/b%0d%0aX-Evil:%201", "a/*", "*/*", "a/%2a", "a/?", "a/%5bb%5d"),
    "a/{b}",
    *("{env.HOME}/b", "$scr_root/b", "a/$scr_root", "%ff/b", "a/\xff", "a/%c3%a4", "<8k>/b", "a/<8k>", "-a/b"),
    *("a/-b", "a\\b"),
]
