"""The whole server configurations in `examples` run as they are, but for the site's path and the port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.requests_table import Published, check_image, check_lists
from tests.support.servers import HOST, Server, run_caddy, run_nginx

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name: str, site: Path, listen: str, instead: str) -> Callable[[int], str]:
    text = (EXAMPLES / name).read_text()
    assert "/srv/site" in text
    assert text.count(listen) == 1
    text = text.replace("/srv/site", str(site))
    return lambda port: text.replace(listen, instead.replace("PORT", str(port)))


def _nginx(site: Path, tmp: Path) -> Server:
    return run_nginx(tmp, _example("nginx.conf", site, "listen 8080;", f"listen {HOST}:PORT;"))


def _caddy(site: Path, tmp: Path) -> Server:
    return run_caddy(tmp, _example("caddy/Caddyfile", site, "\n:8080 {\n", f"\n:PORT {{\n\tbind {HOST}\n"))


@pytest.mark.parametrize("start", [_nginx, _caddy])
def test_an_example_serves_the_site(
    start: Callable[[Path, Path], Server], published: Published, open_tmp: Path
) -> None:
    with start(published.site, open_tmp) as server:
        check_lists(server.port, published)
        for reference in published.images:
            check_image(server.port, published, reference)
