"""The recipes of examples/README.md work as they stand there, with the real servers and clients.

The mirror has an address that is not the machine's own loopback, in a network of its own: docker trusts 127.0.0.0/8.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.builders import write_image
from tests.support.clients import Machine
from tests.support.runner import ENVIRONMENT, export
from tests.support.servers import Server, open_directory, run_caddy, start_nginx

RECIPES = (Path(__file__).parents[2] / "examples/README.md").read_text()
NAME = "mirror.example.com"
ADDRESS = "192.0.2.1"  # of those that are for documentation
WITHOUT_HOST, WITH_HOST = "library/plain", "docker.io/library/scoped"
CLONE_NEWNET = 0x40000000
_REGISTRIES = "{{json .RegistryConfig}}"
PULL = {
    "docker": ("docker", "pull"),
    "containerd": ("ctr", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d"),
    "podman": ("podman", "pull"),
    "skopeo": ("skopeo", "inspect", "--raw"),
}


def recipe(said_before: str, number: int = 0) -> str:
    """The block of lines behind the paragraph that says this; the first such paragraph, or a later one."""
    paragraphs = RECIPES.split("\n\n")
    pairs = pairwise(paragraphs)
    found = [block for before, block in pairs if said_before in before and block.startswith("    ")]
    assert len(found) > number, said_before
    return textwrap.dedent(found[number])


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    """This process, and all that it starts, in a network that has nothing but the mirror's address."""
    if os.geteuid() != 0:
        pytest.fail("a network of its own needs root", pytrace=False)
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
            yield
        finally:
            assert libc.setns(before.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A site that has an image of either kind of name, and a website."""
    with open_directory() as directory:
        write_image(directory / "images" / WITHOUT_HOST / "1")
        write_image(directory / "images" / f"{WITH_HOST}:1", seed=2)
        export(directory / "images", directory / "site")
        (directory / "www").mkdir()
        (directory / "www/index.html").write_text("the website")
        yield directory


@pytest.fixture(scope="module")
def plain(place: Path) -> Iterator[Server]:
    """nginx without TLS."""
    with start_nginx(place / "site", place, http=f"server {{ listen {ADDRESS}:8080; {_site(place)} }}") as server:
        yield server


@pytest.fixture(scope="module")
def secure(place: Path) -> Iterator[Server]:
    """Caddy with an authority of its own, by the recipe."""
    block = recipe("makes an authority of").replace(f"https://{NAME} {{", f"https://{NAME}:8443 {{")
    with _caddy(place, block) as server:
        yield server


def _site(place: Path) -> str:
    return f"root {place}/site; include {place}/site/nginx.conf;"


def _caddy(place: Path, block: str) -> Server:
    text = block.replace("/srv/site", f"{place}/site").replace("/srv/www", f"{place}/www")
    # the second site is where the server is seen to listen
    return run_caddy(
        place,
        lambda port: f"{{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}}\n{text}\n:{port} {{\n}}\n",
    )


@dataclass(frozen=True, slots=True)
class Host:
    """A host of clients; `write` is what its administrator does."""

    machine: Machine
    written: list[Path]

    def write(self, path: str, text: str) -> None:
        """Write a file below /etc."""
        file = self.machine.etc / path.removeprefix("/etc/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.written.append(file)

    def pull(self, client: str, name: str) -> str:
        """Pull an image, or fail with what the client says."""
        reference = f"docker://{name}" if client == "skopeo" else name
        return self.machine.run(*PULL[client], reference)

    def reload_docker(self, **settings: object) -> None:
        """What `systemctl reload docker` does, with these lines in `daemon.json`."""
        clients.configure_docker(self.machine.etc, mirrors=[])
        file = self.machine.etc / "docker/daemon.json"
        settled = f"docker info --format '{_REGISTRIES}'"
        before = self.machine.run("sh", "-c", settled).strip()
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        self.machine.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")
        self.machine.wait_for("sh", "-c", f"test '{before}' != \"$({settled})\"")


@pytest.fixture(scope="module")
def machine(plain: Server, secure: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Where the clients and their daemons run; it knows the mirror's name."""
    clients.require("skopeo", "podman", "containerd", "ctr", "dockerd", "docker", "runc")
    etc = tmp_path_factory.mktemp("etc")
    clients.configure(etc, {})
    with clients.machine(etc) as machine:
        machine.run("sh", "-c", f"echo {ADDRESS} {NAME} >>/etc/hosts")
        with (
            machine.daemon("containerd", ready=("ctr", "version")),
            machine.daemon("dockerd", ready=("docker", "version")),
        ):
            yield machine


@pytest.fixture
def host(machine: Machine) -> Iterator[Host]:
    """A host of clients that has no recipe's files yet."""
    host = Host(machine, [])
    yield host
    for file in host.written:
        file.unlink()
    machine.run("podman", "rmi", "--all", "--force")


def assert_works(host: Host, client: str, name: str, follow: Callable[[], None]) -> None:
    """A pull fails before the recipe is followed, and succeeds afterwards."""
    with pytest.raises(AssertionError, match="exit status"):
        host.pull(client, name)
    follow()
    host.pull(client, name)


@pytest.mark.parametrize(
    ("client", "path", "name"),
    [
        ("containerd", f"/etc/containerd/certs.d/{NAME}:8080/hosts.toml", f"{NAME}:8080/{WITHOUT_HOST}:1"),
        ("podman", "/etc/containers/registries.conf.d/mirror.conf", f"{NAME}:8080/{WITHOUT_HOST}:1"),
        ("containerd", "/etc/containerd/certs.d/docker.io/hosts.toml", f"{WITH_HOST}:1"),
        ("skopeo", "/etc/containers/registries.conf.d/docker.io.conf", f"{WITH_HOST}:1"),
    ],
)
def test_a_client_pulls_after_its_recipe_for_a_mirror_without_tls(
    host: Host, client: str, path: str, name: str
) -> None:
    assert_works(host, client, name, partial(host.write, path, recipe(f"`{path}`")))


@pytest.mark.parametrize(("number", "name"), [(0, f"{NAME}:8080/{WITHOUT_HOST}:1"), (1, "plain:1")])
def test_docker_pulls_after_its_recipe_for_a_mirror_without_tls(host: Host, number: int, name: str) -> None:
    """The second recipe is that of a mirror of Docker Hub."""
    settings = json.loads(recipe("`/etc/docker/daemon.json`", number))
    if number == 1:
        settings |= json.loads(recipe("`/etc/docker/daemon.json`", 0))
    assert_works(host, "docker", name, partial(host.reload_docker, **settings))


@pytest.mark.parametrize(
    ("client", "path"),
    [
        ("docker", f"/etc/docker/certs.d/{NAME}:8443/ca.crt"),
        ("podman", f"/etc/containers/certs.d/{NAME}:8443/ca.crt"),
        ("containerd", "/etc/containerd/mirror.crt"),
    ],
)
def test_a_client_pulls_when_it_knows_the_authority(host: Host, secure: Server, client: str, path: str) -> None:
    authority = (secure.log_file.parent / "caddy/pki/authorities/local/root.crt").read_text()

    def follow() -> None:
        assert f"{path}`" in RECIPES or f'"{path}"' in RECIPES
        host.write(path, authority)
        if client == "containerd":
            hosts = f"/etc/containerd/certs.d/{NAME}:8443/hosts.toml"
            host.write(hosts, recipe(f"`{hosts}`"))

    assert_works(host, client, f"{NAME}:8443/{WITHOUT_HOST}:1", follow)


def test_images_are_updated_by_a_second_sync(host: Host, place: Path, tmp_path: Path) -> None:
    """`skopeo sync` refuses to write what is there, and so it goes to a new directory."""
    (tmp_path / "images").mkdir()
    program = tmp_path / "bin/scr-export"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m scr_export "$@"\n')
    program.chmod(0o755)
    (tmp_path / "list.yaml").write_text(f"{NAME}:8080:\n  tls-verify: false\n  images:\n    {WITHOUT_HOST}: ['1']\n")
    run = partial(
        host.machine.run,
        "env",
        f"PATH={program.parent}:{os.environ['PATH']}",
        f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}",
        "bash",
        "-ec",
    )
    lines = recipe("exchange the two when all is there").replace("cd /srv", f"cd {tmp_path}")
    sync = next(line for line in lines.splitlines() if line.startswith("skopeo sync")).replace("images.new", "images")
    run(f"cd {tmp_path}; {sync}")
    with pytest.raises(AssertionError, match="Refusing to overwrite destination directory"):
        run(f"cd {tmp_path}; {sync}")
    run(lines)
    assert (tmp_path / f"site/v2/{NAME}_8080/{WITHOUT_HOST}/manifests/1").is_symlink()
    run(lines)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bin", "images", "list.yaml", "site"]


def test_cron_runs_an_export_and_a_check(place: Path, tmp_path: Path) -> None:
    """Nothing is mailed where nothing is wrong."""
    for line in recipe("each Sunday a check of every byte").splitlines():
        command = line.split("root", 1)[1].replace("/usr/local/bin/scr-export", f"{sys.executable} -m scr_export")
        command = command.replace("/srv/images", f"{place}/images").replace("/srv/site", f"{tmp_path}/site")
        done = subprocess.run(["sh", "-c", command], env=ENVIRONMENT, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), line


def _get(path: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "-w", " %{http_code}", f"http://{ADDRESS}:8000{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("\n", "")


def _assert_beside_a_website() -> None:
    assert _get("/index.html") == "the website 200"
    assert _get(f"/v2/{WITHOUT_HOST}/tags/list") == f'{{"name":"{WITHOUT_HOST}","tags":["1"]}} 200'
    assert _get(f"/v2/{WITHOUT_HOST}/manifests/1").endswith(" 200")
    assert "MANIFEST_UNKNOWN" in _get(f"/v2/{WITHOUT_HOST}/manifests/2")


def test_nginx_serves_a_site_beside_a_website(place: Path) -> None:
    lines = recipe("a website and another root, two lines").replace("/srv/site", f"{place}/site")
    http = f"server {{ listen {ADDRESS}:8000; root {place}/www;\n{lines} }}"
    with start_nginx(place / "site", place, http=http):
        _assert_beside_a_website()


def test_caddy_serves_a_site_beside_a_website(place: Path) -> None:
    with _caddy(place, recipe("none of its rewrites reaches").replace(NAME, f"http://{ADDRESS}:8000", 1)):
        _assert_beside_a_website()
        assert _get("/some/page") == "the website 200"
