"""Requests that depend on what the client has: entity tags and ranges (RFC 9110, 13 and 14), on both servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fronts import SERVED
from tests.support.http import Answer, request
from tests.support.requests_table import JSON, MOVES, STAYS, Published, Row, check_error, check_row
from tests.support.servers import Server, open_directory, start_nginx

FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource with an entity tag: its path, digest and lifetime in a cache."""

    path: str
    digest: str
    cache: frozenset[str]
    data: bytes


@pytest.fixture(scope="module", params=SERVED)
def server(request: pytest.FixtureRequest, published: Published) -> Iterator[Server]:
    """The site alone in a server."""
    with open_directory() as tmp, SERVED[request.param](published.site, tmp) as server:
        yield server


@pytest.fixture(params=["tag", "tag 0", "digest", "blob"])
def resource(request: pytest.FixtureRequest, published: Published) -> Resource:
    """A manifest by tag, by digest, and a blob."""
    image, zero, layer = published.images["oci/app:1"], published.images["zero:0"], published.words()["layer"]
    return {
        "tag": Resource("/v2/oci/app/manifests/1", image.digest, MOVES, image.raw),
        "tag 0": Resource("/v2/zero/manifests/0", zero.digest, MOVES, zero.raw),
        "digest": Resource(f"/v2/oci/app/manifests/{image.digest}", image.digest, STAYS, image.raw),
        "blob": Resource(f"/v2/oci/app/blobs/{layer}", layer, STAYS, image.blobs[layer]),
    }[str(request.param)]


@pytest.fixture
def blob(published: Published) -> Resource:
    layer = published.words()["layer"]
    return Resource(f"/v2/oci/app/blobs/{layer}", layer, STAYS, published.images["oci/app:1"].blobs[layer])


def cache_of(answer: Answer) -> frozenset[str]:
    """The directives of Cache-Control; none if it was not sent."""
    return frozenset(each for value in answer.all("Cache-Control") for each in re.split(", *", value))


# entity tags


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"a", "{}"', '"{}", "b"', 'W/"a",W/"{}" ,"b"', "*"])
def test_a_manifest_that_the_client_has_is_answered_with_304(
    server: Server, resource: Resource, known: str, method: str
) -> None:
    answer = request(server.port, method, resource.path, {"If-None-Match": known.format(resource.digest)})
    if server.name == "caddy" and known == "*":  # which is meant for methods that write
        assert answer.status == 200
        return
    assert (answer.status, answer.body) == (304, b"")
    assert answer.all("ETag") == [f'"{resource.digest}"']
    assert cache_of(answer) == resource.cache
    assert answer.all("Last-Modified") == []
    assert not set(answer.all("Content-Type")) & {JSON, "text/html"}


@pytest.mark.parametrize("known", ["{}", '"{}x"', '"x{}"', '"', '""', "W/", '"sha256:', '"{}', "{0}{0}", '"{}/304"'])
def test_a_manifest_that_the_client_lacks_is_sent(server: Server, resource: Resource, known: str) -> None:
    answer = request(server.port, "GET", resource.path, {"If-None-Match": known.format(resource.digest)})
    assert (answer.status, answer.body) == (200, resource.data)


def test_the_entity_tag_of_another_digest_does_not_match(server: Server, published: Published) -> None:
    words = published.words()
    for path, other in (("manifests/1", "other-digest"), ("manifests/<digest>", "layer"), ("blobs/<layer>", "digest")):
        answer = request(
            server.port, "GET", published.resolve(f"/v2/<app>/{path}"), {"If-None-Match": f'"{words[other]}"'}
        )
        assert answer.status == 200


@pytest.mark.parametrize("known", ['"{}"', "*"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/<app>/manifests/<none>", "MANIFEST_UNKNOWN"),
        ("/v2/<app>/blobs/<none>", "BLOB_UNKNOWN"),
        ("/v2/<app>/manifests/<other-digest>", "MANIFEST_UNKNOWN"),
        ("/v2/<app>/blobs/<other-layer>", "BLOB_UNKNOWN"),
        ("/v2/no/manifests/<none>", "NAME_UNKNOWN"),
        ("/v2/no/blobs/<none>", "NAME_UNKNOWN"),
        ("/v2/<app>/manifests/none", "MANIFEST_UNKNOWN"),
    ],
)
def test_an_absent_manifest_is_404_under_any_condition(
    server: Server, published: Published, path: str, code: str, known: str
) -> None:
    """Also when the client says that it has the digest that it asks for."""
    digest = published.resolve(path).rpartition("/")[2]
    answer = request(server.port, "GET", published.resolve(path), {"If-None-Match": known.format(digest)})
    check_error(answer, "GET", 404, code)


@pytest.mark.parametrize(
    "path", ["/v2/_catalog", "/v2/<app>/tags/list", "/v2/<app>/tags/list?n=1", "/v2/zero/tags/list?n=1"]
)
def test_a_list_has_no_entity_tag(server: Server, published: Published, path: str) -> None:
    answer = request(server.port, "GET", published.resolve(path), {"If-None-Match": '"a"'})
    assert (answer.status, answer.all("ETag")) == (200, [])


@pytest.mark.parametrize("header", ["If-Match", "If-Unmodified-Since"])
@pytest.mark.parametrize(
    "path",
    [
        *("/v2/", "/v2/_catalog", "/v2/_catalog?n=1", "/v2/<app>/tags/list", "/v2/zero/tags/list?n=1"),
        *("/v2/<app>/manifests/1", "/v2/<app>/manifests/<digest>", "/v2/<app>/blobs/<layer>"),
        *("/v2/<app>/referrers/<digest>", "/v2/<app>/referrers/<none>"),
    ],
)
def test_a_condition_that_nginx_does_not_know_is_refused_in_json(
    server: Server, published: Published, path: str, header: str
) -> None:
    value = FUTURE if header == "If-Unmodified-Since" else '"a"'
    answer = request(server.port, "GET", published.resolve(path), {header: value})
    if answer.status != 200:
        assert server.name == "nginx"
        check_error(answer, "GET", 412, "UNSUPPORTED")


# ranges


@pytest.mark.parametrize("asked", ["0-9", "5-", "-7"])
@pytest.mark.parametrize("condition", [None, '"{}"'])
def test_a_range_has_the_headers_of_its_blob(server: Server, blob: Resource, asked: str, condition: str | None) -> None:
    assert check_ranges(server, blob, asked, condition) == "application/octet-stream"


@pytest.mark.parametrize("asked", ["0-0,5-6", "0-9,100-109,200-209"])
@pytest.mark.parametrize("condition", [None, '"{}"'])
def test_several_ranges_have_the_headers_of_their_blob(
    server: Server, blob: Resource, asked: str, condition: str | None
) -> None:
    assert check_ranges(server, blob, asked, condition).startswith("multipart/byteranges; boundary=")


def check_ranges(server: Server, blob: Resource, asked: str, condition: str | None) -> str:
    """Check the headers of ranges of a blob; the answer's media type."""
    headers = {"Range": f"bytes={asked}"} | ({"If-Range": condition.format(blob.digest)} if condition else {})
    answer = request(server.port, "GET", blob.path, headers)
    assert answer.status == 206
    assert answer.all("ETag") == [f'"{blob.digest}"']
    assert answer.all("Docker-Content-Digest") == [blob.digest]
    assert answer.all("Accept-Ranges") == ["bytes"]
    assert answer.all("Last-Modified") == []
    assert "immutable" not in cache_of(answer)
    (content_type,) = answer.all("Content-Type")
    return content_type


@pytest.mark.parametrize("condition", ['"x"', 'W/"{}"', FUTURE, "{}"])
def test_a_range_of_another_blob_is_answered_with_the_whole(server: Server, blob: Resource, condition: str) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": condition.format(blob.digest)}
    answer = request(server.port, "GET", blob.path, headers)
    assert (answer.status, answer.body) == (200, blob.data)


@pytest.mark.parametrize("count", [2, 20, 100, 700])
def test_many_ranges_come_in_one_answer(server: Server, blob: Resource, count: int) -> None:
    """As podman asks for the files of a zstd:chunked layer that it does not have."""
    asked = ",".join(f"{place}-{place}" for place in range(0, count * 4, 4))
    answer = request(server.port, "GET", blob.path, {"Range": f"bytes={asked}"})
    assert answer.status == 206
    boundary = re.fullmatch("multipart/byteranges; boundary=(.+)", answer.one("Content-Type") or "")
    assert boundary
    parts = re.split(rb"\r?\n?--%s(?:--)?\r\n" % boundary[1].encode(), answer.body)[1:-1]
    assert b"".join(part.partition(b"\r\n\r\n")[2] for part in parts) == blob.data[0 : count * 4 : 4]


@pytest.mark.parametrize("asked", ["0-,0-", ",".join(["0-"] * 1000), ",".join(["0-5000"] * 500)])
def test_ranges_that_overlap_are_no_more_than_the_whole(server: Server, blob: Resource, asked: str) -> None:
    answer = request(server.port, "GET", blob.path, {"Range": f"bytes={asked}"})
    assert len(answer.body) <= len(blob.data)


def test_a_range_beyond_the_end_has_no_lifetime(server: Server, blob: Resource) -> None:
    for asked in (f"{len(blob.data)}-", f"{len(blob.data)}-,{len(blob.data) + 5}-"):
        answer = request(server.port, "GET", blob.path, {"Range": f"bytes={asked}"})
        assert (answer.status, answer.one("Content-Range")) == (416, f"bytes */{len(blob.data)}")
        assert cache_of(answer) <= MOVES
        (content_type,) = answer.all("Content-Type")
        if server.name == "nginx":  # Caddy's file server has words of its own
            assert (content_type, answer.codes) == (JSON, ["SIZE_INVALID"])


def test_a_whole_blob_announces_ranges(server: Server, blob: Resource) -> None:
    answer = request(server.port, "GET", blob.path)
    assert (answer.all("Accept-Ranges"), cache_of(answer)) == (["bytes"], STAYS)


# what the server itself refuses


def test_too_many_requests_are_refused_in_json(published: Published, open_tmp: Path) -> None:
    limit = "limit_req_zone $server_port zone=z:1m rate=1r/m;"
    site = published.site
    for status, code in ((429, "TOOMANYREQUESTS"), (503, "UNAVAILABLE")):
        block = f"limit_req zone=z; limit_req_status {status}; root {site}; include {site}/nginx.conf;"
        with start_nginx(site, open_tmp, server=block, http=limit) as nginx:
            assert request(nginx.port, "GET", "/v2/_catalog").status == 200
            for path in ("/v2/_catalog", "/v2/", "/v2/oci/app/manifests/1", "/v2/oci/app/tags/list?n=1", "/v2/x"):
                check_error(request(nginx.port, "GET", path), "GET", status, code)


def test_a_denied_client_is_refused_in_json(published: Published, open_tmp: Path) -> None:
    site = published.site
    with start_nginx(site, open_tmp, server=f"deny all; root {site}; include {site}/nginx.conf;") as nginx:
        for path in ("/v2/", "/v2/_catalog", "/v2/oci/app/manifests/1", "/v2/none", "/v2/./404", "/v2/_catalog?n=x"):
            for method in ("GET", "HEAD", "PUT"):
                check_error(request(nginx.port, method, path), method, 403, "DENIED")


def test_internal_paths_of_the_snippet_are_404(server: Server, published: Published) -> None:
    for path in ("/v2/./manifests/1", "/v2/_/manifests/1", "/v2/_api/manifests/1"):
        status, code = (404, "UNSUPPORTED") if path.startswith("/v2/.") else (400, "NAME_INVALID")
        check_row(server.port, published, Row(path, status, code))
