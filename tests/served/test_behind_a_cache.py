"""The registry behind the caches that people put in front of it: each answer stays as right as without one.

The origins log their requests, so that a test can see what a cache asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builders import Built, write_artifact, write_image
from tests.support.http import request
from tests.support.runner import export
from tests.support.servers import HOST, START, Server, run_apache, run_nginx, run_varnish, start_caddy, start_nginx

NGINX_CACHE = """
    proxy_cache_path {tmp}/cache keys_zone=c:1m;
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://{host}:{origin}; proxy_http_version 1.1;
            proxy_cache c; proxy_cache_key $request_method$uri$is_args$args; proxy_cache_methods GET;
            proxy_cache_convert_head off; proxy_cache_revalidate on; {extra}
        }}
    }}"""
# Tags are kept for revalidation, in spite of their `no-cache`; for no second without it.
NGINX_REVALIDATES = "proxy_ignore_headers Cache-Control; proxy_cache_valid 200 1s;"
VARNISH = """
    vcl 4.1;
    backend origin {{ .host = "{host}"; .port = "{origin}"; }}
    sub vcl_backend_response {{
        if (beresp.status == 200 && beresp.http.Cache-Control ~ "no-cache") {{
            set beresp.ttl = 1ms; set beresp.grace = 0s; set beresp.keep = 1h;
            return (deliver);
        }}
    }}"""


@dataclass(frozen=True, slots=True)
class Origin:
    """A server with a log of the requests that reached it."""

    server: Server
    asked: Path

    def statuses(self, path: str) -> list[int]:
        """The answers to requests for a path, in their order."""
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [int(line.split()[-1]) for line in map(_path_and_status, lines) if line.split()[0].startswith(path)]


def _path_and_status(line: str) -> str:
    """A line of either server's log as path and status."""
    if not line.startswith("{"):
        return line
    logged = json.loads(line)
    return f"{logged['request']['uri']} {logged['status']}"


def start_origin(name: str, site: Path, tmp: Path) -> Origin:
    """A server with the site, and its log."""
    directory = tmp / f"origin-{name}"
    directory.mkdir()
    directory.chmod(0o777)
    asked = directory / "asked"
    if name == "nginx":
        http = f"log_format asked '$request_uri $status'; access_log {asked} asked;"
        return Origin(start_nginx(site, tmp, http=http), asked)
    block = f"root * {site}\nlog {{\noutput file {asked}\nformat json\n}}\nimport {site}/Caddyfile"
    return Origin(start_caddy(site, tmp, server=block), asked)


Front = Callable[[int, Path], Server]


def apache(origin: int, tmp: Path) -> Server:
    """mod_cache_disk with its defaults."""
    return run_apache(tmp, f"ProxyPass / http://{HOST}:{origin}/\nCacheRoot {{directory}}\nCacheEnable disk /\n")


def varnish(origin: int, tmp: Path) -> Server:
    """Varnish that keeps tags for revalidation."""
    return run_varnish(tmp, VARNISH.format(host=HOST, origin=origin))


def nginx(origin: int, tmp: Path) -> Server:
    """An nginx that obeys the headers of the site."""
    return _nginx_cache(origin, tmp, "proxy_cache_valid any 1m;")


def nginx_revalidating(origin: int, tmp: Path) -> Server:
    """nginx that keeps tags for revalidation."""
    return _nginx_cache(origin, tmp, NGINX_REVALIDATES)


def _nginx_cache(origin: int, tmp: Path, extra: str) -> Server:
    directory = tmp / "front"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)

    def configuration(port: int) -> str:
        block = NGINX_CACHE.format(tmp=directory, host=HOST, port=port, origin=origin, extra=extra)
        return f"events {{ }}\nhttp {{\n{block}\n}}\n"

    return run_nginx(tmp, configuration)


@dataclass(frozen=True, slots=True)
class Chain:
    """A client's view of a site: a cache, and the origin behind it."""

    front: Server
    origin: Origin
    images: Path
    site: Path
    image: Built

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body, as the cache answers."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = request(self.front.port, "GET", path, sent)
        return answer.status, answer.body

    @property
    def layer(self) -> str:
        """The digest of the image's layer."""
        return str(json.loads(self.image.raw)["layers"][0]["digest"])


@pytest.fixture(params=START)
def origin_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


FRONTS: dict[str, Front] = {each.__name__: each for each in (apache, varnish, nginx, nginx_revalidating)}
AT_ONCE = ("apache", "varnish", "nginx")  # the other one is configured to keep everything for one second
REVALIDATES = ("varnish", "nginx_revalidating")  # the others do not keep what says `no-cache`


@pytest.fixture(params=FRONTS)
def chain(request: pytest.FixtureRequest, origin_name: str, open_tmp: Path) -> Iterator[Chain]:
    """A site with one image behind each cache."""
    images, site = open_tmp / "images", open_tmp / "site"
    image = write_image(images / "app/1", seed=1)
    export(images, site)
    origin = start_origin(origin_name, site, open_tmp)
    with origin.server, FRONTS[request.param](origin.server.port, open_tmp) as front:
        yield Chain(front, origin, images, site, image)


def test_an_image_is_pulled_whole_again_and_again(chain: Chain) -> None:
    for _ in range(3):
        assert chain.get("/v2/app/manifests/1") == (200, chain.image.raw)
        for digest, (_, raw) in chain.image.manifests.items():
            assert chain.get(f"/v2/app/manifests/{digest}") == (200, raw)
        for digest, data in chain.image.blobs.items():
            assert chain.get(f"/v2/app/blobs/{digest}") == (200, data)
    answer = request(chain.front.port, "GET", "/v2/app/manifests/1")
    assert answer.all("Content-Type") == [chain.image.media_type]
    assert answer.all("Docker-Content-Digest") == [chain.image.digest]


@pytest.mark.parametrize("chain", AT_ONCE, indirect=True)
def test_immutable_content_is_fetched_once(chain: Chain) -> None:
    path = f"/v2/app/blobs/{chain.layer}"
    for _ in range(4):
        assert chain.get(path) == (200, chain.image.blobs[chain.layer])
    assert chain.origin.statuses(path) == [200]


def test_a_range_beyond_the_end_does_not_spoil_the_cached_blob(chain: Chain) -> None:
    path, data = f"/v2/app/blobs/{chain.layer}", chain.image.blobs[chain.layer]
    for _ in range(2):
        chain.get(path, Range=f"bytes={len(data)}-")
        assert chain.get(path) == (200, data)
        assert chain.get(path, Range="bytes=5-9") in [(206, data[5:10]), (200, data)]
        assert chain.get(path) == (200, data)


@pytest.mark.parametrize("chain", AT_ONCE, indirect=True)
def test_a_404_is_not_cached_when_the_image_is_published(chain: Chain) -> None:
    later = write_artifact(chain.images.parent / "later", seed=2, subject=chain.image)
    layer = json.loads(later.raw)["layers"][0]["digest"]
    paths = ["/v2/app/manifests/2", f"/v2/app/manifests/{later.digest}", f"/v2/app/blobs/{layer}"]
    paths += ["/v2/new/manifests/1", "/v2/new/tags/list", "/v2/new/tags/list?n=1"]
    lists = ["/v2/app/tags/list", "/v2/_catalog", f"/v2/app/referrers/{chain.image.digest}"]
    before = {path: chain.get(path) for path in lists}
    assert {chain.get(path)[0] for path in paths for _ in range(2)} == {404}
    shutil.copytree(chain.images.parent / "later", chain.images / "app/2")
    shutil.copytree(chain.images.parent / "later", chain.images / "new/1")
    export(chain.images, chain.site)
    assert {chain.get(path)[0] for path in paths} == {200}
    assert [path for path in lists if chain.get(path) == before[path]] == []


@pytest.mark.parametrize("chain", AT_ONCE, indirect=True)
def test_a_moved_tag_is_seen_at_once(chain: Chain) -> None:
    assert chain.get("/v2/app/manifests/1") == (200, chain.image.raw)
    shutil.rmtree(chain.images / "app/1")
    moved = write_image(chain.images / "app/1", seed=2)
    export(chain.images, chain.site)
    assert chain.get("/v2/app/manifests/1") == (200, moved.raw)


@pytest.mark.parametrize("chain", REVALIDATES, indirect=True)
def test_a_cached_tag_is_revalidated_by_its_digest(chain: Chain) -> None:
    """What `no-cache` costs a cache is a request without a body; and then a tag that moves is seen."""
    path = "/v2/app/manifests/1"
    _wait_until_asked(chain, path, count=3)
    assert chain.origin.statuses(path)[:3] == [200, 304, 304]
    assert chain.get(path) == (200, chain.image.raw)
    shutil.rmtree(chain.images / "app/1")
    moved = write_image(chain.images / "app/1", seed=2)
    export(chain.images, chain.site)
    _wait_until_asked(chain, path, count=len(chain.origin.statuses(path)) + 1)
    assert chain.get(path) == (200, moved.raw)


def _wait_until_asked(chain: Chain, path: str, count: int) -> None:
    """Ask until the cache has asked the origin so often."""
    while len(chain.origin.statuses(path)) < count:
        assert chain.get(path)[0] == 200


# slices


def test_slices_of_two_mirrors_make_one_blob(open_tmp: Path) -> None:
    """A cache holds parts of a blob from both, and another time stamp, link count or server makes no difference."""
    images, site, copy = open_tmp / "images", open_tmp / "site", open_tmp / "copy"
    image = write_image(images / "app/1", seed=1)
    export(images, site)
    shutil.copytree(site, copy, symlinks=True, copy_function=shutil.copyfile)
    layer = json.loads(image.raw)["layers"][0]["digest"]
    path, data = f"/v2/app/blobs/{layer}", image.blobs[layer]
    one, two = start_origin("nginx", site, open_tmp), start_origin("caddy", copy, open_tmp)
    (open_tmp / "front").mkdir()
    (open_tmp / "front").chmod(0o777)

    def configuration(port: int) -> str:
        mirrors = "".join(f"server {HOST}:{each.server.port};" for each in (one, two))
        return f"""events {{ }}
http {{
    upstream mirrors {{ {mirrors} }}
    proxy_cache_path {open_tmp}/front keys_zone=c:1m;
    server {{
        listen {HOST}:{port};
        location / {{
            slice 1k; proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_pass http://mirrors;
            proxy_cache c; proxy_cache_key $uri$slice_range; proxy_cache_valid 200 206 1h;
        }}
    }}
}}
"""

    with one.server, two.server, run_nginx(open_tmp, configuration) as front:
        for _ in range(2):
            answer = request(front.port, "GET", path)
            assert (answer.status, answer.body, answer.all("ETag")) == (200, data, [f'"{layer}"'])
        part = request(front.port, "GET", path, {"Range": "bytes=1000-4000"})
        assert (part.status, part.body) == (206, data[1000:4001])
        assert front.errors == []
        slices = -(-len(data) // 1024)
        asked = [len(each.statuses(path)) for each in (one, two)]
        assert sum(asked) == slices
        assert min(asked) >= slices // 2 - 1
