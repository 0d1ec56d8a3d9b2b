"""The edge of `examples/edge`, and sites behind it that count what they send."""

from __future__ import annotations

import hashlib
import http.client
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import TracebackType

from tests.support.http import Answer, request
from tests.support.servers import HOST, Server, run_nginx, start_nginx
from tests.support.waiting import wait_until

TEXT = (Path(__file__).parents[2] / "examples/edge/nginx.conf").read_text()
FIRST, SECOND = "server 192.0.2.1:8080;", "server 192.0.2.2:8080 backup;"
_LOG = "log_format sent '$request_method $request_uri $status $bytes_sent'; access_log {} sent;"


def replace(text: str, old: str, new: str) -> str:
    """The text with its one occurrence of `old` replaced."""
    assert text.count(old) == 1, f"{text.count(old)} times: {old}"
    return text.replace(old, new)


def start_edge(tmp: Path, *sites: int, cache: Path | None = None, change: Callable[[str], str] = str) -> Server:
    """Run an edge before the sites at these ports, the first of which answers; `change` is what an operator does."""
    cache = cache or new_cache(tmp)
    text = TEXT
    for example, port in zip_longest((FIRST, SECOND), sites):
        own = example.replace(example.split()[1].rstrip(";"), f"{HOST}:{port}") if port else ""
        text = replace(text, example, own)
    text = change(replace(text, "/var/cache/scr-edge", f"{cache}/edge"))
    return run_nginx(tmp, lambda port: replace(text, "listen 8080;", f"listen {HOST}:{port};"))


def new_cache(tmp: Path, name: str = "cache") -> Path:
    """A directory in which an edge can make its cache."""
    number = len(list(tmp.glob(f"{name}-*")))
    directory = tmp / f"{name}-{number}"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def kept(cache: Path) -> list[Path]:
    """The files of a cache."""
    return [path for path in cache.rglob("*") if path.is_file()]


def get(server: Server, path: str, **headers: str) -> Answer:
    """The answer to GET; an underscore of a header's name stands for a hyphen."""
    return request(server.port, "GET", path, {name.replace("_", "-"): value for name, value in headers.items()})


def pull_digest(port: int, path: str) -> str:
    """The digest of what a GET brings, read as it comes."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    hashed = hashlib.sha256()
    while data := response.read(1 << 16):
        hashed.update(data)
    connection.close()
    return f"sha256:{hashed.hexdigest()}"


def an_hour_later(cache: Path) -> int:
    """Make all that is kept an hour older, and return how many files that is.

    A file begins with a version and the time until which it is valid, each of eight bytes.
    """
    files = kept(cache)
    for path in files:
        with path.open("r+b") as file:
            version, valid = struct.unpack("=QQ", file.read(16))
            assert version == 5
            assert abs(valid - time.time()) < 2 * 365 * 86400
            file.seek(8)
            file.write(struct.pack("=Q", valid - 3600))
    return len(files)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that reached a site: its answer's status, and the bytes on the wire."""

    method: str
    path: str
    status: int
    size: int


@dataclass(frozen=True, slots=True)
class CountedSite:
    """nginx with a site, and a log of what it sent."""

    server: Server
    log: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def sent(self, path: str = "") -> list[Sent]:
        """What was sent for paths that begin so, in the order in which it was done."""
        self._wait_for_the_log()
        fields = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        every = [Sent(method, where, int(status), int(size)) for method, where, status, size in fields]
        return [each for each in every if each.path.startswith(path) and not each.path.startswith("/mark/")]

    def _wait_for_the_log(self) -> None:
        """Until it has what was answered before; nginx writes a line after the answer, and has one process here."""
        if self.server.process.poll() is not None:
            return
        path = f"/mark/{time.monotonic_ns()}"
        request(self.port, "GET", path)
        wait_until(lambda: path in self.log.read_text())

    def bytes(self, path: str = "") -> int:
        """The bytes that were sent for paths that begin so."""
        return sum(each.size for each in self.sent(path))

    def stop(self) -> None:
        """End it."""
        self.server.stop()

    def __enter__(self) -> CountedSite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_site(site: Path, tmp: Path, *, server: str = "") -> CountedSite:
    """Run nginx with a site; `server` is what an operator adds to its server{}."""
    return start_counted(tmp, f"root {site}; {server} include {site}/nginx.conf;")


def start_counted(tmp: Path, server: str) -> CountedSite:
    """Run nginx with this server{}."""
    logs = new_cache(tmp, "log")
    return CountedSite(start_nginx(tmp, tmp, server=server, http=_LOG.format(logs / "sent")), logs / "sent")
