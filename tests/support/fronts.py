"""The front of `examples/s3`, and registries of that kind: a site that was pushed into a bucket, behind a front."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.support.edges import CountedSite, new_cache, replace, start_counted
from tests.support.pushes import push
from tests.support.requests_table import SECRET
from tests.support.servers import HOST, START, Server, free_port, run_nginx
from tests.support.stores import S3, Bucket, versitygw

TEXT = (Path(__file__).parents[2] / "examples/s3/nginx.conf").read_text()
GATEWAYS = ("server 192.0.2.1:9000 fail_timeout=2s;", "server 192.0.2.2:9000 fail_timeout=2s;")
INNER = "127.0.0.1:8081"
NAME, PREFIX = "images", "lab"
KEPT = 2  # seconds for which a front keeps names at most, since nginx rounds
PUBLIC = ("s3:GetObject", "s3:ListBucket")

# What a front does not do as a server does, by the test that shows it; `test_fronts.py` shows what it does instead.
DIFFERENCES = {
    "test_several_ranges_have_the_headers_of_their_blob": "it fetches slices: such a request gets the whole blob",
    "test_many_ranges_come_in_one_answer": "the same",
    "test_an_upstream_is_added_and_removed_without_a_reload": "it knows an upstream by an object, not by a directory",
}


def open_bucket(store: S3) -> Bucket:
    """A bucket that a front can read, with objects that no front may serve."""
    bucket = store.bucket(NAME, PREFIX)
    bucket.allow(*PUBLIC)
    for path in ("secret", "nginx.conf", f"{PREFIX}/secret", f"{PREFIX}/.scr-export/secret", f"{PREFIX}/images.txt"):
        store.request("PUT", f"/{NAME}/{path}", body=SECRET)
    return bucket


def start_tap(store: S3, tmp: Path, *, server: str = "", place: str = "") -> CountedSite:
    """Run nginx between a front and a gateway; `server` and `place` are more for its server{} and its location."""
    passing = f"proxy_http_version 1.1; proxy_max_temp_file_size 0; proxy_set_header Host $http_host; {place}"
    return start_counted(tmp, f"{server} location / {{ proxy_pass {store.url}; {passing} }}")


def start_front(tmp: Path, *gateways: str, cache: Path | None = None, change: Callable[[str], str] = str) -> Server:
    """Run a front before the gateways at these addresses; `change` is what an operator does."""
    cache = cache or new_cache(tmp)
    text = replace(TEXT, "http://store/images;", f"http://store/{NAME}/{PREFIX};")
    for example, address in zip_longest(GATEWAYS, gateways):
        own = example.replace(example.split()[1], address) if address else ""
        text = replace(text, example, own)
    text = change(text.replace("/var/cache/", f"{cache}/"))

    def configuration(port: int) -> str:
        return replace(text, "listen 8080;", f"listen {HOST}:{port};").replace(INNER, f"{HOST}:{free_port()}")

    return run_nginx(tmp, configuration)


@dataclass(frozen=True, slots=True)
class Registry(Server):
    """A front, and the bucket behind it, whose store ends with it."""

    bucket: Bucket
    store: contextlib.ExitStack

    def stop(self) -> None:
        """End both."""
        Server.stop(self)
        self.store.close()


def start_bucket(site: Path, tmp: Path) -> Server:
    """Push a site into a new store, and run a front before that."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(versitygw(new_cache(tmp, "store")))
        bucket = store.bucket(NAME, PREFIX)
        push(site, bucket.url, store.url)
        open_bucket(store)
        front = start_front(tmp, store.address)
        return Registry(front.name, front.port, front.log_file, front.process, bucket, stack.pop_all())


def update(server: Server, site: Path) -> None:
    """Let a server have what the site has now: a server reads the site itself, a bucket gets it by a push."""
    if isinstance(server, Registry):
        push(site, server.bucket.url, server.bucket.store.url)
        time.sleep(KEPT)


# Everything that makes a registry of a site.
SERVED: Mapping[str, Callable[..., Server]] = {**START, "bucket": start_bucket}

# The same as parameters of tests that run each client, which take minutes for each server.
SERVED_TO_CLIENTS = [*START, pytest.param("bucket", marks=pytest.mark.only_all)]
