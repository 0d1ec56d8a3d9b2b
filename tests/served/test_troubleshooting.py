"""Symptoms in `examples/README.md` are what clients really say."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.builders import write_image, write_index
from tests.support.http import request as http_request
from tests.support.runner import export
from tests.support.servers import Server, open_directory, start_caddy, start_nginx

PAPER = (Path(__file__).parents[2] / "examples/README.md").read_text()
SYMPTOMS = [line.split("|")[1] for line in PAPER.partition("\n## Troubleshooting\n")[2].splitlines() if "|" in line]
OTHER = "s390x" if os.uname().machine != "s390x" else "amd64"


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    clients.require("skopeo")
    with open_directory() as place:
        write_image(place / "images/app/v1")
        write_index(place / "images/other/v1", platforms=[OTHER])
        export(place / "images", place / "site", "--no-html")
        start = start_nginx if request.param == "nginx" else start_caddy
        with start(place / "site", place) as server:
            yield server


def skopeo(reference: str, *options: str) -> str:
    """What skopeo says when it cannot copy this."""
    with tempfile.TemporaryDirectory() as place:
        command = ["skopeo", "--insecure-policy", "copy", *options, f"docker://{reference}", f"dir:{place}/x"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    return done.stderr


PLAIN = "--src-tls-verify=false"
SAID: dict[str, Callable[[Server], str]] = {
    "http: server gave HTTP response to HTTPS client": lambda server: skopeo(f"{server.address}/app:v1"),
    "name unknown": lambda server: skopeo(f"{server.address}/nowhere:v1", PLAIN),
    "manifest unknown": lambda server: skopeo(f"{server.address}/app:v9", PLAIN),
    "no image found in image index": lambda server: skopeo(f"{server.address}/other:v1", PLAIN),
}


@pytest.mark.parametrize("words", SAID)
def test_a_client_says_what_the_table_has(served: Server, words: str) -> None:
    assert words in SAID[words](served)
    assert any(f"`{words}`" in symptom for symptom in SYMPTOMS)


def test_a_site_without_a_page_is_403_at_the_root_of_nginx_and_empty_at_that_of_caddy(served: Server) -> None:
    answer = http_request(served.port, "GET", "/")
    assert (answer.status, answer.body) == (200, b"") if served.name == "caddy" else answer.status == 403
    symptom = "an empty page at `/`" if served.name == "caddy" else "403 at `/`"
    assert any(symptom in each for each in SYMPTOMS)


def test_a_site_that_the_server_may_not_enter_is_503(served: Server) -> None:
    with open_directory() as place:
        write_image(place / "closed/images/app/v1")
        export(place / "closed/images", place / "closed/site")
        start = start_nginx if served.name == "nginx" else start_caddy
        if os.geteuid() != 0:
            pytest.skip("only root can give away a directory")
        snippet = place / "open"
        snippet.mkdir()
        name = "nginx.conf" if served.name == "nginx" else "Caddyfile"
        (snippet / name).write_bytes((place / "closed/site" / name).read_bytes())
        (place / "closed").chmod(0o700)
        root = place / "closed/site"
        lines = (
            f"root {root}; include {snippet}/{name};"
            if name == "nginx.conf"
            else f"root * {root}\nimport {snippet}/{name}"
        )
        with start(place / "closed/site", place, server=lines) as server:
            answer = http_request(server.port, "GET", "/v2/app/tags/list")
    assert (answer.status, b"no readable site below the root of this server" in answer.body) == (503, True)
    assert any("no readable site below the root of this server" in symptom for symptom in SYMPTOMS)
