"""Rows about what a user would run instead: Debian's docker-registry, with the same images."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import trees
from tests.bench.load import by_wrk
from tests.bench.measure import Cost, Line, by_clock, compared, in_turns, megabytes, microseconds
from tests.bench.work import Work, export, need, processors
from tests.support.servers import HOST, Server, run_docker_registry, run_nginx

_CONNECTIONS = 64
_OTHER = "docker-registry"
_SMALL_BLOB = 1_000  # bytes
_COPY = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]


class Served(NamedTuple):
    """What a server did while it was asked for one path: answers a second, and seconds of CPU for each."""

    rate: float
    cpu: float


def registry(work: Work) -> list[Line]:
    """Beside Debian's docker-registry with the same images: answers, memory, and how long it takes to fill."""
    need("nginx", "wrk", "skopeo", "docker-registry")
    images = work.directory / "beside"
    for name, size in (("small", _SMALL_BLOB), ("large", work.size.blob)):
        trees.write_blobs(images / name / "1", [size])
    site = work.site(images)
    with _nginx(work, site) as ours, _docker_registry(work) as theirs:
        for name in ("small", "large"):
            subprocess.run([*_COPY, f"dir:{images}/{name}/1", f"docker://{theirs.address}/{name}:1"], check=True)
        lines = [
            line
            for what, path in _paths(site, work.size.blob).items()
            for line in _answers(what, path, ours, theirs, work)
        ]
        lines.append(_memory(ours, theirs))
    return [*lines, _filled(work)]


def _paths(site: Path, large: int) -> dict[str, str]:
    digest = os.readlink(site / "v2/small/manifests/1").partition("@")[2]
    return {
        "a manifest by tag": "/v2/small/manifests/1",
        "a manifest by digest": f"/v2/small/manifests/{digest}",
        f"a blob of {_SMALL_BLOB / 1e3:.0f} kB": _layer(site, "small"),
        f"a blob of {megabytes(large)}": _layer(site, "large"),
    }


def _layer(site: Path, name: str) -> str:
    tag = site / f"v2/{name}/manifests/1"
    document = json.loads((tag / os.readlink(tag)).read_bytes())
    return f"/v2/{name}/blobs/{document['layers'][0]['digest']}"


def _answers(what: str, path: str, ours: Server, theirs: Server, work: Work) -> list[Line]:
    """A line for the rate, whose ratio is theirs to ours, and one for the CPU; below 1 is better in both."""
    served, others = in_turns(
        partial(_served, ours, path, work.size.slice), partial(_served, theirs, path, work.size.slice), work.size.pairs
    )
    row = f"{what}, {_CONNECTIONS} connections"
    rates = [each.rate for each in others], [each.rate for each in served]
    return [
        compared(f"{row}: answers a second of docker-registry", rates[0], "of this", rates[1], unit=_a_second),
        compared(
            f"{row}: CPU", [each.cpu for each in served], _OTHER, [each.cpu for each in others], unit=microseconds
        ),
    ]


def _served(server: Server, path: str, seconds: float) -> Served:
    whole = max(1, round(seconds))  # wrk knows whole seconds only
    before = _cpu(server)
    answered = by_wrk(server.port, path, whole, _CONNECTIONS)
    return Served(answered / whole, (_cpu(server) - before) / answered)


def _memory(ours: Server, theirs: Server) -> Line:
    resident = [[sum(map(_resident, _processes(server)))] for server in (ours, theirs)]
    return compared("memory after these requests", resident[0], _OTHER, resident[1], unit=megabytes)


def _filled(work: Work) -> Line:
    count = work.size.copied
    images = work.images(count)
    names = work.directory / "references"
    names.write_text("".join(f"{trees.repository(number)} {trees.tag(number)}\n" for number in range(count)))

    def copied() -> Cost:
        with _docker_registry(work) as empty:
            copy = f'{" ".join(_COPY)} "dir:{images}/$1/$2" "docker://{empty.address}/$1:$2"'
            command: list[str | Path] = ["xargs", "-a", names, "-L1", f"-P{processors()}", "sh", "-c", copy, "sh"]
            return work.timed(command)

    exported = work.anew(lambda site: export(images, site))
    one, other = in_turns(exported, copied, min(3, work.size.pairs))
    return by_clock(f"export of {count:,} images", one, f"skopeo copy into {_OTHER}", other)


@contextmanager
def _docker_registry(work: Work) -> Iterator[Server]:
    with run_docker_registry(work.directory / "docker-registry", work.fresh()) as server:
        yield server


@contextmanager
def _nginx(work: Work, site: Path) -> Iterator[Server]:
    """One worker for each processor, as Debian's nginx has."""
    served = f"root {site}; include {site}/nginx.conf;"
    http = f"access_log off; sendfile on; tcp_nopush on; server {{ listen {HOST}:PORT; {served} }}"
    text = f"worker_processes auto;\nevents {{ }}\nhttp {{\n{http}\n}}\n"
    with run_nginx(work.directory / "nginx", lambda port: text.replace("PORT", str(port))) as server:
        yield server


def _processes(server: Server) -> list[int]:
    """A server and its children."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _cpu(server: Server) -> float:
    """Seconds of CPU that all threads of a server have had, in user and system mode."""
    threads = [task for pid in _processes(server) for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _a_second(value: float) -> str:
    return f"{value:,.0f}/s"
