"""Rows about nginx, each against an nginx that serves plain files."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import trees
from tests.bench.load import client, drive
from tests.bench.measure import Line, NotMeasured, compared, cost, in_turns, megabytes, microseconds, milliseconds
from tests.bench.work import Work, need
from tests.support.servers import HOST, Server, start_nginx

_HTTP = "access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;"
_NO_GROWTH = 1.03  # what is constant, and a little noise
_FEW_IMAGES, _ASKED = 10, 2_000
_SECONDS = 10  # in which nginx starts its workers


def manifest(work: Work) -> list[Line]:
    """CPU of nginx for a manifest by tag and by digest, against a static file."""
    with _serving(work) as (site, manifest_name):
        plain = work.directory / "plain" / "manifest"
        plain.parent.mkdir(exist_ok=True)
        plain.write_bytes((site / "v2/app/manifests" / manifest_name / manifest_name).read_bytes())
        location = f'location ~ "^/plain/[a-z]+\\z" {{ root {work.directory}; }}'
        paths = {"tag": ("1", 1.5), "digest": (manifest_name.partition("@")[2], 1.3)}
        return [
            _by_cpu(work, f"a manifest by {what}", site, f"/v2/app/manifests/{name}", location, "/plain/manifest", goal)
            for what, (name, goal) in paths.items()
        ]


def lists(work: Work) -> list[Line]:
    """CPU of nginx for a whole list of tags and of repositories, against the same file served plainly."""
    with _serving(work) as (site, _):
        location = f'location ~ "^/v2/(?:app/tags/list|_catalog)\\z" {{ root {site}; }}'
        return [
            _by_cpu(work, f"a whole list of {what}", site, path, location, path, 1.3)
            for what, path in (("tags", "/v2/app/tags/list"), ("repositories", "/v2/_catalog"))
        ]


def blob(work: Work) -> list[Line]:
    """CPU of nginx for a blob, against the same file served plainly."""
    with _serving(work) as (site, manifest_name):
        document = json.loads((site / "v2/app/manifests" / manifest_name / manifest_name).read_bytes())
        path = f"/v2/app/blobs/{document['layers'][0]['digest']}"
        location = f'location ~ "^/v2/.+/blobs/[^/]+\\z" {{ root {site}; }}'
        return [_by_cpu(work, f"a blob of {megabytes(work.size.blob)}", site, path, location, path, 1.02)]


def growth(work: Work) -> list[Line]:
    """Memory and start of nginx with many images, against few."""
    need("nginx")
    many, few = ((_site(work, count), count) for count in (work.size.many, _FEW_IMAGES))
    row, other = f"nginx, {work.size.many:,} images", f"{_FEW_IMAGES} images"
    memory = in_turns(partial(_memory, work, many), partial(_memory, work, few), min(3, work.size.pairs))
    with _nginx(work, many[0]) as one, _nginx(work, few[0]) as two:
        starts = in_turns(partial(_start, one), partial(_start, two), work.size.short)
    return [
        compared(f"memory of {row}", memory[0], other, memory[1], _NO_GROWTH, unit=megabytes),
        compared(f"start of {row}, CPU", starts[0], other, starts[1], _NO_GROWTH, unit=milliseconds),
    ]


@contextmanager
def _serving(work: Work) -> Iterator[tuple[Path, str]]:
    """A site with one image, `app:1`, whose layer has the size of the blob to be served; and its manifest name."""
    need("nginx")
    images = work.directory / "served"
    if not images.exists():
        trees.write_blobs(images / "app" / "1", [work.size.blob])
    site = work.site(images)
    yield site, os.readlink(site / "v2/app/manifests/1")


def _by_cpu(work: Work, what: str, site: Path, path: str, location: str, plain_path: str, goal: float) -> Line:
    with _nginx(work, site) as ours, _nginx(work, site, server=location) as plain:
        measured, against = in_turns(
            _cpu_of_a_request(ours, path, work.size.slice),
            _cpu_of_a_request(plain, plain_path, work.size.slice),
            work.size.short,
        )
    row = f"{what}, CPU of nginx ({client(work.size.slice)})"
    return compared(row, measured, "plain file", against, goal, unit=microseconds)


def _nginx(work: Work, site: Path, server: str = "") -> Server:
    return start_nginx(site, work.directory / "nginx", server=server, http=_HTTP)


def _cpu_of_a_request(server: Server, path: str, seconds: float) -> Callable[[], float]:
    worker = _workers(server)[0]

    def measure() -> float:
        before = _cpu(worker)
        answered = drive(server.port, path, seconds)
        return (_cpu(worker) - before) / answered

    return measure


def _workers(server: Server) -> list[int]:
    """The processes that answer. The port is open before the first of them is there."""
    master = server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children")
    deadline = time.monotonic() + _SECONDS
    while not (workers := children.read_text().split()):
        if time.monotonic() > deadline:
            raise NotMeasured("nginx has no worker")
        time.sleep(0.01)
    return [int(pid) for pid in workers]


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has had, in user and system mode. proc_pid_stat(5) has them in 1/100 s only."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _site(work: Work, count: int) -> Path:
    return work.site(work.images(count), "--verify", "size")


def _memory(work: Work, served: tuple[Path, int]) -> float:
    """Bytes that nginx, master and workers, holds after many tags were asked for."""
    site, count = served
    with _nginx(work, site) as server:
        connection = http.client.HTTPConnection(HOST, server.port)
        for asked in range(_ASKED):
            number = asked * max(1, count // _ASKED) % count
            connection.request("GET", f"/v2/{trees.repository(number)}/manifests/{trees.tag(number)}")
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            answer.read()
        connection.close()
        return sum(_resident(pid) for pid in (server.process.pid, *_workers(server)))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _start(server: Server) -> float:
    """CPU of an nginx that reads the configuration of this one, and ends."""
    directory = server.log_file.parent
    own = f"pid {directory}/pid-of-test; error_log {directory}/log-of-test;"
    return cost(["nginx", "-t", "-q", "-p", directory, "-c", directory / "nginx.conf", "-g", own]).cpu
