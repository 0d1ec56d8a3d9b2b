"""The recipes of `examples/README.md` for a disk, and for several sites in one server, run as they are written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.mirroring import verify
from tests.support.mounts import mounted, needs_root
from tests.support.pulls import get, pull
from tests.support.runner import assert_whole, export, registry
from tests.support.servers import HOST, Server, run_caddy, run_nginx

EXAMPLES = Path(__file__).parents[2] / "examples"


def commands(heading: str) -> list[str]:
    """The indented lines of a section of the recipes."""
    section = (EXAMPLES / "README.md").read_text().split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def run_recipe(lines: list[str], directory: Path, under: list[str], places: dict[str, Path]) -> None:
    script = "set -eu\n" + "\n".join(lines)
    for name, place in places.items():
        script = script.replace(name, str(place))
    subprocess.run([*under, "sh", "-c", script], cwd=directory, check=True, umask=0o077)


@needs_root
def test_a_site_from_a_tar_file_can_be_read_by_a_web_server(images: Path, site: Path, open_tmp: Path) -> None:
    """Also if the user who unpacks it has a umask that excludes others."""
    write_image(images / "app/1")
    export(images, site)
    shutil.copytree(site, open_tmp / "site", symlinks=True)
    (open_tmp / "srv/site").mkdir(parents=True)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for path in (open_tmp, open_tmp / "srv", open_tmp / "srv/site"):
        os.chown(path, 65534, 65534)
    shutil.rmtree(open_tmp / "site/.scr-export")
    run_recipe(commands("On a disk"), open_tmp, nobody, {"/srv": open_tmp / "srv"})
    there = open_tmp / "srv/site"
    assert registry(there) == registry(site)
    assert verify(there) == ""
    assert_whole(there)
    assert os.listdir(open_tmp / "srv") == ["site"]


def start_nginx(tmp: Path, place: Callable[[str], str]) -> Server:
    text = place((EXAMPLES / "several/nginx.conf").read_text())
    return run_nginx(tmp, lambda port: text.replace("listen 8080;", f"listen {HOST}:{port};"))


def start_caddy(tmp: Path, place: Callable[[str], str]) -> Server:
    text = place((EXAMPLES / "several/Caddyfile").read_text())
    return run_caddy(tmp, lambda port: text.replace("\n:8080 {\n", f"\nhttp://:{port} {{\n\tbind {HOST}\n"))


def make_disk(images: Path, tmp: Path, number: str) -> Path:
    """A disk with the site of one delivery."""
    write_image(images / number / "app/1", seed=int(number))
    write_image(images / number / "team/app/1", seed=int(number) + 8)
    content, disk = tmp / f"site-{number}", tmp / f"disk-{number}"
    export(images / number, content, f"--name-prefix=prod-{number}.0")
    with disk.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", content, disk], check=True)
    return disk


@needs_root
@pytest.mark.parametrize("start", [start_nginx, start_caddy])
def test_sites_on_two_disks_come_and_go_while_one_server_runs(
    images: Path, tmp_path: Path, open_tmp: Path, start: Callable[[Path, Callable[[str], str]], Server]
) -> None:
    disks = [make_disk(images, tmp_path, number) for number in "12"]
    places = {"/mnt/a": open_tmp / "a", "/mnt/b": open_tmp / "b", "/srv/none": open_tmp / "none"}
    (open_tmp / "a").mkdir()
    (open_tmp / "b").mkdir()

    def place(text: str) -> str:
        for name, path in places.items():
            assert name in text
            text = text.replace(name, str(path))
        return text

    with mounted("-o", "loop,ro", disks[0], open_tmp / "a"):
        run_recipe([line for line in commands("Several sites in one server") if "/srv" in line], open_tmp, [], places)

    with start(open_tmp / "server", place) as server:

        def check(*served: str) -> None:
            """The sites with these numbers are served, and no other."""
            for number in "12":
                for name in ("app", "team/app"):
                    repository = f"{server.url}/v2/prod-{number}.0/{name}"
                    if number in served:
                        assert pull(repository, "1") is None
                        assert get(f"{repository}/manifests/1")[0] == 200
                        assert get(f"{repository}/tags/list?n=1")[0] == 200
                    else:
                        assert get(f"{repository}/manifests/1")[0] == 503
                        assert get(f"{repository}/tags/list")[0] == 503
            assert get(f"{server.url}/v2/")[0] == 200
            for query in ("", "?n=1", "?n=1000"):
                assert get(f"{server.url}/v2/_catalog{query}") == (200, b'{"repositories":[]}\n')
            assert get(f"{server.url}/v2/other/manifests/1")[0] == 404
            assert get(f"{server.url}/v2/prod-1x0/app/manifests/1")[0] == 404

        check()
        with mounted("-o", "loop,ro", disks[0], open_tmp / "a"):
            check("1")
            with mounted("-o", "loop,ro", disks[1], open_tmp / "b"):
                check("1", "2")
            check("1")
        with mounted("-o", "loop,ro", disks[1], open_tmp / "b"):
            check("2")
        check()
