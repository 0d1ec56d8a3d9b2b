"""The Dockerfile's image, built from a Debian of this machine and run by podman."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.builders import write_image
from tests.support.root_filesystem import bare_debian, passed_on
from tests.support.servers import HOST, free_port, open_directory

CHECKOUT = Path(__file__).parents[2]
BASE = "docker.io/library/debian:12-slim"  # what the Dockerfile builds on
SECONDS = 60

pytestmark = [
    pytest.mark.only_all,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a root file system"),
]


class Podman:
    """podman with a store of its own, and containers on the host's network."""

    def __init__(self, directory: Path) -> None:
        self._options: list[str | Path] = ["--root", directory / "store", "--runroot", directory / "run"]
        self._options += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]

    def __call__(self, command: str, *arguments: str | Path, status: int = 0) -> str:
        """Run a command of podman. A machine of tests has no systemd to run health checks, and may not raise limits."""
        limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--no-healthcheck"] * (command == "run")
        done = subprocess.run(
            ["podman", *self._options, command, *limits, *arguments], capture_output=True, text=True, timeout=900
        )
        assert done.returncode == status, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """With the image `scr-export`."""
    clients.require("podman")
    with open_directory() as directory, bare_debian("bookworm") as debian:
        podman = Podman(directory)
        subprocess.run(["tar", "-cf", directory / "base.tar", "-C", debian.directory, "."], check=True)
        podman("import", directory / "base.tar", BASE)
        (directory / "base.tar").unlink()
        environment = [f"--env={name}={value}" for name, value in passed_on().items()]
        podman("build", "--network=host", "--format=docker", "--tag=scr-export", *environment, CHECKOUT)
        yield podman
        podman("rm", "--all", "--force", "--time=0")
        podman("rmi", "--all", "--force")


@pytest.fixture
def place(podman: Podman) -> Iterator[Path]:
    with open_directory() as place:
        write_image(place / "images/app/v1")
        (place / "site").mkdir()
        for path in (place / "site", place):
            os.chown(path, 65532, 65532)
        yield place


def run(podman: Podman, place: Path, *options: str, image_options: list[str] | None = None) -> int:
    """Start a container as the Dockerfile says, but on a free port of the host; return the port."""
    port = free_port()
    configuration = place / "registry.conf"
    text = (CHECKOUT / "examples/container/nginx.conf").read_text()
    configuration.write_text(text.replace("listen 8080;", f"listen {HOST}:{port};"))
    podman(
        "run",
        "--detach",
        "--replace",
        "--name=registry",
        "--network=host",
        "--read-only",
        "--tmpfs=/tmp",
        f"--volume={place}/images:/images:ro",
        f"--volume={place}/site:/site",
        f"--volume={configuration}:/etc/nginx/registry.conf:ro",
        *options,
        "scr-export",
        *(image_options or []),
    )
    return port


def tags(port: int, name: str) -> list[str]:
    """Wait until the registry answers for this repository."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/v2/{name}/tags/list") as answer:
                found: list[str] = json.load(answer)["tags"]
                return found
        except (OSError, urllib.error.HTTPError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_container_exports_serves_and_exports_again_with_its_options(podman: Podman, place: Path) -> None:
    port = run(podman, place, image_options=["--name-prefix", "team", "--grace", "0"])
    assert tags(port, "team/app") == ["v1"]
    write_image(place / "images/app/v2", seed=2)
    podman("exec", "registry", "export-and-serve", "again")
    assert tags(port, "team/app") == ["v1", "v2"]
    podman("stop", "--time=20", "registry")
    assert podman("inspect", "--format={{.State.ExitCode}}", "registry").strip() == "0"


def test_a_failed_export_leaves_what_was_served(podman: Podman, place: Path) -> None:
    tags(run(podman, place), "app")
    podman("stop", "--time=20", "registry")
    shutil.rmtree(place / "images/app/v1")
    (place / "images/app/v1").mkdir()
    (place / "images/app/v1/manifest.json").write_text("no manifest")
    port = run(podman, place)
    assert tags(port, "app") == ["v1"]
    assert "error: " in podman("logs", "registry")


def test_other_commands_run_in_place_of_the_server(podman: Podman, place: Path) -> None:
    tags(run(podman, place), "app")
    verified = podman("run", "--rm", f"--volume={place}/site:/site", "scr-export", "verify", "/site")
    assert "all sound" in verified
    assert "Usage" in podman("run", "--rm", "scr-export", "verify", status=2)


def test_the_health_check_tells_whether_there_is_a_site(podman: Podman, place: Path) -> None:
    """It asks port 8080 of the container; so it is run here with the port of the test."""
    port = run(podman, place)
    tags(port, "app")
    (check,) = json.loads(podman("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", "scr-export"))[-1:]
    asked = check.replace(":8080/", f":{port}/")
    podman("exec", "registry", "python3", "-c", asked)
    (place / "site/v2").rename(place / "site/none")
    podman("exec", "registry", "python3", "-c", asked, status=1)
