"""A server whose root is no site says so on every path below /v2, and does not look like an empty registry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import builders
from tests.support.http import Answer, request
from tests.support.runner import export
from tests.support.servers import START, Server, start_nginx

NONE = f"sha256:{'0' * 64}"
WORDS = {"errors": [{"code": "UNAVAILABLE", "message": "no readable site below the root of this server"}]}
CLOSED = 0o700 if os.geteuid() == 0 else 0  # the server is another user, or this one
PATHS = [
    *("/v2/", "/v2/?a=b", "/v2/_catalog", "/v2/_catalog?n=1", "/v2/_catalog?n=x", "/v2/nothing", "/v2/a/b/c"),
    *("/v2/app/tags/list", "/v2/app/tags/list?n=1", "/v2/app/tags/list?n=0", "/v2/app/tags/list?n=x"),
    *("/v2/app/manifests/1", "/v2/app/manifests/a:b", "/v2/app/manifests/-", f"/v2/app/manifests/{NONE}"),
    *(f"/v2/app/blobs/{NONE}", "/v2/app/blobs/x", f"/v2/app/referrers/{NONE}", "/v2/app/referrers/x"),
    *("/v2/App/manifests/1", "/v2/App/tags/list", f"/v2/app/referrers/{NONE}?artifactType=a/b"),
    *("/v2/app/manifests/1?ns=docker.io", "/v2/app/tags/list?ns=docker.io&n=1"),
]


@pytest.fixture
def site(open_tmp: Path) -> Iterator[Path]:
    builders.write_image(open_tmp / "images/app/1")
    export(open_tmp / "images", open_tmp / "site")
    yield open_tmp / "site"
    for directory in (open_tmp / "site", open_tmp / "site/v2"):
        directory.chmod(0o755)


@pytest.fixture
def held(site: Path) -> list[str]:
    """The paths of what the site has."""
    return [f"/v2/{path.relative_to(site / 'v2')}" for path in (site / "v2/app/blobs").iterdir()] + [
        "/v2/app/manifests/1",
        f"/v2/app/manifests/{(site / 'v2/app/manifests/1').readlink().name.partition('@')[2]}",
    ]


def missing(site: Path, tmp: Path, name: str) -> Server:
    """The root is a directory that is not there."""
    return START[name](site, tmp, server=_configuration(name, site, "/nowhere/at/all"))


def empty(site: Path, tmp: Path, name: str) -> Server:
    """The root is another directory."""
    (tmp / "other").mkdir()
    return START[name](site, tmp, server=_configuration(name, site, str(tmp / "other")))


def inside(site: Path, tmp: Path, name: str) -> Server:
    """The root is one directory too deep."""
    return START[name](site, tmp, server=_configuration(name, site, f"{site}/v2"))


def forgotten(site: Path, tmp: Path, name: str) -> Server:
    """There is no root: nginx has one of its own then, and Caddy takes its working directory."""
    return START[name](site, tmp, server=_configuration(name, site, ""))


def closed(site: Path, tmp: Path, name: str) -> Server:
    """The server's user may not enter the site."""
    site.chmod(CLOSED)
    return START[name](site, tmp, server=_configuration(name, site, str(site)))


def closed_within(site: Path, tmp: Path, name: str) -> Server:
    """The server's user may not enter the registry."""
    (site / "v2").chmod(CLOSED)
    return START[name](site, tmp, server=_configuration(name, site, str(site)))


def _configuration(name: str, site: Path, root: str) -> str:
    snippet = site.parent / f"{name}.snippet"  # the server's user could not read it in a closed site
    snippet.write_bytes((site / ("nginx.conf" if name == "nginx" else "Caddyfile")).read_bytes())
    if name == "nginx":
        return f"{f'root {root};' if root else ''} include {snippet};"
    return f"{f'root * {root}' if root else ''}\nimport {snippet}"


Fault = Callable[[Path, Path, str], Server]


def check(answer: Answer, method: str) -> None:
    """The exact words, for no cache to keep."""
    assert (answer.status, answer.all("Content-Type")) == (503, ["application/json"])
    assert answer.all("Cache-Control") == ["no-cache, no-transform"]
    assert method == "HEAD" or json.loads(answer.body) == WORDS


@pytest.mark.parametrize("name", START)
@pytest.mark.parametrize(
    "fault", [missing, empty, inside, forgotten, closed, closed_within], ids=lambda each: each.__name__
)
def test_a_root_without_a_site_is_answered_with_503(
    name: str, fault: Fault, site: Path, held: list[str], open_tmp: Path
) -> None:
    with fault(site, open_tmp, name) as server:
        for path in PATHS + held:
            for method in ("GET", "HEAD"):
                check(request(server.port, method, path), method)
        assert request(server.port, "PUT", "/v2/app/manifests/1").status == 405


@pytest.mark.parametrize("name", START)
def test_a_missing_catalog_is_503_for_every_absent_file(name: str, site: Path, held: list[str], open_tmp: Path) -> None:
    (site / "v2/_catalog").unlink()
    lists = ["/v2/app/tags/list", "/v2/app/tags/list?n=1", "/v2/app/tags/list?n=0", "/v2/_catalog?n=1"]
    found = [*held, *lists, "/v2/app/manifests/1?ns=docker.io", "/v2/app/tags/list?ns=docker.io&n=1"]
    with START[name](site, open_tmp) as server:
        for path in PATHS:
            if path not in found and path != "/v2/_catalog":  # Caddy has it as a page
                check(request(server.port, "GET", path), "GET")
        for path in found:
            assert request(server.port, "GET", path).status == 200


@pytest.mark.parametrize("name", START)
def test_a_site_that_is_mounted_later_is_served_at_once(name: str, site: Path, open_tmp: Path) -> None:
    site.rename(open_tmp / "elsewhere")
    with START[name](
        open_tmp / "elsewhere", open_tmp, server=_configuration(name, open_tmp / "elsewhere", str(site))
    ) as server:
        check(request(server.port, "GET", "/v2/"), "GET")
        (open_tmp / "elsewhere").rename(site)
        assert request(server.port, "GET", "/v2/").status == 200
        assert request(server.port, "GET", "/v2/app/manifests/1").status == 200


def test_the_password_is_needed_before_the_503(site: Path, open_tmp: Path) -> None:
    """A client without the password does not learn that the root is wrong."""
    (open_tmp / "htpasswd").write_text("user:{PLAIN}secret\n")
    guard = f"auth_basic registry; auth_basic_user_file {open_tmp}/htpasswd;"
    with start_nginx(site, open_tmp, server=f"{guard} {_configuration('nginx', site, '/nowhere')}") as nginx:
        for path in PATHS:
            assert request(nginx.port, "GET", path).codes == ["UNAUTHORIZED"]
