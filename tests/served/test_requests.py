"""Every manifest and blob of a site, and every request of the table, on both servers."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pytest

from tests.support.builders import Built, write_artifact, write_image
from tests.support.fronts import SERVED
from tests.support.http import Answer, request
from tests.support.requests_table import (
    HARMLESS,
    HOSTILE,
    IMAGES,
    INSIDE,
    MOVES,
    ROWS,
    Published,
    Row,
    check_harmless,
    check_hostile,
    check_image,
    check_kept,
    check_list,
    check_lists,
    check_manifest,
    check_referrers,
    check_row,
    is_below_v2,
)
from tests.support.runner import export
from tests.support.servers import START, Server, open_directory, start_caddy, start_nginx

COMPRESSED = {"Accept-Encoding": "gzip"}
ENCODE = "encode gzip {\nminimum_length 1\nmatch {\nheader Content-Type *\n}\n}"


@pytest.fixture(scope="module", params=SERVED)
def server(request: pytest.FixtureRequest, published: Published) -> Iterator[Server]:
    """The site alone in a server."""
    with open_directory() as tmp, SERVED[request.param](published.site, tmp) as server:
        yield server


@pytest.fixture(scope="module", params=START)
def compressing(request: pytest.FixtureRequest, published: Published) -> Iterator[Server]:
    """The site in a server that compresses all that it can."""
    with open_directory() as tmp, _compressing(request.param, published.site, tmp) as server:
        yield server


def _compressing(name: str, site: Path, tmp: Path) -> Server:
    if name == "nginx":
        gzip = "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; gzip_http_version 1.0;"
        return start_nginx(site, tmp, http=gzip)
    return start_caddy(site, tmp, server=f"root * {site}\n{ENCODE}\nimport {site}/Caddyfile")


@pytest.mark.parametrize("reference", IMAGES)
def test_an_image_is_served_to_the_last_byte(server: Server, published: Published, reference: str) -> None:
    check_image(server.port, published, reference)


def test_the_lists_name_everything(server: Server, published: Published) -> None:
    check_lists(server.port, published)


def test_the_referrers_of_a_manifest_are_listed(server: Server, published: Published) -> None:
    check_referrers(server.port, published)


@pytest.mark.parametrize("reference", IMAGES)
def test_nothing_is_compressed(compressing: Server, published: Published, reference: str) -> None:
    check_image(compressing.port, published, reference, COMPRESSED)


def test_a_compressing_server_compresses_no_list_and_no_error(compressing: Server, published: Published) -> None:
    check_lists(compressing.port, published, COMPRESSED)
    check_referrers(compressing.port, published, COMPRESSED)
    row = Row("/v2/<app>/manifests/none", 404, "MANIFEST_UNKNOWN", headers=COMPRESSED)
    check_row(compressing.port, published, row)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_each_request_of_the_table_is_answered(server: Server, published: Published, row: Row) -> None:
    check_row(server.port, published, row)


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_api_version_is_answered(server: Server, path: str) -> None:
    answer = request(server.port, "GET", path)
    assert (answer.status, answer.all("Content-Type")) == (200, ["application/json"])
    assert answer.all("Docker-Distribution-API-Version") == ["registry/2.0"]
    assert answer.body.strip() == b"{}"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", INSIDE + HOSTILE, ids=ascii)
def test_a_hostile_path_reaches_no_file(server: Server, published: Published, path: str, method: str) -> None:
    check_hostile(server.port, published, path, method)


@pytest.mark.parametrize("path", HARMLESS)
def test_another_spelling_is_refused_or_means_the_same(server: Server, published: Published, path: str) -> None:
    check_harmless(server.port, published, path)


@pytest.mark.parametrize(
    "path",
    [
        *("*", "/v2x", "/v2x/<app>/manifests/1", "/v2/../v2x/<app>/manifests/1", "/v2/../../../../../etc/passwd"),
        "/v2/<app>/manifests/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    ],
)
def test_paths_outside_the_registry_are_left_to_the_server(server: Server, published: Published, path: str) -> None:
    """Caddy answers an empty 200 where a site block says nothing."""
    check_kept(server.port, published, path)


@pytest.mark.parametrize("name", SERVED)
def test_no_request_is_logged_above_a_notice(name: str, published: Published, open_tmp: Path) -> None:
    """Clients ask for tags that are not there all the time."""
    with SERVED[name](published.site, open_tmp) as server:
        start = len(server.log)  # Caddy warns at its start, of the test's configuration
        for row in ROWS:
            check_row(server.port, published, row)
        for path in filter(is_below_v2, INSIDE + HOSTILE):
            check_hostile(server.port, published, path)
        assert server.above_notice(start) == []


def test_a_warning_of_nginx_is_in_the_log(published: Published, open_tmp: Path) -> None:
    """So the test above can fail: a variable that no location has set is a warning."""
    block = "location = /set { set $late x; return 200; } location = /warn { return 200 $late; }"
    with start_nginx(published.site, open_tmp, server=block) as nginx:
        request(nginx.port, "GET", "/warn")
        assert [line for line in nginx.above_notice() if "late" in line] != []


def test_the_server_runs_as_another_user(server: Server) -> None:
    """What is served is readable by others; without this, the tests would not show it."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    owners = {os.stat(f"/proc/{each}").st_uid for each in children or [str(server.process.pid)]}
    assert os.geteuid() not in owners or os.geteuid() != 0


# parts


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("0-9", 0, 10), ("5-", 5, None), ("-7", -7, None), ("3-3", 3, 4), ("9-999999", 9, None)]
)
def test_a_blob_is_sent_in_ranges(
    server: Server, published: Published, asked: str, start: int, end: int | None
) -> None:
    path, data = _a_blob(published)
    answer = request(server.port, "GET", path, {"Range": f"bytes={asked}", **COMPRESSED})
    assert (answer.status, answer.body) == (206, data[start:end])
    first = start % len(data)
    assert answer.one("Content-Range") == f"bytes {first}-{first + len(answer.body) - 1}/{len(data)}"
    assert answer.all("Content-Type") == ["application/octet-stream"]
    assert answer.all("Docker-Content-Digest") == [path.rpartition("/")[2]]


def test_a_range_beyond_the_end_is_refused(server: Server, published: Published) -> None:
    path, data = _a_blob(published)
    answer = request(server.port, "GET", path, {"Range": f"bytes={len(data)}-"})
    assert (answer.status, answer.one("Content-Range")) == (416, f"bytes */{len(data)}")


def _a_blob(published: Published) -> tuple[str, bytes]:
    layer = published.words()["layer"]
    return published.resolve(f"/v2/<app>/blobs/{layer}"), published.images["oci/app:1"].blobs[layer]


# tags that move


@pytest.mark.parametrize("name", START)
def test_a_tag_that_moves_within_a_second_is_seen(name: str, open_tmp: Path) -> None:
    """Old and new manifest have one size and one time; nothing of the old answer makes the new one a 304."""
    images, site = open_tmp / "images", open_tmp / "site"
    old = _dated(images / "app/1", seed=1)
    export(images, site)
    with START[name](site, open_tmp) as server:
        before = request(server.port, "GET", "/v2/app/manifests/1")
        lists = request(server.port, "GET", "/v2/app/tags/list")
        new = _dated(images / "app/1", seed=2)
        _dated(images / "app/2", seed=1)
        export(images, site)
        _check_answer(before, old)
        assert len(old.raw) == len(new.raw)
        for headers in _validators(before, old):
            _check_answer(request(server.port, "GET", "/v2/app/manifests/1", headers), new)
        for headers in _validators(lists, old):
            answer = request(server.port, "GET", "/v2/app/tags/list", headers)
            check_list(answer, "GET", {"name": "app", "tags": ["1", "2"]})


def _dated(directory: Path, seed: int) -> Built:
    built = write_artifact(directory, seed=seed)
    os.utime(directory / "manifest.json", (1_600_000_000, 1_600_000_000))
    return built


def _validators(answer: Answer, built: Built) -> Iterator[dict[str, str]]:
    """All that a cache could send back."""
    times = [*answer.all("Last-Modified"), *answer.all("Date"), formatdate(1_600_000_000, usegmt=True)]
    yield from ({"If-Modified-Since": each} for each in times)
    size = len(built.raw)
    tags = [*answer.all("ETag"), f'"{1_600_000_000:x}-{size:x}"', f'"{built.digest}"']
    yield from ({"If-None-Match": each} for each in tags)


def _check_answer(answer: Answer, built: Built) -> None:
    check_manifest(answer, "GET", built.media_type, built.digest, built.raw, MOVES)


@pytest.mark.parametrize("name", START)
def test_a_tag_that_moves_all_the_time_is_always_answered(name: str, open_tmp: Path) -> None:
    """Type, digest and bytes of an answer are of one manifest, also when the tag moves in the midst of it."""
    images, site = open_tmp / "images", open_tmp / "site"
    built = [write_image(images / "app/1", seed=1, docker=True), write_image(images / "app/2", seed=2, layers=3)]
    write_image(images / "app/moving", seed=1, docker=True)
    export(images, site)
    with START[name](site, open_tmp) as server, ThreadPoolExecutor(3) as pool:
        done = threading.Event()
        mover = threading.Thread(target=_move, args=(site / "v2/app/manifests", done))
        mover.start()
        try:
            seen = set().union(*pool.map(partial(_pull, server, time.monotonic() + 2), [built] * 3))
        finally:
            done.set()
            mover.join()
    assert seen == {each.digest for each in built}


def _move(manifests: Path, done: threading.Event) -> None:
    for tag in itertools.cycle("12"):
        if done.is_set():
            break
        (manifests / ".moving").symlink_to(os.readlink(manifests / tag))
        (manifests / ".moving").rename(manifests / "moving")


def _pull(server: Server, until: float, built: list[Built]) -> set[str]:
    by_digest = {each.digest: each for each in built}
    seen = set()
    while time.monotonic() < until:
        answer = request(server.port, "GET", "/v2/app/manifests/moving")
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        assert digest in by_digest, answer
        _check_answer(answer, by_digest[digest])
        seen.add(digest)
    return seen
