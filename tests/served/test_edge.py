"""The edge of `examples/edge/nginx.conf`: a cache of stock nginx before one or more sites.

"An hour later" is made by changing the time stamps in the files of the cache: nginx reads them anew for each request.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.served.fuzz import cost, farm
from tests.served.fuzz.contents import Contents, publish
from tests.served.fuzz.farm import Farm
from tests.served.fuzz.grammar import Grammar
from tests.support import clients
from tests.support.builders import Built, write_image
from tests.support.edges import (
    TEXT,
    CountedSite,
    an_hour_later,
    get,
    kept,
    new_cache,
    pull_digest,
    replace,
    start_edge,
    start_site,
)
from tests.support.http import Answer, request
from tests.support.mounts import mount, mounted, needs_root
from tests.support.requests_table import (
    JSON,
    MOVES,
    STAYS,
    Published,
    check_error,
    check_image,
    check_lists,
    check_referrers,
    mismatches,
)
from tests.support.runner import export
from tests.support.servers import HOST, START, Server, free_port, open_directory, start_caddy

SLICE = 8 << 20
LARGE = 3 * SLICE + 4321  # of a blob; no multiple of a slice
PULLS = 40
TAG, LIST = "/v2/team/app/manifests/1", "/v2/team/app/tags/list"
PASSWORD = "o2-krab"
RIGHT = {"Authorization": "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()}
WRONG = {"Authorization": "Basic " + base64.b64encode(b"user:wrong").decode()}


@dataclass(frozen=True, slots=True)
class Place:
    """A site with an image that has a large blob."""

    site: Path
    image: Built
    large: str
    data: bytes

    @property
    def blob(self) -> str:
        """The path of the large blob."""
        return f"/v2/team/app/blobs/{self.large}"

    @property
    def manifest(self) -> str:
        """The path of the manifest by its digest."""
        return f"/v2/team/app/manifests/{self.image.digest}"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with open_directory() as directory:
        yield _publish(directory)


def _publish(directory: Path, seed: int = 1) -> Place:
    image = write_image(directory / "images/team/app/1", seed=seed, layers=1, layer_size=LARGE, compression="none")
    export(directory / "images", directory / "site")
    large = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
    assert len(image.blobs[large]) > LARGE
    return Place(directory / "site", image, large, image.blobs[large])


@pytest.fixture
def origin(place: Place, open_tmp: Path) -> Iterator[CountedSite]:
    with start_site(place.site, open_tmp) as origin:
        yield origin


# what an edge answers is what its site answers


@pytest.mark.parametrize("name", START)
def test_the_table_holds_through_an_edge(name: str, published: Published, open_tmp: Path) -> None:
    """Each answer is right when it comes from the site, and again from the cache, when there is no site any more."""
    with START[name](published.site, open_tmp) as site, start_edge(open_tmp, site.port) as edge:
        assert mismatches(edge.port, published) == []
        assert edge.above_notice() == []
        site.stop()
        # Caddy 2.6 refuses any part of an empty blob, so the edge asks for it as for HEAD, and does not keep it
        empty = {"hollow:1"} if name == "caddy" else set()
        for reference in published.images.keys() - empty:
            check_image(edge.port, published, reference)
        check_lists(edge.port, published)
        check_referrers(edge.port, published)


@contextmanager
def _edges(sites: Farm, tmp: Path) -> Iterator[Farm]:
    """Edges before all the sites that the fuzzer asks; the one before the site with a password asks for it itself."""
    _guard(tmp)
    with ExitStack() as stack:
        edges = {
            site: stack.enter_context(start_edge(tmp, port, change=_asking(tmp) if site == "guarded" else str))
            for site, port in sites.ports.items()
        }
        yield Farm(edges["alone"], {site: edge.port for site, edge in edges.items()}, sites.judge)
        for site in ("alone", "beside", "closed"):
            assert edges[site].above_notice() == []


@pytest.fixture
def contents(open_tmp: Path) -> Contents:
    contents = publish(open_tmp)
    farm.plant(contents)
    return contents


@pytest.mark.parametrize("name", START)
def test_an_edge_adds_no_fault_to_the_answers_to_random_requests(name: str, contents: Contents, open_tmp: Path) -> None:
    grammar = Grammar(contents, "edge")
    with (
        farm.run(name, contents) as sites,
        _edges(sites, open_tmp) as edges,
        sites.connections() as direct,
        edges.connections() as asker,
    ):
        found = {each: asker.faults(each) for each in (grammar.request() for _ in range(1500))}
        added = {str(each): faults for each, faults in found.items() if faults and not direct.faults(each)}
    assert added == {}
    assert len(found) > 1000


def test_no_request_is_dear_for_an_edge(contents: Contents, open_tmp: Path) -> None:
    """Whatever is made to fit its regexes."""
    with farm.run("nginx", contents) as sites, _edges(sites, open_tmp) as servers:
        hostile = [each for each in cost.hostile("nginx", TEXT) if each.site == "alone"]
        assert hostile
        assert list(cost.dear(servers, hostile)) == []


@pytest.mark.parametrize("accept", ["*/*", "application/vnd.docker.distribution.manifest.v2+json", "text/html"])
def test_a_manifest_does_not_depend_on_what_the_client_accepts(
    place: Place, origin: CountedSite, open_tmp: Path, accept: str
) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        assert get(edge, place.manifest).body == place.image.raw
        answer = get(edge, place.manifest, Accept=accept)
        assert (answer.status, answer.body, answer.one("X-Cache-Status")) == (200, place.image.raw, "HIT")
        assert answer.all("Content-Type") == [place.image.media_type]
        assert len(origin.sent(place.manifest)) == 1


@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"a", "{}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_client_has_is_not_sent_again(
    place: Place, origin: CountedSite, open_tmp: Path, method: str, known: str
) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        digest = place.image.digest
        for path, etag, cache in (
            (TAG, digest, MOVES),
            (place.manifest, digest, STAYS),
            (place.blob, place.large, STAYS),
        ):
            for _ in range(2):
                answer = request(edge.port, method, path, {"If-None-Match": known.format(etag)})
                assert (answer.status, answer.body, answer.all("ETag")) == (304, b"", [f'"{etag}"'])
                assert set(re.split(", *", answer.one("Cache-Control") or "")) == cache
            answer = request(edge.port, method, path, {"If-None-Match": '"sha256:0"'})
            assert answer.status == 200


@pytest.mark.parametrize("condition", [{"If-Match": '"a"'}, {"If-Match": ""}, {"If-Unmodified-Since": ""}])
def test_a_condition_that_fails_is_refused_in_json(
    place: Place, origin: CountedSite, open_tmp: Path, condition: dict[str, str]
) -> None:
    """And leaves nothing locked for those who ask for the same."""
    with start_edge(open_tmp, origin.port) as edge:
        for path in (place.blob, place.manifest, TAG, LIST, "/v2/_catalog"):
            for _ in range(2):
                check_error(request(edge.port, "GET", path, condition), "GET", 412, "UNSUPPORTED")
            assert get(edge, path).status == 200
        assert get(edge, place.blob, If_Match=f'"{place.large}"').body == place.data
        assert edge.above_notice() == []


def test_what_is_outside_the_registry_is_not_passed_on(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        for path in ("/", "/index.html", "/nginx.conf", "/v2x", "/v2/../nginx.conf", "/v2/%2e%2e/nginx.conf"):
            assert get(edge, path).status == 404
        for method in ("PUT", "POST", "DELETE"):
            check_error(request(edge.port, method, TAG, body=b"x" * 2_000_000), method, 405, "UNSUPPORTED")
        assert origin.sent() == []


# what an edge is for


def test_forty_pulls_through_two_edges_cost_two(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as one, start_edge(open_tmp, origin.port) as two:
        ports = [one.port, two.port] * (PULLS // 2)
        with ThreadPoolExecutor(PULLS) as pool:
            pulled = Counter(pool.map(pull_digest, ports, [place.blob] * PULLS))
        assert pulled == {place.large: PULLS}
        assert len(place.data) <= origin.bytes() <= 2.2 * len(place.data)
        assert [*one.above_notice(), *two.above_notice()] == []


def test_a_slow_site_is_asked_once_for_each_slice(place: Place, open_tmp: Path) -> None:
    """Also if a slice takes longer than the five seconds that nginx waits by default."""
    small = 1 << 20
    limit = "limit_rate 170k;"
    with (
        start_site(place.site, open_tmp, server=limit) as origin,
        start_edge(open_tmp, origin.port, change=lambda text: replace(text, "slice 8m;", "slice 1m;")) as edge,
    ):
        ask = {"Range": f"bytes=5-{small - 1}"}
        with ThreadPoolExecutor(10) as pool:
            answers = pool.map(lambda _: request(edge.port, "GET", place.blob, ask), range(10))
        assert {answer.body for answer in answers} == {place.data[5:small]}
        assert small <= origin.bytes() < 2 * small


def test_head_fetches_no_part_of_a_blob(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        for _ in range(3):
            answer = request(edge.port, "HEAD", place.blob)
            assert (answer.status, answer.one("Content-Length")) == (200, str(len(place.data)))
        assert origin.bytes() < 3000
        assert {each.method for each in origin.sent()} == {"HEAD"}


def test_head_of_a_manifest_is_answered_from_the_cache(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        for path in (TAG, place.manifest):
            request(edge.port, "HEAD", path)
            assert get(edge, path).body == place.image.raw
        assert len(origin.sent(place.manifest)) == 1


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-0", 0, 1),
        (f"{SLICE - 1}-{SLICE}", SLICE - 1, SLICE + 1),
        (f"{SLICE}-{2 * SLICE - 1}", SLICE, 2 * SLICE),
        (f"{3 * SLICE - 7}-", 3 * SLICE - 7, None),
        ("-5", -5, None),
        (f"{3 * SLICE}-999999999", 3 * SLICE, None),
    ],
)
@pytest.mark.parametrize("condition", [None, '"{}"'])
def test_a_part_comes_from_the_slices_that_it_is_in(
    place: Place, origin: CountedSite, open_tmp: Path, asked: str, start: int, end: int | None, condition: str | None
) -> None:
    headers = {"Range": f"bytes={asked}"} | ({"If-Range": condition.format(place.large)} if condition else {})
    part = place.data[start:end]
    first = start % len(place.data)
    with start_edge(open_tmp, origin.port) as edge:
        for _ in range(2):
            answer = request(edge.port, "GET", place.blob, headers)
            assert (answer.status, answer.body) == (206, part)
            assert answer.one("Content-Range") == f"bytes {first}-{first + len(part) - 1}/{len(place.data)}"
            assert answer.all("Cache-Control") == []
            assert (answer.one("ETag"), answer.one("Docker-Content-Digest")) == (f'"{place.large}"', place.large)
        # the slices of the part, and the first one, which tells size and ETag where these must be known before
        assert origin.bytes() < len(part) + 3 * SLICE


def test_a_part_that_is_none_has_no_lifetime(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        size = len(place.data)
        for asked in (f"{size}-", f"{size + 5 * SLICE}-", f"{size}-,{size + 5}-"):
            for _ in range(2):
                answer = get(edge, place.blob, Range=f"bytes={asked}")
                assert (answer.status, answer.one("Content-Range")) == (416, f"bytes */{size}")
                assert (answer.codes, answer.all("Content-Type")) == (["SIZE_INVALID"], [JSON])
                assert "immutable" not in str(answer.all("Cache-Control"))
        assert edge.above_notice() == []
        assert get(edge, place.blob).body == place.data


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-0,5-6"},
        {"Range": "bytes=0-9", "If-Range": '"sha256:0"'},
        {"Range": "bytes=0-9", "If-Range": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"Range": "lines=1-2"},
    ],
)
def test_several_parts_and_parts_of_another_blob_are_the_whole(
    place: Place, origin: CountedSite, open_tmp: Path, headers: dict[str, str]
) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        for _ in range(2):
            answer = request(edge.port, "GET", place.blob, headers)
            assert (answer.status, answer.body) == (200, place.data)
        assert origin.bytes() < len(place.data) + SLICE


def test_a_pull_that_was_cut_off_is_resumed(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    with start_edge(open_tmp, origin.port) as edge:
        connection = http.client.HTTPConnection(HOST, edge.port, timeout=20)
        connection.request("GET", place.blob)
        begun = connection.getresponse().read(SLICE + 100)
        connection.close()
        rest = get(edge, place.blob, Range=f"bytes={len(begun)}-", If_Range=f'"{place.large}"')
        assert rest.status == 206
        assert begun + rest.body == place.data
        assert origin.bytes() < len(place.data) + 2 * SLICE


def test_ns_is_part_of_what_is_kept(open_tmp: Path) -> None:
    built = {
        name: write_image(open_tmp / "images" / name / "app/1", seed=seed)
        for seed, name in enumerate(("docker.io", "quay.io", "localhost_5000", "plain"))
    }
    (open_tmp / "images/plain/app").rename(open_tmp / "images/app")
    export(open_tmp / "images", open_tmp / "site")
    every = {"docker.io": "docker.io", "quay.io": "quay.io", "localhost_5000": "localhost%3A5000", "plain": "gcr.io"}
    with start_site(open_tmp / "site", open_tmp) as origin, start_edge(open_tmp, origin.port) as edge:
        for _ in range(2):
            for name, ns in every.items():
                others = {other for other in every.values() if other != ns}
                assert get(edge, f"/v2/app/manifests/1?ns={ns}").body == built[name].raw
                content = {f"manifests/{digest}": raw for digest, (_, raw) in built[name].manifests.items()}
                content |= {f"blobs/{digest}": data for digest, data in built[name].blobs.items()}
                for path, data in content.items():
                    assert get(edge, f"/v2/app/{path}?ns={ns}").body == data
                    assert {get(edge, f"/v2/app/{path}?ns={other}").status for other in others} == {404}


# names move


def _retag(directory: Path) -> Built:
    shutil.rmtree(directory / "images/team/app/1")
    moved = write_image(directory / "images/team/app/1", seed=7)
    write_image(directory / "images/team/app/2", seed=8)
    export(directory / "images", directory / "site")
    return moved


def _update_later(text: str) -> str:
    """What people add who do not want to wait for a site."""
    return replace(text, "proxy_cache_use_stale ", "proxy_cache_background_update on; proxy_cache_use_stale updating ")


@pytest.fixture
def own(open_tmp: Path) -> tuple[Path, Built]:
    """A directory with images and a site of its own, which the test changes."""
    image = write_image(open_tmp / "images/team/app/1", seed=6)
    export(open_tmp / "images", open_tmp / "site")
    return open_tmp, image


def test_a_tag_that_moved_is_seen_after_two_seconds(own: tuple[Path, Built], open_tmp: Path) -> None:
    """By the first request. Nothing is asked for meanwhile."""
    with start_site(open_tmp / "site", open_tmp) as origin, start_edge(open_tmp, origin.port) as edge:
        assert get(edge, TAG).body == own[1].raw
        assert get(edge, LIST).body == b'{"name":"team/app","tags":["1"]}\n'
        assert get(edge, "/v2/team/app/manifests/2").status == 404
        moved = _retag(open_tmp)
        time.sleep(2)
        answer = get(edge, TAG)
        assert (answer.body, answer.one("Docker-Content-Digest")) == (moved.raw, moved.digest)
        assert get(edge, LIST).body == b'{"name":"team/app","tags":["1","2"]}\n'
        assert get(edge, "/v2/team/app/manifests/2").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_tag_that_moved_is_seen_by_the_first_request_after_an_hour(
    own: tuple[Path, Built], open_tmp: Path, method: str
) -> None:
    cache = new_cache(open_tmp)
    with start_site(open_tmp / "site", open_tmp) as origin, start_edge(open_tmp, origin.port, cache=cache) as edge:
        assert get(edge, TAG).body == own[1].raw
        moved = _retag(open_tmp)
        assert an_hour_later(cache) == 1
        assert request(edge.port, method, TAG).one("Docker-Content-Digest") == moved.digest


def test_an_edge_that_updates_later_is_seen_to_answer_with_the_old_tag(own: tuple[Path, Built], open_tmp: Path) -> None:
    """So the test above can fail."""
    cache = new_cache(open_tmp)
    with (
        start_site(open_tmp / "site", open_tmp) as origin,
        start_edge(open_tmp, origin.port, cache=cache, change=_update_later) as edge,
    ):
        get(edge, TAG)
        _retag(open_tmp)
        an_hour_later(cache)
        assert get(edge, TAG).one("Docker-Content-Digest") == own[1].digest


def test_a_tag_that_has_not_moved_costs_no_body(own: tuple[Path, Built], open_tmp: Path) -> None:
    cache = new_cache(open_tmp)
    with start_site(open_tmp / "site", open_tmp) as origin, start_edge(open_tmp, origin.port, cache=cache) as edge:
        for expected in ("MISS", "REVALIDATED", "REVALIDATED"):
            answer = get(edge, TAG)
            assert (answer.body, answer.one("X-Cache-Status")) == (own[1].raw, expected)
            an_hour_later(cache)
        assert [each.status for each in origin.sent(TAG)] == [200, 304, 304]


def test_a_tag_that_was_removed_is_gone_and_stays_gone(own: tuple[Path, Built], open_tmp: Path) -> None:
    """Also when the site is stopped: the last answer counts, and not the last image."""
    cache = new_cache(open_tmp)
    with start_site(open_tmp / "site", open_tmp) as origin, start_edge(open_tmp, origin.port, cache=cache) as edge:
        assert get(edge, TAG).status == 200
        _retag(open_tmp)
        shutil.rmtree(open_tmp / "images/team/app/1")
        export(open_tmp / "images", open_tmp / "site")
        an_hour_later(cache)
        check_error(get(edge, TAG), "GET", 404, "MANIFEST_UNKNOWN")
        origin.stop()
        an_hour_later(cache)
        check_error(get(edge, TAG), "GET", 404, "MANIFEST_UNKNOWN")


# sites fail


def _check_pulled(edge: Server, place: Place) -> None:
    """Everything of the image comes, in each way."""
    for method in ("GET", "HEAD"):
        for path, data in ((TAG, place.image.raw), (place.manifest, place.image.raw), (place.blob, place.data)):
            answer = request(edge.port, method, path)
            assert (answer.status, answer.body) == (200, data if method == "GET" else b"")
            assert answer.one("Content-Length") == str(len(data))
    assert get(edge, place.blob, Range=f"bytes={SLICE + 5}-").body == place.data[SLICE + 5 :]
    assert get(edge, "/v2/").status == 200
    assert json.loads(get(edge, LIST).body)["tags"] == ["1"]


def _pull(edge: Server, place: Place) -> None:
    """What a client asks for, and no more."""
    for path in ("/v2/", TAG, place.manifest, place.blob, LIST):
        assert get(edge, path).status == 200


def _absent(place: Place) -> list[str]:
    """Paths that nobody asked for."""
    config = min(place.image.blobs, key=lambda digest: len(place.image.blobs[digest]))
    return [f"/v2/team/app/blobs/{config}", "/v2/_catalog", "/v2/team/app/manifests/2", "/v2/x/tags/list"]


@contextmanager
def _stopped(origin: CountedSite, place: Place) -> Iterator[None]:
    origin.stop()
    yield


@contextmanager
def _hanging(origin: CountedSite, place: Place) -> Iterator[None]:
    """It accepts connections, and says nothing."""
    workers = cost.processes(origin.server.process.pid)
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in workers:
            os.kill(each, signal.SIGCONT)


@contextmanager
def _unmounted(origin: CountedSite, place: Place) -> Iterator[None]:
    (place.site / "v2").rename(place.site / "away")
    yield


def _impatient(text: str) -> str:
    return replace(text, "proxy_read_timeout 30s", "proxy_read_timeout 500ms")


@pytest.mark.parametrize("failing", [_stopped, _hanging, _unmounted])
def test_what_was_pulled_still_comes_while_the_site_fails(
    open_tmp: Path, failing: Callable[[CountedSite, Place], AbstractContextManager[None]]
) -> None:
    """And what was not is an error of the server, never an absence."""
    place, cache = _publish(open_tmp), new_cache(open_tmp)

    with (
        start_site(place.site, open_tmp) as origin,
        start_edge(open_tmp, origin.port, cache=cache, change=_impatient) as edge,
    ):
        _pull(edge, place)
        with failing(origin, place):
            assert an_hour_later(cache) > 5
            _check_pulled(edge, place)
            for path in _absent(place):
                check_error(get(edge, path), "GET", 503, "UNAVAILABLE")
                check_error(request(edge.port, "HEAD", path), "HEAD", 503, "UNAVAILABLE")


def test_those_who_wait_for_a_blob_hear_of_an_error_together(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    """The site is not asked once for each of them, one after the other."""
    with (
        start_edge(open_tmp, origin.port, change=_impatient) as edge,
        _hanging(origin, place),
        ThreadPoolExecutor(PULLS) as pool,
    ):
        for answer in pool.map(lambda _: get(edge, place.blob), range(PULLS)):
            check_error(answer, "GET", 503, "UNAVAILABLE")
        assert 1 <= len(edge.errors) <= PULLS / 4


def test_a_site_that_comes_back_is_asked_again(own: tuple[Path, Built], open_tmp: Path) -> None:
    site = open_tmp / "site"
    with start_site(site, open_tmp) as origin, start_edge(open_tmp, origin.port) as edge:
        (site / "v2").rename(site / "away")
        assert get(edge, TAG).status == 503
        (site / "away").rename(site / "v2")
        assert get(edge, TAG).body == own[1].raw


def test_the_second_site_answers_while_the_first_one_fails(place: Place, open_tmp: Path) -> None:
    """A blob of which each site sent a part is whole, and what is absent is absent."""
    copy = open_tmp / "copy"
    shutil.copytree(place.site, copy, symlinks=True, copy_function=shutil.copyfile)
    caddy = f"root * {copy}\nimport {copy}/Caddyfile"
    with (
        start_site(place.site, open_tmp) as first,
        start_caddy(copy, open_tmp, server=caddy) as second,
        start_edge(open_tmp, first.port, second.port) as edge,
    ):
        get(edge, TAG)
        get(edge, place.blob, Range=f"bytes=0-{2 * SLICE}")
        assert first.bytes(place.blob) > SLICE
        first.stop()
        assert get(edge, place.blob).body == place.data
        _check_pulled(edge, place)
        for path, code in (("/v2/team/app/manifests/none", "MANIFEST_UNKNOWN"), ("/v2/x/tags/list", "NAME_UNKNOWN")):
            check_error(get(edge, path), "GET", 404, code)
        second.stop()
        _check_pulled(edge, place)


def test_the_second_site_is_not_asked_while_the_first_one_answers(own: tuple[Path, Built], open_tmp: Path) -> None:
    """So a tag that has moved at one of them does not move back and forth."""
    site, other = open_tmp / "site", open_tmp / "other"
    write_image(open_tmp / "old/team/app/1", seed=9)
    export(open_tmp / "old", other)
    with (
        start_site(site, open_tmp) as first,
        start_site(other, open_tmp) as second,
        start_edge(open_tmp, first.port, second.port) as edge,
    ):
        for path in (
            TAG,
            LIST,
            "/v2/team/app/manifests/none",
            *(f"/v2/team/app/blobs/{each}" for each in own[1].blobs),
        ):
            get(edge, path)
        assert second.sent() == []


def test_nothing_of_a_server_that_is_no_site_is_kept(place: Place, open_tmp: Path) -> None:
    """A login page in front of everything, say, that says 200."""
    page = open_tmp / "page"
    page.touch()
    lines = f'if (-f {page}) {{ return 200 "log in"; }}'
    cache = new_cache(open_tmp)
    with (
        start_site(place.site, open_tmp, server=lines) as origin,
        start_edge(open_tmp, origin.port, cache=cache) as edge,
    ):
        for path in (place.manifest, place.blob):
            assert get(edge, path).body == b"log in"
        assert kept(cache) == []
        page.unlink()
        assert get(edge, place.manifest).body == place.image.raw
        assert get(edge, place.blob).body == place.data


# passwords


def _guard(directory: Path) -> str:
    (directory / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
    return f"auth_basic registry; auth_basic_user_file {directory}/htpasswd;"


def _asking(directory: Path) -> Callable[[str], str]:
    """Do as the comment in the example says."""

    def change(text: str) -> str:
        lines = re.search(r"^ +# +(auth_basic registry;.*\n) +# +(set \$edge_private \"\";\n)", text, re.MULTILINE)
        assert lines
        return text.replace(lines[0], lines[1] + lines[2]).replace("/etc/nginx/htpasswd", f"{directory}/htpasswd")

    return change


def _refused(answer: Answer, method: str = "GET") -> bool:
    check_error(answer, method, 401, "UNAUTHORIZED")
    return bool(answer.one("WWW-Authenticate"))


def test_an_edge_that_asks_for_no_password_keeps_nothing_that_one_opened(place: Place, open_tmp: Path) -> None:
    """It works as it stands before a site with a password: it passes all on, and gives nothing to others."""
    cache = new_cache(open_tmp)
    with (
        start_site(place.site, open_tmp, server=_guard(open_tmp)) as origin,
        start_edge(open_tmp, origin.port, cache=cache) as edge,
    ):
        for path, data in ((TAG, place.image.raw), (place.manifest, place.image.raw), (place.blob, place.data)):
            for _ in range(2):
                assert _refused(get(edge, path))
                assert _refused(get(edge, path, **WRONG))
                assert _refused(request(edge.port, "HEAD", path), "HEAD")
                assert get(edge, path, **RIGHT).body == data
                assert request(edge.port, "HEAD", path, RIGHT).status == 200
        assert get(edge, place.blob, Range="bytes=7-9", **RIGHT).body == place.data[7:10]
        assert kept(cache) == []
        origin.stop()
        assert get(edge, place.blob, **RIGHT).status == 503


def test_a_password_that_the_edge_does_not_ask_for_is_passed_on(
    place: Place, origin: CountedSite, open_tmp: Path
) -> None:
    """Whatever the edge has: the site decides, and nobody waits for an answer that is not kept."""
    with start_edge(open_tmp, origin.port) as edge:
        for path in (TAG, place.manifest, place.blob):
            get(edge, path)
            assert get(edge, path).one("X-Cache-Status") == "HIT"
            assert get(edge, path, **RIGHT).one("X-Cache-Status") == "BYPASS"


@pytest.mark.parametrize("guarded", [True, False])
def test_an_edge_asks_for_the_password_of_what_it_keeps(place: Place, open_tmp: Path, guarded: bool) -> None:
    """It passes the password on, so that the site may ask for it too."""
    guard = _guard(open_tmp)
    paths = [TAG, LIST, "/v2/", "/v2", "/v2/_catalog?n=1", place.manifest, place.blob, "/v2/team/app/manifests/none"]
    paths += ["/v2/Team/tags/list", "/v2/./blob", "/v2/./pass", "/v2/./error/503"]
    with (
        start_site(place.site, open_tmp, server=guard if guarded else "") as origin,
        start_edge(open_tmp, origin.port, change=_asking(open_tmp)) as edge,
    ):
        for path in paths:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                assert _refused(request(edge.port, method, path), method)
                assert _refused(request(edge.port, method, path, WRONG), method)
        assert origin.sent() == []
        for _ in range(2):
            assert get(edge, TAG, **RIGHT).body == place.image.raw
            assert get(edge, place.manifest, **RIGHT).body == place.image.raw
            assert get(edge, place.blob, **RIGHT).body == place.data
            assert request(edge.port, "HEAD", place.blob, RIGHT).status == 200
            assert _refused(get(edge, place.blob, If_None_Match="*"))
        assert origin.bytes() < len(place.data) + SLICE
        origin.stop()
        for path, data in ((TAG, place.image.raw), (place.manifest, place.image.raw), (place.blob, place.data)):
            assert _refused(get(edge, path))
            assert get(edge, path, **RIGHT).body == data
            assert request(edge.port, "HEAD", path, RIGHT).status == 200


def test_a_site_that_refuses_the_password_of_the_edge_is_not_kept(place: Place, open_tmp: Path) -> None:
    cache, other = new_cache(open_tmp), open_tmp / "other"
    other.mkdir()
    other.chmod(0o755)
    _guard(open_tmp)
    guard = _guard(other)
    (other / "htpasswd").write_text("user:{PLAIN}of-the-site\n")
    with (
        start_site(place.site, open_tmp, server=guard) as origin,
        start_edge(open_tmp, origin.port, cache=cache, change=_asking(open_tmp)) as edge,
    ):
        for path in (TAG, place.manifest, place.blob):
            assert _refused(get(edge, path, **RIGHT))
        assert kept(cache) == []
        (other / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
        assert get(edge, place.blob, **RIGHT).body == place.data


# what an operator meets


def _with_tls(directory: Path) -> Callable[[str], str]:
    """Do as the comment in the example says."""

    def change(text: str) -> str:
        lines = re.search(r"^ +# TLS to sites:(.*\n) +#(.*\n)", text, re.MULTILINE)
        assert lines
        own = replace(lines[1] + lines[2], "/etc/ssl/certs/ca-certificates.crt", f"{directory}/site.pem")
        return text.replace(lines[0], own)

    return change


@pytest.mark.parametrize("name", ["mirror.example.com", "other.example.com"])
def test_a_site_is_asked_by_tls_if_its_certificate_is_right(place: Place, open_tmp: Path, name: str) -> None:
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    files = ["-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{open_tmp}/site.key", "-out", f"{open_tmp}/site.pem"]
    subprocess.run([*making, *files], check=True, capture_output=True)
    port = free_port()
    tls = f"listen {HOST}:{port} ssl; ssl_certificate {open_tmp}/site.pem; ssl_certificate_key {open_tmp}/site.key;"
    with (
        start_site(place.site, open_tmp, server=tls) as origin,
        start_edge(open_tmp, port, change=_with_tls(open_tmp)) as edge,
    ):
        for path, data in ((TAG, place.image.raw), (place.manifest, place.image.raw), (place.blob, place.data)):
            if name == "mirror.example.com":
                assert get(edge, path).body == data
            else:
                check_error(get(edge, path), "GET", 503, "UNAVAILABLE")
                assert origin.sent(path) == []


@needs_root
def test_a_full_disk_cuts_off_and_never_damages(place: Place, origin: CountedSite, open_tmp: Path) -> None:
    """What comes is right as far as it goes, and all is well when there is room again."""
    cache = new_cache(open_tmp)
    with (
        mounted("-t", "tmpfs", "-o", f"size={2 * SLICE + SLICE // 2},mode=777", "tmpfs", cache),
        start_edge(open_tmp, origin.port, cache=cache) as edge,
    ):
        for _ in range(2):
            cut = get(edge, place.blob)
            assert len(cut.body) < len(place.data)
            assert place.data.startswith(cut.body)
        assert get(edge, place.blob, Range=f"bytes=0-{2 * SLICE - 1}").body == place.data[: 2 * SLICE]
        assert get(edge, TAG).status == 200
        mount("-o", "remount,size=100m", cache)
        assert get(edge, place.blob).body == place.data
        assert any("[crit]" in line and "pwritev()" in line for line in edge.errors)


def test_clients_pull_through_an_edge(place: Place, origin: CountedSite, open_tmp: Path, tmp_path: Path) -> None:
    clients.require("skopeo", "podman", "conmon", "runc", "containerd", "ctr")
    clients.configure(tmp_path / "etc", {})
    with start_edge(open_tmp, origin.port) as edge, clients.machine(tmp_path / "etc") as machine:
        (tmp_path / "etc/containers/registries.conf").write_text(
            f'[[registry]]\nlocation = "{edge.address}"\ninsecure = true\n'
        )
        name = f"{edge.address}/team/app:1"
        machine.run("skopeo", "copy", "--preserve-digests", f"docker://{name}", f"dir:{tmp_path}/copied")
        assert (tmp_path / "copied/manifest.json").read_bytes() == place.image.raw
        with machine.daemon("containerd", ready=("ctr", "version")):
            machine.run("ctr", "content", "fetch", "--plain-http", name)
            stored = machine.run("ctr", "content", "ls", "--quiet").split()
            assert set(stored) == place.image.manifests.keys() | place.image.blobs.keys()
            origin.stop()
            machine.run("podman", "pull", "--quiet", name)
    assert origin.bytes() < len(place.data) + SLICE
