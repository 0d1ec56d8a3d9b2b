"""The files of a site that are served as they are: signatures, and the list of all images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.http import Answer, request
from tests.support.requests_table import MOVES, check_error
from tests.support.runner import export
from tests.support.servers import HASHED, PASSWORD, START, Server, open_directory, start_caddy, start_nginx

SIGNATURE = b"\x90\0\xff\r\n\x1b signature"
LIST = b"sha256:00  docker.io/library/app:1\n"


@dataclass(frozen=True, slots=True)
class Place:
    server: Server
    signature: str
    site: Path


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Path, str]]:
    with open_directory() as directory:
        built = write_image(directory / "images/docker.io/library/app/1")
        (directory / "images/docker.io/library/app/1/signature-1").write_bytes(SIGNATURE)
        export(directory / "images", directory / "site")
        (directory / "site/images.txt").write_bytes(LIST)
        (directory / "site/images.txt.asc").write_bytes(b"SECRET")
        yield directory / "site", f"/v2/_sigstore/docker.io/library/app@{built.digest.replace(':', '=')}/signature-1"


@pytest.fixture(params=START)
def place(request: pytest.FixtureRequest, site: tuple[Path, str], open_tmp: Path) -> Iterator[Place]:
    with START[request.param](site[0], open_tmp) as server:
        yield Place(server, site[1], site[0])


def check(answer: Answer, method: str, media_type: str, data: bytes) -> None:
    assert (answer.status, answer.all("Content-Type")) == (200, [media_type])
    assert answer.body == (data if method == "GET" else b"")
    assert answer.one("Content-Length") == str(len(data))
    assert set((answer.one("Cache-Control") or "").split(", ")) == MOVES
    for name in ("ETag", "Last-Modified", "Accept-Ranges", "Docker-Content-Digest", "Content-Encoding"):
        assert answer.all(name) == []


CONDITIONS = [
    {},
    {"If-None-Match": '"x"'},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"Range": "bytes=1-2"},
    {"Accept-Encoding": "gzip"},
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", CONDITIONS, ids=str)
def test_both_are_served_whole_and_never_kept(place: Place, method: str, headers: dict[str, str]) -> None:
    answer = request(place.server.port, method, place.signature, headers)
    check(answer, method, "application/octet-stream", SIGNATURE)
    check(request(place.server.port, method, "/v2/_images.txt", headers), method, "text/plain", LIST)


def test_a_namespace_changes_nothing(place: Place) -> None:
    for query in ("?ns=docker.io", "?ns=quay.io", "?artifactType=a/b"):
        answer = request(place.server.port, "GET", f"{place.signature}{query}")
        check(answer, "GET", "application/octet-stream", SIGNATURE)
        check(request(place.server.port, "GET", f"/v2/_images.txt{query}"), "GET", "text/plain", LIST)


def test_the_next_signature_is_not_found_and_nothing_is_logged(place: Place) -> None:
    start = len(place.server.log)
    for method in ("GET", "HEAD"):
        answer = request(place.server.port, method, f"{place.signature[:-1]}2")
        check_error(answer, method, 404, "UNSUPPORTED")
        check_error(request(place.server.port, method, "/v2/_images.txt.asc"), method, 404, "UNSUPPORTED")
    assert place.server.above_notice(start) == []


def test_nothing_can_be_put_there(place: Place) -> None:
    for path in (place.signature, "/v2/_images.txt"):
        check_error(request(place.server.port, "PUT", path), "PUT", 405, "UNSUPPORTED")


@pytest.mark.parametrize("path", ["/images.txt", "/images.txt.asc", "/images.txt.sig", "/images.txt.bundle"])
def test_neither_is_served_at_the_root(place: Place, path: str) -> None:
    answer = request(place.server.port, "GET", path)
    assert (answer.status, b"SECRET" in answer.body, LIST in answer.body) == (404, False, False)


def test_a_site_without_a_list_has_none(place: Place) -> None:
    (place.site / "images.txt").rename(place.site / "hidden")
    try:
        start = len(place.server.log)
        check_error(request(place.server.port, "GET", "/v2/_images.txt"), "GET", 404, "UNSUPPORTED")
        assert place.server.above_notice(start) == []
    finally:
        (place.site / "hidden").rename(place.site / "images.txt")


def test_a_file_that_may_not_be_read_is_refused_in_words_of_the_registry(place: Place) -> None:
    if os.geteuid():
        pytest.skip("the server is this user")
    (place.site / "images.txt").chmod(0o600)
    try:
        answer = request(place.server.port, "GET", "/v2/_images.txt")
        assert answer.status in (403, 404)  # newer Caddys do not find what they may not read
    finally:
        (place.site / "images.txt").chmod(0o644)


@pytest.mark.parametrize("name", START)
def test_a_password_guards_both(name: str, site: tuple[Path, str], open_tmp: Path) -> None:
    root, signature = site
    (open_tmp / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
    if name == "nginx":
        guard = f"auth_basic registry; auth_basic_user_file {open_tmp}/htpasswd;"
        guarded = start_nginx(root, open_tmp, server=f"root {root}; {guard} include {root}/nginx.conf;")
    else:
        block = f"root * {root}\nbasicauth {{\nuser {HASHED}\n}}\nimport {root}/Caddyfile"
        guarded = start_caddy(root, open_tmp, server=block)
    with guarded as server:
        for path in (signature, f"{signature[:-1]}2", "/v2/_images.txt"):
            assert request(server.port, "GET", path).status == 401
