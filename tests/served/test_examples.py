"""The whole configurations in `examples` run as they are, but for paths, ports and the name of the host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from tests.support.builders import write_image
from tests.support.http import request
from tests.support.requests_table import Published, check_image, check_lists
from tests.support.runner import run
from tests.support.servers import HASHED, HOST, PASSWORD, Server, run_caddy, run_nginx

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


def test_the_line_that_a_first_export_prints_serves_the_site(open_tmp: Path) -> None:
    built = write_image(open_tmp / "images/app/v1")
    report = run(open_tmp / "images", open_tmp / "site").stdout
    (line,) = re.findall(r"^  next     serve it; nginx: (server \{.*\})  \(", report, re.MULTILINE)
    assert line.count("listen 8080;") == 1
    (open_tmp / "nginx").mkdir(mode=0o755)
    started = run_nginx(
        open_tmp / "nginx",
        lambda port: f"events {{ }}\nhttp {{\n{line.replace('listen 8080;', f'listen {HOST}:{port};')}\n}}\n",
    )
    with started as server:
        assert request(server.port, "GET", "/v2/app/manifests/v1").body == built.raw


@pytest.mark.parametrize("start", [_nginx, _caddy])
def test_an_example_serves_the_site(
    start: Callable[[Path, Path], Server], published: Published, open_tmp: Path
) -> None:
    with start(published.site, open_tmp) as server:
        check_lists(server.port, published)
        for reference in published.images:
            check_image(server.port, published, reference)
        assert request(server.port, "GET", "/").body == (published.site / "index.html").read_bytes()


MIRROR = "mirror.example.com"


@pytest.fixture
def authority(open_tmp: Path) -> Path:
    """A directory with what the commands at the top of examples/tls/nginx.conf make."""
    directory = open_tmp / "tls"
    directory.mkdir()
    comment = [line for line in (EXAMPLES / "tls/nginx.conf").read_text().splitlines() if line.startswith("#  ")]
    script = "\n".join(line.removeprefix("#") for line in comment)
    assert script.count("openssl passwd -6)") == 1
    script = script.replace("openssl passwd -6)", f"openssl passwd -6 {PASSWORD})")
    script = re.sub("/etc/(?:ssl|nginx)/", "", script)
    subprocess.run(["sh", "-euc", script], cwd=directory, check=True, capture_output=True, text=True)
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    return directory


def _nginx_by_tls(site: Path, tmp: Path, authority: Path) -> Server:
    text = _example("tls/nginx.conf", site, "443 ssl;", f"{HOST}:PORT ssl;")
    return run_nginx(tmp, lambda port: re.sub("/etc/(?:ssl|nginx)", str(authority), text(port)))


def _caddy_by_tls(site: Path, tmp: Path, authority: Path) -> Server:
    text = _example("tls/Caddyfile", site, f"{MIRROR}:443 {{\n", f"{MIRROR}:PORT {{\n\tbind {HOST}\n")
    return run_caddy(tmp, lambda port: text(port).replace("/etc/ssl", str(authority)).replace("$2a$14$HASH", HASHED))


@pytest.mark.parametrize("start", [_nginx_by_tls, _caddy_by_tls])
def test_an_example_asks_for_a_password_by_tls_of_a_private_authority(
    start: Callable[[Path, Path, Path], Server], published: Published, open_tmp: Path, authority: Path
) -> None:
    with start(published.site, open_tmp, authority) as server:
        assert _curl(server, "--cacert", authority / "ca.pem") == "401"
        assert _curl(server, "--cacert", authority / "ca.pem", "--user", f"user:{PASSWORD}") == "200"
        assert _curl(server, "--user", f"user:{PASSWORD}") == "000"


def _curl(server: Server, *options: str | Path) -> str:
    """The status of the catalog; 000 if the server's certificate is not trusted."""
    command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *options]
    command += ["--connect-to", f"{MIRROR}:{server.port}:{HOST}:{server.port}"]
    return subprocess.run(
        [*command, f"https://{MIRROR}:{server.port}/v2/_catalog"], capture_output=True, text=True
    ).stdout


def test_the_objects_for_kubernetes_are_valid_and_their_nginx_serves_the_site(
    published: Published, open_tmp: Path
) -> None:
    objects = list(yaml.safe_load_all((EXAMPLES / "kubernetes/registry.yaml").read_text()))
    assert [each["kind"] for each in objects] == ["ConfigMap", "Deployment", "Service"]
    for each in objects:
        kubernetes_validate.validate(each, "1.34", strict=True)
    text = objects[0]["data"]["nginx.conf"].replace("/srv/site", str(published.site))
    text = re.sub(r"pid .*;|\w+_temp_path .*;", "", text)  # the tests have their own
    with run_nginx(open_tmp, lambda port: text.replace("listen 8080;", f"listen {HOST}:{port};")) as server:
        check_lists(server.port, published)
