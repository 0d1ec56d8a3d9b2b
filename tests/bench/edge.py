"""What an edge spares a site: many pulls of one large blob at once, with and without edges in between.

    python3 -m tests.bench.edge [--megabytes N] [--pulls N] [--rate MEGABYTES]

`--rate` limits each connection of the site, in MB a second, as a slow network does. The sources of this checkout are
measured, so run it there. One row for each way: what the site sent, and when the first and the last byte arrived.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.support.builders import write_image
from tests.support.edges import CountedSite, replace, start_edge, start_site
from tests.support.runner import export
from tests.support.servers import HOST, open_directory

EDGES = 2


def as_it_is(text: str) -> str:
    """The example."""
    return text


def without_lock(text: str) -> str:
    """Everybody who asks for a slice fetches it."""
    return replace(text, "proxy_cache_lock on; ", "")


def default_times(text: str) -> str:
    """Those who have waited for five seconds fetch the slice themselves."""
    return replace(text, " proxy_cache_lock_age 1m; proxy_cache_lock_timeout 10m;", "")


WAYS: dict[str, Callable[[str], str] | None] = {
    "no edge": None,
    "two edges": as_it_is,
    "two edges, no lock": without_lock,
    "two edges, nginx's times for locks": default_times,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--pulls", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0)
    options = parser.parse_args()
    print(f"{'':36}{'site sent':>14}{'first byte':>14}{'whole blob':>14}   (medians)")
    with open_directory() as directory:
        path = _publish(directory, options.megabytes << 20)
        limit = f"limit_rate {options.rate * 1000:.0f}k;" if options.rate else ""
        for title, change in WAYS.items():
            with ExitStack() as stack:
                site = stack.enter_context(start_site(directory / "site", directory, server=limit))
                ports = _fronts(stack, site, directory, change)
                times = _pull_all(ports, path, options.pulls)
                first, whole = (statistics.median(each) for each in zip(*times, strict=True))
                print(f"{title:36}{site.bytes() / 1e6:11,.0f} MB{first:12.1f} s{whole:12.1f} s", flush=True)


def _publish(directory: Path, size: int) -> str:
    image = write_image(directory / "images/app/1", layers=1, layer_size=size, compression="none")
    export(directory / "images", directory / "site")
    return f"/v2/app/blobs/{max(image.blobs, key=lambda digest: len(image.blobs[digest]))}"


def _fronts(stack: ExitStack, site: CountedSite, directory: Path, change: Callable[[str], str] | None) -> list[int]:
    if change is None:
        return [site.port]
    return [stack.enter_context(start_edge(directory, site.port, change=change)).port for _ in range(EDGES)]


def _pull_all(ports: Sequence[int], path: str, pulls: int) -> list[tuple[float, float]]:
    """Seconds to the first and to the last byte of each pull; all begin at once."""
    with ThreadPoolExecutor(pulls) as pool:
        return list(pool.map(lambda number: _pull(ports[number % len(ports)], path), range(pulls)))


def _pull(port: int, path: str) -> tuple[float, float]:
    start = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=600)
    connection.request("GET", path)
    response = connection.getresponse()
    buffer = bytearray(1 << 20)
    left = int(response.headers["Content-Length"])
    left -= response.readinto(buffer)
    first = time.monotonic() - start
    while left and (count := response.readinto(buffer)):
        left -= count
    connection.close()
    assert left == 0, f"{left} bytes are missing"
    return first, time.monotonic() - start


if __name__ == "__main__":
    main()
