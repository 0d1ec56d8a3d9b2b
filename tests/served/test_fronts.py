"""The front of `examples/s3/nginx.conf`: a bucket is the same registry as the site that was pushed into it.

The table of requests, the lists, referrers, conditional requests, the official suite and the clients run over a bucket
where they run over servers, by `fronts.SERVED`. Here is what only a front can do wrong.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from tests.served.fuzz import cost
from tests.served.fuzz.contents import Contents
from tests.served.fuzz.contents import publish as publish_contents
from tests.served.fuzz.farm import Farm
from tests.served.fuzz.grammar import Grammar
from tests.served.fuzz.judge import Judge
from tests.served.fuzz.wire import Request
from tests.support import clients
from tests.support.builders import Built, write_artifact, write_image, write_index
from tests.support.ceph import ceph
from tests.support.edges import (
    CountedSite,
    an_hour_later,
    get,
    kept,
    new_cache,
    pull_digest,
    replace,
)
from tests.support.fronts import (
    KEPT,
    NAME,
    PREFIX,
    PUBLIC,
    TEXT,
    open_bucket,
    start_bucket,
    start_front,
    start_tap,
    update,
)
from tests.support.http import Answer, request
from tests.support.pulls import pull
from tests.support.pushes import push
from tests.support.requests_table import (
    HARMLESS,
    HOSTILE,
    INSIDE,
    JSON,
    ROWS,
    Published,
    check_error,
    mismatches,
)
from tests.support.runner import export
from tests.support.servers import HOST, PASSWORD, Server, free_port, open_directory, start_caddy, start_nginx
from tests.support.stores import ENVIRONMENT, S3, Bucket, make_certificate, versitygw
from tests.support.waiting import wait_until

SLICE = 4 << 20
LARGE = 3 * SLICE + 4321  # of a blob; no multiple of a slice
NONE = f"sha256:{'0' * 64}"
RIGHT = {"Authorization": "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()}
WRONG = {"Authorization": "Basic " + base64.b64encode(b"user:wrong").decode()}
TAG, LIST = "/v2/team/app/manifests/1", "/v2/team/app/tags/list"


@dataclass(frozen=True, slots=True)
class Place:
    """A site with an image that has a large blob, and with something of each other kind."""

    site: Path
    image: Built
    large: str

    @property
    def data(self) -> bytes:
        """The bytes of the large blob."""
        return self.image.blobs[self.large]

    @property
    def blob(self) -> str:
        """The path of the large blob."""
        return f"/v2/team/app/blobs/{self.large}"

    @property
    def manifest(self) -> str:
        """The path of the manifest by its digest."""
        return f"/v2/team/app/manifests/{self.image.digest}"

    @property
    def signature(self) -> str:
        """The path of a signature in a file of its own."""
        return f"/v2/_sigstore/team/app@sha256={self.image.digest.removeprefix('sha256:')}/signature-1"

    @property
    def present(self) -> list[str]:
        """One path of each kind."""
        referrers = f"/v2/team/app/referrers/{self.image.digest}"
        pages = [f"{LIST}?n=1", f"{LIST}?n=1&last=1", "/v2/_catalog?n=1", "/v2/_catalog?last=team/app", f"{LIST}?n=0"]
        lists = [LIST, "/v2/_catalog", *pages, referrers, f"{referrers}?artifactType=a/b"]
        names = [f"{LIST}?ns=none.example", "/v2/app/manifests/1?ns=docker.io", "/v2/_images.txt", self.signature]
        return ["/v2/", "/v2", TAG, self.manifest, self.blob, *lists, *names]


def absent() -> list[str]:
    """One path of each kind that is not there, or is malformed."""
    below = ["manifests/none", f"manifests/{NONE}", f"blobs/{NONE}", "tags/list?last=none", "blobs/x", "tags/list?n=x"]
    paths = [*(f"/v2/team/app/{each}" for each in below), "/v2/x/tags/list", "/v2/x/manifests/1", f"/v2/x/blobs/{NONE}"]
    return [*paths, f"/v2/x/referrers/{NONE}", "/v2/X/tags/list", "/v2/_none", "/v2/_sigstore/x@sha256=00/signature-1"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with open_directory() as directory:
        yield publish(directory)


def publish(directory: Path) -> Place:
    """Write the images, and export them."""
    images = directory / "images"
    image = write_image(images / "team/app/1", seed=1, layers=1, layer_size=LARGE, compression="none")
    write_artifact(images / "team/app/ref", seed=2, subject=image, artifact_type="a/b", empty_config=True)
    shutil.copytree(images / "team/app/1", images / "team/same/1", copy_function=os.link)
    write_index(images / "docker.io/app/1", seed=3)
    (images / "team/app/1/signature-1").write_bytes(b"\xa3signature")
    export(images, directory / "site")
    return Place(directory / "site", image, max(image.blobs, key=lambda digest: len(image.blobs[digest])))


@pytest.fixture(scope="module")
def bucket(place: Place) -> Iterator[Bucket]:
    """The site in a bucket that no test changes."""
    with open_directory() as directory, versitygw(directory) as store:
        yield fill(store, place)


def fill(store: S3, place: Place) -> Bucket:
    """Push the site into a bucket that everybody may read."""
    bucket = store.bucket(NAME, PREFIX)
    push(place.site, bucket.url, store.url)
    return open_bucket(store)


@pytest.fixture
def own(place: Place, open_tmp: Path) -> Iterator[Bucket]:
    """The site in a bucket that the test changes."""
    with versitygw(new_cache(open_tmp, "store")) as store:
        yield fill(store, place)


@pytest.fixture
def tap(bucket: Bucket, open_tmp: Path) -> Iterator[CountedSite]:
    """What counts the requests to the store, and what that sends."""
    with start_tap(bucket.store, open_tmp) as tap:
        yield tap


@pytest.fixture
def front(tap: CountedSite, open_tmp: Path) -> Iterator[Server]:
    """A front with an empty cache."""
    with start_front(open_tmp, tap.server.address) as front:
        yield front


# the configuration


def test_the_configuration_is_short() -> None:
    lines = TEXT.splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) < 190
    assert [line for line in lines if len(line) > 130] == []


def test_the_patterns_are_those_of_a_site(place: Place) -> None:
    snippet = (place.site / "nginx.conf").read_text()
    for start in (r"[a-z0-9]++(?:(?:[._/]", "sha256:[0-9a-f]{64}|", "[A-Za-z0-9_][A-Za-z0-9._-]"):
        ends = {text[text.index(start) :].partition(")\\z")[0].partition("/(?<")[0] for text in (snippet, TEXT)}
        assert len(ends) == 1


# what it does not do as a server does


@pytest.mark.parametrize("asked", ["0-0,5-6", f"0-9,{SLICE}-{SLICE + 9}", ",".join(f"{n}-{n}" for n in range(700))])
def test_a_request_for_several_ranges_gets_the_whole_blob(place: Place, front: Server, asked: str) -> None:
    answer = get(front, place.blob, Range=f"bytes={asked}")
    assert (answer.status, answer.body, answer.all("Accept-Ranges")) == (200, place.data, ["bytes"])


def test_an_upstream_that_was_pushed_is_known_without_a_reload(open_tmp: Path) -> None:
    images, site = open_tmp / "images", open_tmp / "site"
    plain = write_image(images / "app/1", seed=1)
    export(images, site)
    with start_bucket(site, open_tmp) as server:
        assert get(server, "/v2/app/manifests/1?ns=docker.io").body == plain.raw
        upstream = write_image(images / "docker.io/app/1", seed=2)
        export(images, site)
        update(server, site)
        assert get(server, "/v2/app/manifests/1?ns=docker.io").body == upstream.raw
        assert get(server, "/v2/app/manifests/1").body == plain.raw


# a repository has what it has


def test_a_repository_answers_only_for_blobs_that_it_has(place: Place, own: Bucket, open_tmp: Path) -> None:
    """Also when another repository has the blob, and the front has its bytes."""
    config = json.loads(place.image.raw)["config"]["digest"]
    with start_front(open_tmp, own.store.address) as front:
        for digest in (place.large, config):
            assert get(front, f"/v2/team/app/blobs/{digest}").status == 200
            check_error(get(front, f"/v2/docker.io/app/blobs/{digest}"), "GET", 404, "BLOB_UNKNOWN")
            own.delete(f"v2/team/app/blobs/{digest}")
        time.sleep(KEPT)
        for digest in (place.large, config):
            for method in ("GET", "HEAD"):
                answer = request(front.port, method, f"/v2/team/app/blobs/{digest}")
                check_error(answer, method, 404, "BLOB_UNKNOWN")
                answer = request(front.port, method, f"/v2/team/same/blobs/{digest}")
                assert answer.status == 200


def test_bytes_that_are_gone_are_absent(place: Place, own: Bucket, open_tmp: Path) -> None:
    """The bucket is damaged: a mark without bytes, and a tag without its manifest."""
    own.delete(f"blobs/{place.large}")
    own.delete(f"v2/team/app/manifests/{place.image.digest}")
    with start_front(open_tmp, own.store.address) as front:
        for method in ("GET", "HEAD"):
            check_error(request(front.port, method, place.blob), method, 404, "BLOB_UNKNOWN")
            check_error(request(front.port, method, TAG), method, 404, "MANIFEST_UNKNOWN")


def test_what_has_lost_its_metadata_is_no_absence(place: Place, own: Bucket, open_tmp: Path) -> None:
    """Some tools copy a bucket without it."""
    for key in ("v2/team/app/manifests/1", "v2/team/app/tags/list"):
        own.put(key, own.get(key).body)
    with start_front(open_tmp, own.store.address) as front:
        for path in (TAG, f"{LIST}?n=1", f"{LIST}?last=1"):
            check_error(get(front, path), "GET", 503, "UNAVAILABLE")
        assert get(front, place.manifest).status == 200


# a store that is away, or refuses


def check_unavailable(front: Server, paths: list[str]) -> None:
    """Nothing is absent, and nothing of the store is shown."""

    for path in paths:
        for method in ("GET", "HEAD"):
            check_error(request(front.port, method, path), method, 503, "UNAVAILABLE")


def test_a_store_that_is_away_makes_everything_unavailable(place: Place, open_tmp: Path) -> None:
    with start_front(open_tmp, f"{HOST}:{free_port()}") as front:
        check_unavailable(front, place.present + absent())


STATUSES = [301, 302, 303, 307, 308, 400, 401, 402, 403, 405, 406, 409, 410, 411, 413, 416, 418, 421, 423, 425]
STATUSES += [426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 507, 508, 511]


@pytest.mark.parametrize("status", STATUSES)
def test_a_store_that_refuses_makes_everything_unavailable(
    place: Place, tap: CountedSite, open_tmp: Path, status: int
) -> None:
    """A redirect is not followed."""
    target = f" {tap.server.url}$request_uri" if status < 400 else " <Error/>"
    refusing = f"default_type application/xml; location / {{ return {status}{target}; }}"
    with start_nginx(open_tmp, open_tmp, server=refusing) as store, start_front(open_tmp, store.address) as front:
        check_unavailable(front, place.present + absent())
    assert tap.sent() == []


@pytest.mark.parametrize("actions", [[], ["s3:ListBucket"]])
def test_a_bucket_that_may_not_be_read_is_unavailable(
    place: Place, own: Bucket, open_tmp: Path, actions: list[str]
) -> None:
    own.allow(*actions)
    with start_front(open_tmp, own.store.address) as front:
        check_unavailable(front, place.present)


def test_a_bucket_that_may_not_be_listed_hides_absence(place: Place, bucket: Bucket, open_tmp: Path) -> None:
    """The store then says 403 of what is not there, and so a front cannot know."""
    denying = "proxy_intercept_errors on; error_page 404 = @denied;"
    with (
        start_tap(bucket.store, open_tmp, server="location @denied { return 403; }", place=denying) as tap,
        start_front(open_tmp, tap.server.address) as front,
    ):
        for path in ("/v2/", TAG, place.manifest, place.blob, LIST, f"{LIST}?n=1", "/v2/_catalog"):
            assert get(front, path).status == 200
        check_unavailable(front, ["/v2/team/app/manifests/none", f"/v2/team/app/blobs/{NONE}", "/v2/x/tags/list"])


@pytest.mark.parametrize("wrong", ["http://store/other;", f"http://store/{NAME};", f"http://store/{NAME}/other;"])
def test_a_bucket_without_a_site_is_unavailable(place: Place, bucket: Bucket, open_tmp: Path, wrong: str) -> None:
    """No such bucket, or no such prefix in it."""
    with start_front(
        open_tmp, bucket.store.address, change=lambda text: replace(text, f"http://store/{NAME}/{PREFIX};", wrong)
    ) as front:
        check_unavailable(front, place.present + absent())
        assert b"the bucket has no site" in get(front, TAG).body


@dataclass(frozen=True, slots=True)
class Failing:
    """A tap before the store, in front of which the test makes it fail."""

    tap: CountedSite
    flag: Path


@contextlib.contextmanager
def _stopped(failing: Failing) -> Iterator[None]:
    failing.tap.stop()
    yield


@contextlib.contextmanager
def _hanging(failing: Failing) -> Iterator[None]:
    """It accepts connections, and says nothing."""
    workers = cost.processes(failing.tap.server.process.pid)
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in workers:
            os.kill(each, signal.SIGCONT)


@contextlib.contextmanager
def _broken(failing: Failing) -> Iterator[None]:
    failing.flag.touch()
    yield


def _impatient(text: str) -> str:
    return replace(text, "proxy_read_timeout 30s", "proxy_read_timeout 500ms")


def _pull(front: Server, place: Place) -> None:
    """What clients ask for."""
    for path in ("/v2/", TAG, place.manifest, place.blob, LIST, f"{LIST}?n=1"):
        assert get(front, path).status == 200
    assert request(front.port, "HEAD", place.blob).status == 200


@pytest.mark.parametrize("failure", [_stopped, _hanging, _broken])
def test_what_was_pulled_still_comes_while_the_store_fails(
    place: Place, bucket: Bucket, open_tmp: Path, failure: Callable[[Failing], contextlib.AbstractContextManager[None]]
) -> None:
    """And what was not is an error of the server, never an absence."""
    flag, cache = open_tmp / "flag", new_cache(open_tmp)
    lines = f"if (-f {flag}) {{ return 503; }}"
    with (
        start_tap(bucket.store, open_tmp, server=lines) as tap,
        start_front(open_tmp, tap.server.address, cache=cache, change=_impatient) as front,
    ):
        _pull(front, place)
        before = {path: get(front, path) for path in ("/v2/", TAG, place.manifest, place.blob, LIST, f"{LIST}?n=1")}
        with failure(Failing(tap, flag)):
            assert an_hour_later(cache / "scr-s3") > 5
            for path, answer in before.items():
                assert _content(get(front, path)) == _content(answer)
            assert request(front.port, "HEAD", place.blob).one("Content-Length") == str(len(place.data))
            assert get(front, place.blob, Range=f"bytes={SLICE + 5}-").body == place.data[SLICE + 5 :]
            check_unavailable(front, ["/v2/_catalog", "/v2/team/app/manifests/2", "/v2/x/tags/list"])


def _content(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status, answer.body, [field for field in answer.fields if field[0] != "Date"]


def test_what_was_pulled_is_closed_with_its_bucket(place: Place, own: Bucket, open_tmp: Path) -> None:
    """A store that refuses does not fail: an operator may have withdrawn the right to read."""
    with start_front(open_tmp, own.store.address) as front:
        _pull(front, place)
        own.allow()
        time.sleep(KEPT)
        check_unavailable(front, ["/v2/", TAG, place.manifest, place.blob, LIST])


def test_a_store_that_comes_back_is_asked_again(place: Place, bucket: Bucket, open_tmp: Path) -> None:
    flag = open_tmp / "flag"
    flag.touch()
    lines = f"if (-f {flag}) {{ return 500; }}"
    with (
        start_tap(bucket.store, open_tmp, server=lines) as tap,
        start_front(open_tmp, tap.server.address) as front,
    ):
        check_unavailable(front, [TAG, place.blob])
        flag.unlink()
        assert get(front, TAG).body == place.image.raw
        wait_until(lambda: get(front, place.blob).body == place.data)


def test_nothing_of_a_server_that_is_no_store_is_kept(place: Place, bucket: Bucket, open_tmp: Path) -> None:
    """A login page in front of everything, say, that says 200."""
    page = open_tmp / "page"
    page.touch()
    lines = f'if (-f {page}) {{ return 200 "log in"; }}'
    with (
        start_tap(bucket.store, open_tmp, server=lines) as tap,
        start_front(open_tmp, tap.server.address) as front,
    ):
        for path in (place.manifest, place.blob):
            assert get(front, path).body in (b"log in", b"")
        page.unlink()
        time.sleep(KEPT)
        assert get(front, place.manifest).body == place.image.raw
        assert get(front, place.blob).body == place.data


# gateways


@pytest.fixture
def gateways(bucket: Bucket, open_tmp: Path) -> Iterator[list[CountedSite]]:
    """Two gateways of a store, so slow that one can be killed while it sends."""
    lines = "location = /status { stub_status; }"
    with (
        start_tap(bucket.store, open_tmp, server=lines, place="limit_rate 4m;") as one,
        start_tap(bucket.store, open_tmp, server=lines, place="limit_rate 4m;") as two,
    ):
        yield [one, two]


def _is_sending(gateway: CountedSite) -> bool:
    writing = re.search(rb"Writing: ([0-9]+)", request(gateway.port, "GET", "/status").body)
    assert writing
    return int(writing[1]) > 1  # one is the request for the status itself


def _is_fetching(cache: Path) -> bool:
    """Whether a front has the beginning of a part of the large blob, and not the rest."""
    with contextlib.suppress(FileNotFoundError):
        return any(100_000 < each.stat().st_size < SLICE for each in kept(cache / "scr-s3-new"))
    return False


def kill_one_that_sends(gateways: list[CountedSite], cache: Path) -> None:
    """Wait until one of the gateways is in the middle of sending a part of a blob, and kill it."""
    sending: list[CountedSite] = []

    def find() -> bool:
        sending.extend(each for each in gateways if _is_fetching(cache) and _is_sending(each))
        return bool(sending)

    wait_until(find)
    for pid in [sending[0].server.process.pid, *cost.processes(sending[0].server.process.pid)]:
        os.kill(pid, signal.SIGKILL)


LOST = re.compile(
    "(?:prematurely closed connection|reset by peer[^,]*) while reading (?:response header from )?upstream"
)


def test_no_pull_is_cut_off_when_a_gateway_is_killed_while_it_sends(
    place: Place, gateways: list[CountedSite], open_tmp: Path
) -> None:
    """The other one sends what is missing."""
    cache = new_cache(open_tmp)
    with (
        start_front(open_tmp, *(each.server.address for each in gateways), cache=cache) as front,
        ThreadPoolExecutor(8) as pool,
    ):
        pulls = [pool.submit(pull_digest, front.port, place.blob) for _ in range(8)]
        kill_one_that_sends(gateways, cache)
        assert {each.result() for each in pulls} == {place.large}
        assert LOST.search(front.log)
        for path in place.present:
            assert get(front, path).status == 200


def test_no_pull_fails_when_one_of_two_stores_is_killed_under_load(open_tmp: Path) -> None:
    """Two versitygw over one directory, and images that the front does not have."""
    tags = [str(number) for number in range(60)]
    for tag in tags:
        write_image(open_tmp / "images/app" / tag, seed=int(tag), layer_size=300_000)
    export(open_tmp / "images", open_tmp / "site")
    directory = new_cache(open_tmp, "store")
    with versitygw(directory) as one, versitygw(directory) as two:
        bucket = open_bucket(one)
        push(open_tmp / "site", bucket.url, one.url)
        with start_front(open_tmp, one.address, two.address) as front, ThreadPoolExecutor(6) as pool:
            pulls = [pool.submit(pull, f"{front.url}/v2/app", tag) for tag in tags]
            wait_until(lambda: sum(each.done() for each in pulls) > 5)
            assert two.process
            two.process.kill()
            assert [each.result() for each in pulls if each.result()] == []
            assert [line for line in front.errors if two.address in line] != []


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clients.Machine]:
    clients.require("skopeo", "containerd", "ctr", "runc", "dockerd", "docker")
    etc = tmp_path_factory.mktemp("etc")
    clients.configure(etc, {})
    with (
        clients.machine(etc) as machine,
        machine.daemon("containerd", ready=("ctr", "version")),
        machine.daemon("dockerd", ready=("docker", "version")),
    ):
        yield machine


@pytest.mark.parametrize(
    "command",
    [
        ("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", "docker://{}", "dir:/run/copied"),
        ("ctr", "content", "fetch", "--plain-http", "{}"),
        ("docker", "pull", "{}"),
    ],
    ids=lambda command: command[0],
)
def test_no_client_fails_when_a_gateway_is_killed_while_it_sends(
    machine: clients.Machine, gateways: list[CountedSite], open_tmp: Path, command: tuple[str, ...]
) -> None:
    cache = new_cache(open_tmp)
    with (
        start_front(open_tmp, *(each.server.address for each in gateways), cache=cache) as front,
        ThreadPoolExecutor(1) as pool,
    ):
        name = f"{front.address}/team/app:1"
        pulled = pool.submit(machine.run, *(each.format(name) for each in command))
        kill_one_that_sends(gateways, cache)
        pulled.result()
        assert LOST.search(front.log)


# what reaches the store


KEY = re.compile(
    rf"/{NAME}/{PREFIX}/(?:blobs/sha[0-9]+:[0-9a-f]+"
    r"|v2/(?:_images\.txt|_ns/[a-z0-9._-]+|_sigstore/[a-z0-9._/-]+@sha[0-9]+=[0-9a-f]+/signature-[0-9]+"
    r"|(?:_catalog|[a-z0-9._/-]+/tags)/(?:list|_pages@[0-9a-f]{32}/(?:[\w.~-]+(?:(?:/|%2[Ff])[\w.-]+)*)?@[0-9]+)"
    r"|[a-z0-9._/-]+/(?:(?:blobs|manifests)/(?:sha[0-9]+:[0-9a-f]+|[\w.-]+)|referrers/sha[0-9]+:[0-9a-f]+/[\w.@-]+)))"
)
QUERIES = ["acl", "policy", "uploads", "versions", "list-type=2", "prefix=", "versionId=1", "torrent", "location"]
QUERIES += ["response-content-type=text/html", "X-Amz-Signature=0", "x-id=GetObject", "delete", "tagging", "select"]


def test_only_keys_reach_the_store(published: Published, open_tmp: Path) -> None:
    """Whatever is asked for: no query, no part that leads upwards, nothing encoded but a slash, GET and HEAD only."""
    with versitygw(new_cache(open_tmp, "store")) as store:
        bucket = store.bucket(NAME, PREFIX)
        push(published.site, bucket.url, store.url)
        open_bucket(store)
        with start_tap(store, open_tmp) as tap, start_front(open_tmp, tap.server.address) as front:
            assert mismatches(front.port, published) == []
            paths = [published.resolve(path) for path in (*(row.path for row in ROWS), *INSIDE, *HOSTILE, *HARMLESS)]
            known = [published.resolve(f"/v2/<app>/{each}") for each in ("manifests/1", "blobs/<layer>", "tags/list")]
            paths += [f"{path}?{query}" for path in (*known, "/v2/_catalog") for query in QUERIES]
            for path in paths:
                for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
                    request(front.port, method, path.encode("latin-1"))
            sent = tap.sent()
    assert len(sent) > 500
    assert {each.method for each in sent} == {"GET", "HEAD"}
    assert [each.path for each in sent if not KEY.fullmatch(each.path) or re.search("/[./]", each.path)] == []


def test_the_port_for_parts_passes_no_query_on(place: Place, tap: CountedSite, front: Server) -> None:
    """Programs on the host of a front can ask there."""
    configuration = (front.log_file.parent / "nginx.conf").read_text()
    port = int(configuration.partition("upstream whole")[2].partition(f"{HOST}:")[2].partition(" ")[0])
    for query in QUERIES:
        assert request(port, "GET", f"/blobs/{place.large}?{query}", {"Range": "bytes=0-9"}).body == place.data[:10]
    assert {each.path for each in tap.sent()} == {f"/{NAME}/{PREFIX}/blobs/{place.large}"}


class _Recorder(http.server.BaseHTTPRequestHandler):
    """Notes the headers of each request, but what a range says."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[set[tuple[str, str]]] = set()

    def do_GET(self) -> None:
        self.seen.update((name, "" if name == "Range" else value) for name, value in self.headers.items())
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def test_nothing_that_a_client_says_reaches_the_store(place: Place, open_tmp: Path) -> None:
    """No password, cookie or header of S3's; and the name is that of the store."""
    said = {"Cookie": "a=b", "x-amz-acl": "public-read", "X-Forwarded-For": "10.0.0.1", "Accept": "*/*"}
    said |= {"Range": "bytes=0-9", "If-None-Match": '"a"', "Accept-Encoding": "gzip", "TE": "trailers", **RIGHT}
    with http.server.ThreadingHTTPServer((HOST, 0), _Recorder) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with start_front(open_tmp, f"{HOST}:{server.server_port}") as front:
            for path in place.present:
                for method in ("GET", "HEAD"):
                    request(front.port, method, path, said, body=b"body")
        server.shutdown()
    assert _Recorder.seen == {("Host", "s3.example.com")}


HEADERS = {"server", "date", "connection", "content-type", "content-length", "cache-control", "etag", "accept-ranges"}
HEADERS |= {"docker-content-digest", "docker-distribution-api-version", "link", "oci-filters-applied"}


def test_no_header_of_the_store_is_shown(place: Place, front: Server) -> None:
    for path in place.present + absent():
        for _ in range(2):
            answer = get(front, path)
            assert {name.lower() for name, _ in answer.fields} <= HEADERS
            assert (answer.one("Server") or "").startswith("nginx/")
    whole = get(front, place.blob, Range="bytes=1-2")
    assert {name.lower() for name, _ in whole.fields} == HEADERS - {"link", "oci-filters-applied", "cache-control"} | {
        "content-range"
    }


# random requests, and dear ones


@pytest.fixture
def contents(open_tmp: Path) -> Contents:
    return publish_contents(open_tmp)


def test_a_front_adds_no_fault_to_the_answers_to_random_requests(contents: Contents, open_tmp: Path) -> None:
    """As judged beside nginx with the site. Only ranges may differ."""
    grammar, judge = Grammar(contents, "front"), Judge(contents, "nginx")
    with start_nginx(contents.site, open_tmp) as nginx, start_bucket(contents.site, open_tmp) as front:
        sites, fronts = (Farm(each, {"alone": each.port}, judge) for each in (nginx, front))
        requests = [each for each in (grammar.request() for _ in range(4000)) if each.site == "alone"]
        with sites.connections() as direct, fronts.connections() as asker:
            found = {each: asker.faults(each) for each in requests if not _has_several_ranges(each)}
            added = {str(each): faults for each, faults in found.items() if faults and not direct.faults(each)}
    assert added == {}
    assert len(found) > 1000


def _has_several_ranges(asked: Request) -> bool:
    return any(name.lower() == b"range" and b"," in value for name, value in asked.fields)


def test_no_request_is_dear_for_a_front(contents: Contents, open_tmp: Path) -> None:
    """Whatever is made to fit its regexes."""
    with start_bucket(contents.site, open_tmp) as front:
        servers = Farm(front, {"alone": front.port}, Judge(contents, "nginx"))
        hostile = cost.hostile("nginx", TEXT)
        assert hostile
        assert list(cost.dear(servers, hostile)) == []


# what a cache is for


def test_forty_pulls_of_a_blob_cost_the_store_one(place: Place, tap: CountedSite, front: Server) -> None:
    with ThreadPoolExecutor(40) as pool:
        assert Counter(pool.map(pull_digest, [front.port] * 40, [place.blob] * 40)) == {place.large: 40}
    assert len(place.data) <= tap.bytes() <= 1.1 * len(place.data)
    assert front.above_notice() == []


def test_a_blob_of_two_repositories_is_fetched_once(place: Place, tap: CountedSite, front: Server) -> None:
    for name in ("app", "same"):
        assert get(front, f"/v2/team/{name}/blobs/{place.large}").body == place.data
    assert tap.bytes() <= 1.1 * len(place.data)


def test_head_fetches_no_part_of_a_blob(place: Place, tap: CountedSite, front: Server) -> None:
    for _ in range(3):
        answer = request(front.port, "HEAD", place.blob)
        assert (answer.status, answer.one("Content-Length")) == (200, str(len(place.data)))
        assert answer.one("Accept-Ranges") == "bytes"
    assert {each.method for each in tap.sent()} == {"HEAD"}


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
    place: Place, tap: CountedSite, front: Server, asked: str, start: int, end: int | None, condition: str | None
) -> None:
    headers = {"Range": f"bytes={asked}"} | ({"If-Range": condition.format(place.large)} if condition else {})
    part = place.data[start:end]
    first = start % len(place.data)
    for _ in range(2):
        answer = request(front.port, "GET", place.blob, headers)
        assert (answer.status, answer.body) == (206, part)
        assert answer.one("Content-Range") == f"bytes {first}-{first + len(part) - 1}/{len(place.data)}"
        assert answer.all("Cache-Control") == []
        assert (answer.one("ETag"), answer.one("Docker-Content-Digest")) == (f'"{place.large}"', place.large)
        assert answer.all("Accept-Ranges") == ["bytes"]
    assert tap.bytes() < len(part) + 3 * SLICE


def test_a_part_that_is_none_leaves_nothing_locked(place: Place, front: Server) -> None:
    size = len(place.data)
    for asked in (f"{size}-", f"{size + 5 * SLICE}-", f"{size}-,{size + 5}-"):
        for _ in range(2):
            answer = get(front, place.blob, Range=f"bytes={asked}")
            assert (answer.status, answer.one("Content-Range")) == (416, f"bytes */{size}")
            assert (answer.codes, answer.all("Content-Type")) == (["SIZE_INVALID"], [JSON])
    assert get(front, place.blob).body == place.data
    assert front.above_notice() == []


@pytest.mark.parametrize("condition", [{"If-Match": '"a"'}, {"If-Match": ""}, {"If-Unmodified-Since": ""}])
def test_a_condition_that_fails_leaves_nothing_locked(place: Place, front: Server, condition: dict[str, str]) -> None:
    for path in (place.blob, place.manifest, TAG, LIST, "/v2/_catalog"):
        for _ in range(2):
            check_error(request(front.port, "GET", path, condition), "GET", 412, "UNSUPPORTED")
        assert get(front, path).status == 200
    assert front.above_notice() == []


def test_a_pull_that_was_cut_off_is_resumed(place: Place, tap: CountedSite, front: Server) -> None:
    connection = http.client.HTTPConnection(HOST, front.port, timeout=20)
    connection.request("GET", place.blob)
    begun = connection.getresponse().read(SLICE + 100)
    connection.close()
    rest = get(front, place.blob, Range=f"bytes={len(begun)}-", If_Range=f'"{place.large}"')
    assert rest.status == 206
    assert begun + rest.body == place.data
    assert tap.bytes() < len(place.data) + 2 * SLICE


def test_what_is_on_its_way_is_removed_from_the_disk(place: Place, bucket: Bucket, open_tmp: Path) -> None:
    """Parts are fetched into a directory of their own first."""
    cache = new_cache(open_tmp)
    shorter = "inactive=1s"
    with start_front(
        open_tmp, bucket.store.address, cache=cache, change=lambda text: replace(text, "inactive=10s", shorter)
    ) as front:
        assert get(front, place.blob).body == place.data
        wait_until(lambda: kept(cache / "scr-s3-new") == [])
        assert sum(each.stat().st_size for each in kept(cache / "scr-s3")) > len(place.data)


# names move


def _retag(directory: Path) -> Built:
    shutil.rmtree(directory / "images/team/app/1")
    moved = write_image(directory / "images/team/app/1", seed=7)
    write_image(directory / "images/team/app/2", seed=8)
    export(directory / "images", directory / "site")
    return moved


@pytest.fixture
def moving(open_tmp: Path) -> Built:
    image = write_image(open_tmp / "images/team/app/1", seed=6)
    export(open_tmp / "images", open_tmp / "site")
    return image


def test_a_tag_that_moved_is_seen_after_two_seconds(moving: Built, open_tmp: Path) -> None:
    """By the first request, together with its list and with the pages of that."""
    with start_bucket(open_tmp / "site", open_tmp) as front:
        assert get(front, TAG).body == moving.raw
        assert get(front, LIST).body == b'{"name":"team/app","tags":["1"]}\n'
        assert get(front, f"{LIST}?last=1").body == b'{"name":"team/app","tags":[]}\n'
        assert get(front, "/v2/team/app/manifests/2").status == 404
        moved = _retag(open_tmp)
        update(front, open_tmp / "site")
        answer = get(front, TAG)
        assert (answer.body, answer.one("Docker-Content-Digest")) == (moved.raw, moved.digest)
        assert get(front, LIST).body == b'{"name":"team/app","tags":["1","2"]}\n'
        assert get(front, f"{LIST}?last=1").body == b'{"name":"team/app","tags":["2"]}\n'
        assert get(front, "/v2/team/app/manifests/2").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_tag_that_moved_is_seen_by_the_first_request_after_an_hour(
    moving: Built, open_tmp: Path, method: str
) -> None:
    cache = new_cache(open_tmp)
    with versitygw(new_cache(open_tmp, "store")) as store:
        bucket = open_bucket(store)
        push(open_tmp / "site", bucket.url, store.url)
        with start_front(open_tmp, store.address, cache=cache) as front:
            assert request(front.port, method, TAG).one("Docker-Content-Digest") == moving.digest
            moved = _retag(open_tmp)
            push(open_tmp / "site", bucket.url, store.url)
            assert an_hour_later(cache / "scr-s3") > 0
            assert request(front.port, method, TAG).one("Docker-Content-Digest") == moved.digest


def test_a_tag_that_has_not_moved_costs_no_body(place: Place, bucket: Bucket, open_tmp: Path) -> None:
    cache = new_cache(open_tmp)
    with (
        start_tap(bucket.store, open_tmp) as tap,
        start_front(open_tmp, tap.server.address, cache=cache) as front,
    ):
        for _ in range(3):
            assert get(front, TAG).body == place.image.raw
            an_hour_later(cache / "scr-s3")
        assert [(each.method, each.status) for each in tap.sent() if each.path.endswith("manifests/1")] == [
            ("HEAD", 200),
            ("HEAD", 304),
            ("HEAD", 304),
        ]


# passwords


def _with_password(directory: Path, more: str = "") -> Callable[[str], str]:
    """Do as the comment in the example says."""
    (directory / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")

    def change(text: str) -> str:
        line = re.search(r"^ +# Basic auth:( +.*\n)", text, re.MULTILINE)
        assert line
        own = line[1].replace("/etc/nginx/htpasswd", f"{directory}/htpasswd")
        return text.replace(line[0], f"{more}{own}")

    return change


def test_every_path_needs_the_password(place: Place, tap: CountedSite, open_tmp: Path) -> None:
    """And nothing of the store is asked for without it."""
    with start_front(open_tmp, tap.server.address, change=_with_password(open_tmp)) as front:
        for path in [*place.present, *absent(), "/v2/./method", "/v2/././ask/site/api", "/v2/x/../none"]:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                for headers in ({}, WRONG, {"If-None-Match": "*"}):
                    answer = request(front.port, method, path, headers)
                    check_error(answer, method, 401, "UNAUTHORIZED")
                    assert answer.one("WWW-Authenticate")
        for path in ("/./head", "/./say/503", "/./get/object", "/%2e/ask/site/api"):
            assert get(front, path).status == 404
        assert tap.sent() == []
        for path in place.present:
            assert request(front.port, "HEAD", path, RIGHT).status == 200
            assert get(front, path, **RIGHT).status == 200
        for path in absent():
            assert get(front, path, **RIGHT).status in (400, 404)
        assert get(front, place.blob, If_None_Match=f'"{place.large}"', **RIGHT).status == 304
        check_error(request(front.port, "PUT", TAG, RIGHT), "PUT", 405, "UNSUPPORTED")


def test_signatures_are_read_without_the_password_of_all_else(place: Place, tap: CountedSite, open_tmp: Path) -> None:
    """By the recipe for servers."""
    _with_password(open_tmp)
    lines = recipe("once `registries.d` names the server").replace("/etc/nginx/htpasswd", f"{open_tmp}/htpasswd")
    with start_front(
        open_tmp, tap.server.address, change=lambda text: replace(text, "listen 8080;", f"listen 8080; {lines}")
    ) as front:
        assert get(front, place.signature).status == 200
        for path in (TAG, "/v2/_images.txt", f"/v2/_sigstore/../{TAG[4:]}", f"/v2/_sigstore/%2e%2e/{TAG[4:]}"):
            check_error(get(front, path), "GET", 401, "UNAUTHORIZED")
            assert get(front, path, **RIGHT).status == 200


@pytest.mark.parametrize("rule", ["allow 127.0.0.1; deny all; satisfy any;", "deny all; satisfy any;"])
def test_an_access_rule_instead_of_a_password_does_not_pass_over_a_step(
    place: Place, tap: CountedSite, open_tmp: Path, rule: str
) -> None:
    """The steps are access rules to nginx too: what opens a path must not open what a repository lacks."""
    with start_front(open_tmp, tap.server.address, change=_with_password(open_tmp, rule)) as front:
        headers = {} if rule.startswith("allow") else RIGHT
        for path in place.present:
            assert request(front.port, "GET", path, headers).status == 200
        check_error(
            request(front.port, "GET", f"/v2/docker.io/app/blobs/{place.large}", headers), "GET", 404, "BLOB_UNKNOWN"
        )
        for path in absent():
            assert request(front.port, "GET", path, headers).status in (400, 404)
        if not rule.startswith("allow"):
            check_error(get(front, place.blob), "GET", 401, "UNAUTHORIZED")


def test_a_denied_client_is_refused_in_json(place: Place, tap: CountedSite, open_tmp: Path) -> None:
    def change(text: str) -> str:
        return replace(text, "listen 8080;", "listen 8080; deny all;")

    with start_front(open_tmp, tap.server.address, change=change) as front:
        for path in place.present + absent():
            for method in ("GET", "HEAD", "PUT"):
                check_error(request(front.port, method, path), method, 403, "DENIED")
    assert tap.sent() == []


# what an operator does, and meets


RECIPES = (Path(__file__).parents[2] / "examples/README.md").read_text()


def recipe(said_before: str) -> str:
    """The block of lines behind the paragraph that says this, with this store's address in it."""
    (block,) = (block for before, block in pairwise(RECIPES.split("\n\n")) if said_before in before)
    return textwrap.dedent(block)


def test_the_recipe_lets_a_front_read_a_bucket(place: Place, open_tmp: Path) -> None:
    with versitygw(new_cache(open_tmp, "store")) as store:
        bucket = store.bucket(NAME, PREFIX)
        push(place.site, bucket.url, store.url)
        with start_front(open_tmp, store.address) as front:
            check_unavailable(front, [TAG])
            (open_tmp / "policy.json").write_text(recipe("everybody read who can reach the store"))
            command = recipe("`s3:ListBucket` is needed").replace("https://s3.example.com", store.url)
            subprocess.run(["sh", "-euc", command], cwd=open_tmp, env=ENVIRONMENT, check=True)
            for path in place.present:
                assert get(front, path).status == 200
            check_error(get(front, "/v2/team/app/manifests/none"), "GET", 404, "MANIFEST_UNKNOWN")


def test_the_table_holds_with_caddy_before_a_front(published: Published, open_tmp: Path) -> None:
    block = recipe("let it stand before this one")
    with start_bucket(published.site, open_tmp) as front:
        lines = replace(replace(block, "127.0.0.1:8080", front.address), "mirror.example.com {", "")
        with start_caddy(published.site, open_tmp, server=lines.rstrip().removesuffix("}")) as caddy:
            assert mismatches(caddy.port, published) == []


@pytest.mark.parametrize("name", [HOST, "other.example.com"])
def test_a_store_is_asked_by_tls_if_its_certificate_is_right(place: Place, open_tmp: Path, name: str) -> None:
    def change(text: str) -> str:
        """Do as the comment in the example says."""
        lines = re.search(r"^ +# TLS to the store: https://store/images .*\n +#(.*\n) +#(.*\n)", text, re.MULTILINE)
        assert lines
        own = replace(lines[1] + lines[2], "/etc/ssl/certs/ca-certificates.crt", str(authority))
        text = text.replace(lines[0], replace(own, "s3.example.com", name))
        return replace(text, f"http://store/{NAME}/{PREFIX};", f"https://store/{NAME}/{PREFIX};")

    authority, *_ = tls = make_certificate(open_tmp)
    directory = new_cache(open_tmp, "store")
    with versitygw(directory) as plain, versitygw(directory, tls) as store:
        fill(plain, place)
        with start_front(open_tmp, store.address, change=change) as front:
            if name == HOST:
                for path in place.present:
                    assert get(front, path).status == 200
            else:
                check_unavailable(front, place.present)


@pytest.fixture(scope="module")
def rados() -> Iterator[S3]:
    """The gateway of a real Ceph."""
    with open_directory() as directory, ceph(directory) as store:
        yield store


@pytest.mark.only_all
def test_the_table_holds_over_ceph(rados: S3, published: Published, open_tmp: Path) -> None:
    bucket = open_bucket(rados)
    push(published.site, bucket.url, rados.url)
    with start_front(open_tmp, rados.address) as front:
        assert mismatches(front.port, published) == []
        assert front.above_notice() == []
        bucket.allow()
        time.sleep(KEPT)
        check_unavailable(front, ["/v2/", "/v2/_catalog", "/v2/oci/app/manifests/1", "/v2/no/thing/manifests/1"])


@pytest.mark.only_all
def test_large_blobs_are_served_from_ceph(rados: S3, place: Place, open_tmp: Path) -> None:
    bucket = rados.bucket("large", PREFIX)
    push(place.site, bucket.url, rados.url)
    bucket.allow(*PUBLIC)
    with start_front(
        open_tmp, rados.address, change=lambda text: replace(text, f"http://store/{NAME}/", "http://store/large/")
    ) as front:
        for _ in range(2):
            assert get(front, place.blob).body == place.data
            part = get(front, place.blob, Range=f"bytes={SLICE - 9}-{SLICE + 9}", If_Range=f'"{place.large}"')
            assert (part.status, part.body) == (206, place.data[SLICE - 9 : SLICE + 10])
            for asked in (f"{len(place.data)}-", f"{5 * SLICE}-"):
                answer = get(front, place.blob, Range=f"bytes={asked}")
                assert (answer.status, answer.one("Content-Range")) == (416, f"bytes */{len(place.data)}")
            assert request(front.port, "HEAD", place.blob).one("Content-Length") == str(len(place.data))
            for path in place.present:
                assert get(front, path).status == 200
        assert front.above_notice() == []
