"""A password of the server protects the whole registry, absent paths included."""

from __future__ import annotations

import base64
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import builders
from tests.support.http import request
from tests.support.runner import export
from tests.support.servers import HASHED, PASSWORD, Server, open_directory, start_caddy, start_nginx

NONE = f"sha256:{'0' * 64}"
PATHS = [
    *("/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1"),
    *("/v2/_catalog?n=1", "/v2/app/tags/list?n=0", "/v2/app/tags/list?n=1", "/v2/app/tags/list?n=1&last=v1"),
    *(f"/v2/app/referrers/{NONE}", f"/v2/app/referrers/{NONE}?artifactType=a/b"),
]
PATHS += ["/v2/app/manifests/v1?ns=docker.io", "/v2/app/tags/list?ns=docker.io"]
ABSENT = [
    *("/v2/app/manifests/v2", "/v2/nowhere/tags/list", f"/v2/app/blobs/{NONE}", "/v2/nowhere/tags/list?n=1"),
    *("/v2/app/tags/list?last=v2", f"/v2/nowhere/referrers/{NONE}", "/v2/app/tags/_pages/@all"),
    *("/v2/./missing/page", "/v2/./NAME_UNKNOWN", "/v2/_/api", "/v2/_page/_catalog", "/v2/app/manifests/-"),
]
MALFORMED = ["/v2/app/tags/list?n=x", "/v2/app/referrers/x", "/v2/App/tags/list?n=1"]


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    with open_directory() as place:
        builders.write_image(place / "images/app/v1")
        export(place / "images", place / "site")
        start = _nginx if request.param == "nginx" else _caddy
        with start(place) as server:
            yield server


def _nginx(place: Path) -> Server:
    site = place / "site"
    (place / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
    guard = f"auth_basic registry; auth_basic_user_file {place}/htpasswd;"
    return start_nginx(site, place, server=f"root {site}; {guard} include {site}/nginx.conf;")


def _caddy(place: Path) -> Server:
    site = place / "site"
    return start_caddy(site, place, server=f"root * {site}\n{_basic_auth()}\nimport {site}/Caddyfile")


def _basic_auth(matcher: str = "") -> str:
    return f"basicauth {matcher} {{\nuser {HASHED}\n}}"


def status(server: Server, path: str, password: str | None) -> int:
    asked = urllib.request.Request(f"http://{server.address}{path}")
    if password:
        asked.add_header("Authorization", "Basic " + base64.b64encode(f"user:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", PATHS + ABSENT + MALFORMED)
def test_every_path_needs_the_password(guarded: Server, path: str) -> None:
    assert status(guarded, path, None) == 401
    assert status(guarded, path, "wrong") == 401


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_answered_with_the_password(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 200


@pytest.mark.parametrize("path", ABSENT)
def test_an_absent_path_is_404_with_the_password(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 404


@pytest.mark.parametrize("path", MALFORMED)
def test_a_malformed_request_is_refused_as_malformed_with_the_password(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
def test_every_method_needs_the_password(guarded: Server, method: str) -> None:
    """And the answer says how to give it: clients ask again only then."""
    for path in PATHS + ABSENT + MALFORMED:
        answer = request(guarded.port, method, path)
        assert answer.status == 401
        assert answer.one("WWW-Authenticate")
        if guarded.name == "nginx" and method != "HEAD":  # Caddy has an empty body
            assert answer.codes == ["UNAUTHORIZED"]


@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"'])
def test_a_conditional_request_needs_the_password(guarded: Server, known: str) -> None:
    """The answer is the same for present and absent digests; with the password it is 304 or 404."""
    with tempfile.TemporaryDirectory() as scratch:  # the same bytes as the fixture's
        built = builders.write_image(Path(scratch) / "image")
    layer = next(iter(built.blobs))
    held = {"manifests/v1": built.digest, f"manifests/{built.digest}": built.digest, f"blobs/{layer}": layer}
    absent = {f"manifests/{NONE}": NONE, f"blobs/{NONE}": NONE, "manifests/v2": built.digest}
    authorization = {"Authorization": "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()}
    for path, digest in (held | absent).items():
        headers = {"If-None-Match": known.format(digest)}
        assert request(guarded.port, "GET", f"/v2/app/{path}", headers).status == 401
        answer = request(guarded.port, "GET", f"/v2/app/{path}", headers | authorization)
        assert answer.status == (304 if path in held else 404)


# a password for the registry alone, beside a website in Caddy

WEBSITES = {
    "rewrite": "@missing not file\nrewrite @missing /index.html\nfile_server",
    "try_files": "try_files {path} /index.html\nfile_server",
    "try_files of two": "try_files {path} {path}/ /index.html?{query}\nfile_server",
    "an error": "try_files {path} {path}.html =404\nfile_server",
    "all is one page": "rewrite * /index.html\nfile_server",
    "a prefix is cut": "uri strip_prefix /v2\nfile_server",
}


@pytest.fixture(scope="module")
def beside() -> Iterator[Path]:
    """A site, with and without a page of its own, and a website."""
    with open_directory() as place:
        builders.write_image(place / "images/app/v1")
        export(place / "images", place / "site")
        export(place / "images", place / "site-with-page")
        (place / "site-with-page/index.html").write_text("a page of the site")
        (place / "website").mkdir()
        (place / "website/index.html").write_text("a page of the website")
        yield place


def _held(place: Path) -> list[str]:
    """What the registry has, by every kind of path."""
    digest = os.readlink(place / "site/v2/app/manifests/v1").partition("@")[2]
    return [
        *PATHS,
        f"/v2/app/manifests/{digest}",
        *(f"/v2/app/blobs/{each.name}" for each in (place / "site/v2/app/blobs").iterdir()),
    ]


@pytest.mark.parametrize("site", ["site", "site-with-page"])
@pytest.mark.parametrize("lines", WEBSITES)
def test_a_website_does_not_bypass_the_password_for_v2(beside: Path, lines: str, site: str, open_tmp: Path) -> None:
    """Caddy rewrites before it asks for a password, and still no website lets a request pass without it."""
    roots = f"root * {beside}/website\nroot /v2/* {beside / site}\nimport {beside / site}/Caddyfile"
    text = f"{roots}\n{_basic_auth('/v2/*')}\n{WEBSITES[lines]}"
    with start_caddy(beside / site, open_tmp, server=text) as caddy:
        for path in [*_held(beside), *ABSENT, *MALFORMED]:
            answer = request(caddy.port, "GET", path)
            assert answer.status in (401, 404, 503), path
            assert answer.all("Docker-Content-Digest") == []


@pytest.mark.parametrize("site", ["site", "site-with-page"])
@pytest.mark.parametrize("lines", WEBSITES)
def test_a_website_in_a_handle_leaves_the_password_to_the_registry(
    beside: Path, lines: str, site: str, open_tmp: Path
) -> None:
    """The one recipe: the website's lines in a `handle`."""
    roots = f"root * {beside}/website\nroot /v2/* {beside / site}\nimport {beside / site}/Caddyfile"
    text = f"{roots}\n{_basic_auth('/v2/*')}\nhandle {{\n{WEBSITES[lines]}\n}}"
    with start_caddy(beside / site, open_tmp, server=text) as caddy:
        for path in _held(beside):
            assert status(caddy, path, None) == 401, path
            assert status(caddy, path, PASSWORD) == 200, path
        assert request(caddy.port, "GET", "/index.html").status == 200
