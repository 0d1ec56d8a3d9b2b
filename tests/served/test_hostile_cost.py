"""What a request of 8 kB costs a server, however it is made: not more than a few ordinary ones (CPU, not seconds)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.fronts import SERVED
from tests.support.requests_table import Published
from tests.support.servers import HOST, START, Server, open_directory

_LENGTH = 7_900  # of a request line, which nginx takes up to 8 kB
_TIMES = 5  # requests that are measured at once
_FACTOR = 10  # of what an ordinary request costs that is answered with as many bytes
_MOST = 5e-3  # seconds of CPU of a request

UNITS = [
    *(
        ":",
        "/",
        "0",
        "a",
        "A",
        "-",
        ".",
        "_",
        "@",
        "~",
        "*",
        '"',
        ",",
        "%0a",
        "%2f",
        "a.",
        "a-",
        "a_",
        "a/",
        "-a",
        "__",
    ),
    *(
        "manifests/",
        "a/manifests/",
        "/blobs/a",
        "tags/list/",
        "_catalog/",
        "a/referrers/",
        "sha256:",
        "sha256:0",
        "a:0",
    ),
    *("a@", "a+", "%2b", "a%2fb", "0-0,", "0-,", '"a",', 'W/"', "./", "../", "list", "v2/"),
]
PATHS = [
    *("/v2/{}", "/v2/{}/", "/v2/{}/manifests/1", "/v2/{}/blobs/x", "/v2/{}/tags/list", "/v2/{}/tags/list?n=1"),
    *("/v2/oci/app/manifests/{}", "/v2/oci/app/manifests/{}/", "/v2/oci/app/manifests/x{}x", "/v2/oci/app/blobs/{}"),
    *("/v2/oci/app/referrers/{}", "/v2/oci/app/{}/x", "/v2/oci/app/tags/{}", "/v2/oci/app{}/manifests/1"),
    *("/v2/oci/app/tags/list?n={}", "/v2/oci/app/tags/list?n={}x", "/v2/oci/app/tags/list?last={}"),
    *("/v2/oci/app/tags/list?last={}x", "/v2/_catalog?last={}", "/v2/_catalog?n={}&last=a", "/v2/_catalog?{}"),
    *("/v2/oci/app/manifests/1?ns={}", "/v2/oci/app/manifests/1?ns={}x", "/v2/oci/app/manifests/1?ns=a:{}"),
    *("/v2/oci/app/referrers/<none>?artifactType={}", "/v2/oci/app/referrers/<none>?artifactType=a/{}"),
    *("/v2/oci/app/referrers/<none>?artifactType={}/b", "/v2/a/{}?ns=docker.io", "/v2/{}/manifests/1?ns=a"),
]
HEADERS = [
    (path, header, value)
    for path in ("/v2/oci/app/manifests/1", "/v2/oci/app/manifests/<digest>", "/v2/oci/app/blobs/<layer>")
    for header, value in (("If-None-Match", "{}"), ("If-None-Match", '"{}'), ("Range", "x={}"), ("If-Range", "{}"))
]


@pytest.fixture(scope="module", params=SERVED)
def server(request: pytest.FixtureRequest, published: Published) -> Iterator[Server]:
    with open_directory() as tmp, SERVED[request.param](published.site, tmp) as server:
        yield server


def cpu(server: Server) -> float:
    """Seconds of CPU that a server and its workers have had."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    tasks = [task for pid in (str(server.process.pid), *children) for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cost(server: Server, path: str, header: str = "", value: str = "") -> float:
    """Seconds of CPU of a request: the least of three times, since others use this machine too."""
    line = f"{header}: {value}\r\n" if header else ""
    asked = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}\r\n".encode("latin-1")
    return min(_cost(server, asked) for _ in range(3))


def _cost(server: Server, asked: bytes) -> float:
    before = cpu(server)
    for _ in range(_TIMES):
        with socket.create_connection((HOST, server.port), timeout=60) as connection:
            connection.sendall(asked)
            while connection.recv(1 << 16):
                pass
    return (cpu(server) - before) / _TIMES


def repeated(template: str, unit: str) -> str:
    """The template with as many of a unit as a request may have."""
    return template.format(unit * ((_LENGTH - len(template) - 140) // len(unit)))


@pytest.fixture(scope="module")
def ordinary(server: Server, published: Published) -> float:
    """What is answered with 404, after as many bytes of which nothing is special."""
    return cost(server, f"/v2/oci/app/none?{'y' * (_LENGTH - 100)}")


@pytest.mark.parametrize("template", PATHS)
def test_a_long_path_costs_no_more_than_others(
    server: Server, published: Published, ordinary: float, template: str
) -> None:
    costs = {}
    for unit in UNITS:
        written = unit if unit.startswith("%") else quote(unit, safe="/:@~*,+%-._")
        path = published.resolve(repeated(template, written))
        costs[unit] = cost(server, path)
    assert {unit: each for unit, each in costs.items() if each > min(_MOST, _FACTOR * ordinary)} == {}


@pytest.mark.parametrize(("path", "header", "template"), HEADERS)
def test_a_long_header_costs_no_more_than_others(
    server: Server, published: Published, ordinary: float, path: str, header: str, template: str
) -> None:
    path = published.resolve(path)
    units = [*(unit for unit in UNITS if "%" not in unit), f'"{published.words()["digest"][:-1]}', path[-71:]]
    costs = {unit: cost(server, path, header, repeated(template, unit)) for unit in units}
    plain = max(ordinary, cost(server, path, header, repeated(template, "y")))
    assert {unit: each for unit, each in costs.items() if each > min(_MOST, _FACTOR * plain)} == {}


def test_the_measurement_detects_a_slow_regex(published: Published, open_tmp: Path) -> None:
    """So the tests above can fail: for every colon nginx reads the rest of the path again."""
    block = 'location ~ "^/[^/@]*:[^/]*\\z" { return 204; } location / { return 404; }'
    with START["nginx"](published.site, open_tmp, server=block) as nginx:
        plain, slow = cost(nginx, f"/{'a' * 3000}/"), cost(nginx, f"/{':' * 3000}/")
        assert slow > _FACTOR * plain
