"""A password that the server asks for guards the whole registry, what is not there included."""

from __future__ import annotations

import base64
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import builders
from tests.conftest import export
from tests.served.servers import Server, open_directory, start_caddy, start_nginx

PASSWORD = "o2-krab"
NONE = f"sha256:{'0' * 64}"
PATHS = [
    *("/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1"),
    *("/v2/_catalog?n=1", "/v2/app/tags/list?n=0", "/v2/app/tags/list?n=1", "/v2/app/tags/list?n=1&last=v1"),
    *(f"/v2/app/referrers/{NONE}", f"/v2/app/referrers/{NONE}?artifactType=a/b"),
]
ABSENT = [
    *("/v2/app/manifests/v2", "/v2/nowhere/tags/list", f"/v2/app/blobs/{NONE}", "/v2/nowhere/tags/list?n=1"),
    *("/v2/app/tags/list?last=v2", f"/v2/nowhere/referrers/{NONE}", "/v2/app/tags/_pages/@all"),
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
    hashing = [os.environ.get("SCR_TEST_CADDY") or "caddy", "hash-password", "--plaintext", PASSWORD]
    hashed = subprocess.run(hashing, check=True, capture_output=True, text=True).stdout.strip()
    # before Caddy 2.8 the hash stands there encoded once more, as its own program prints it
    guard = f"basicauth {{\nuser {hashed}\n}}"
    return start_caddy(site, place, server=f"root * {site}\n{guard}\nimport {site}/Caddyfile")


def status(server: Server, path: str, password: str | None) -> int:
    request = urllib.request.Request(f"http://{server.address}{path}")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"user:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", PATHS + ABSENT + MALFORMED)
def test_nobody_learns_anything_without_the_password(guarded: Server, path: str) -> None:
    assert status(guarded, path, None) == 401
    assert status(guarded, path, "wrong") == 401


@pytest.mark.parametrize("path", PATHS)
def test_the_password_opens(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 200


@pytest.mark.parametrize("path", ABSENT)
def test_what_is_not_there_is_still_not_there(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 404


@pytest.mark.parametrize("path", MALFORMED)
def test_what_is_malformed_is_still_malformed(guarded: Server, path: str) -> None:
    assert status(guarded, path, PASSWORD) == 400
