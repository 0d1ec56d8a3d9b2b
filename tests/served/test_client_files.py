"""Real clients pull by the names of several upstreams with what `scr-export clients` wrote, and no network.

The server has a name, plain HTTP on nginx and TLS of an authority of its own on Caddy. So nothing works by the
exceptions that clients make for 127.0.0.1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients, network
from tests.support.builders import Built, hello_elf, write_runnable
from tests.support.clients import Machine
from tests.support.runner import export, start, wait
from tests.support.servers import HOST, Server, open_directory, run_caddy, start_nginx

MIRROR = "mirror.example.com"
CONTAINERD = "github.com/containerd/containerd/v2/cmd/containerd"
CONTAINERD_2 = """
version = 3
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "native"
differ = "walking"
"""
# The same path below three registries, another image each.
IMAGES = {
    "docker.io/library/hello:1": "docker.io/library/hello/1",
    "quay.io/library/hello:1": "quay.io/library/hello:1",
    "registry.example.com:5000/library/hello:1": "registry.example.com:5000/library/hello:1",
}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A server of a site, the images by their upstream names, and the files for clients."""

    server: Server
    images: dict[str, Built]
    files: Path

    @property
    def address(self) -> str:
        return f"{MIRROR}:{self.server.port}"

    def in_site(self, name: str) -> str:
        """The full name by which the server has an image."""
        return f"{self.address}/{name.replace('.com:5000', '.com_5000')}"


def config_of(built: Built) -> str:
    return str(json.loads(built.raw)["config"]["digest"])


@pytest.fixture(scope="module")
def shut_network() -> Iterator[None]:
    for program in ("containerd", "ctr"):
        containerd_2(program)  # what is not built yet needs the network
    clients.go_program(clients.GRPCURL)
    with network.shut():
        yield


@pytest.fixture(scope="module", params=["nginx, plain", "caddy, TLS"])
def place(request: pytest.FixtureRequest, shut_network: None) -> Iterator[Place]:
    with open_directory() as directory:
        images = {}
        for name, path in IMAGES.items():
            images[name] = write_runnable(directory / "images" / path, binary=hello_elf(f"{name}\n"))
        export(directory / "images", directory / "site")
        with _secure(directory) if "TLS" in request.param else start_nginx(directory / "site", directory) as server:
            options = ["--ca-file", str(directory / "ca.crt")] if "TLS" in request.param else []
            url = f"http{'s' if options else ''}://{MIRROR}:{server.port}"
            done = wait(start("clients", "--url", url, *options, directory / "site", directory / "clients"))
            assert (done.returncode, done.stderr) == (0, "")
            yield Place(server, images, directory / "clients")


def _secure(directory: Path) -> Server:
    site, key, certificate = directory / "site", directory / "key.pem", directory / "ca.crt"
    subject = ["-subj", "/CN=mirror", "-addext", f"subjectAltName=DNS:{MIRROR}"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    key.chmod(0o644)  # Caddy is another user
    options = "{\nadmin off\nauto_https off\n}\n"
    block = f"bind {HOST}\ntls {certificate} {key}\nroot * {site}\nimport {site}/Caddyfile"
    return run_caddy(directory, lambda port: f"{options}https://{MIRROR}:{port} {{\n{block}\n}}\n")


@pytest.fixture(scope="module")
def machine(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A host with the files in their places, as their README has it."""
    etc = tmp_path_factory.mktemp("etc")
    clients.configure(etc, {})
    settings = etc / "docker/daemon.json"
    before = json.loads(settings.read_text())
    for name in ("containerd", "containers", "docker"):
        shutil.copytree(place.files / name, etc / name, dirs_exist_ok=True)
    settings.write_text(json.dumps(before | json.loads(settings.read_text())))
    with clients.machine(etc) as machine:
        machine.run("sh", "-c", f"echo {HOST} {MIRROR} >>/etc/hosts")
        yield machine


def refused(machine: Machine, *command: str) -> str:
    """What a command says that fails."""
    with pytest.raises(AssertionError) as failure:
        machine.run(*command)
    return str(failure.value)


def test_the_network_is_shut(machine: Machine) -> None:
    """Without the files, an image of an upstream cannot be pulled: so the tests below can fail."""
    said = refused(machine, "skopeo", "inspect", "docker://ghcr.io/library/hello:1")
    assert "dial tcp: lookup ghcr.io" in said


@pytest.mark.parametrize("name", IMAGES)
def test_podman_pulls_by_the_upstreams_name(machine: Machine, place: Place, name: str) -> None:
    clients.require("podman")
    pulled = machine.run("podman", "pull", "--quiet", name)
    assert f"sha256:{pulled.strip()}" == config_of(place.images[name])


@pytest.mark.parametrize("name", IMAGES)
def test_podman_pulls_by_the_full_name(machine: Machine, place: Place, name: str) -> None:
    pulled = machine.run("podman", "pull", "--quiet", place.in_site(name))
    assert f"sha256:{pulled.strip()}" == config_of(place.images[name])


def test_podman_asks_nobody_else_for_what_is_not_there(machine: Machine, place: Place) -> None:
    said = refused(machine, "podman", "pull", "--quiet", "docker.io/library/absent:1")
    assert place.address in said
    assert "dial tcp" not in said


class Containerd:
    """A containerd, asked as Kubernetes does it and by its own `ctr`."""

    def __init__(self, machine: Machine, ctr: str) -> None:
        self.machine = machine
        self.ctr = ctr
        self.grpcurl = str(clients.go_program(clients.GRPCURL))

    def _command(self, name: str) -> tuple[str, ...]:
        proto = ("-plaintext", "-unix", "-import-path", "/etc/containerd", "-proto", "cri.proto")
        where = ("/run/containerd/containerd.sock", "runtime.v1.ImageService/PullImage")
        return (self.grpcurl, *proto, "-d", json.dumps({"image": {"image": name}}), *where)

    def pull(self, name: str) -> str:
        """Pull as Kubernetes does it; the image's id."""
        return str(json.loads(self.machine.run(*self._command(name)))["imageRef"])

    def refuse(self, name: str) -> str:
        """What is said of an image that cannot be pulled."""
        return refused(self.machine, *self._command(name))

    def fetch(self, name: str) -> None:
        """Pull by `ctr`."""
        hosts = ("--hosts-dir", "/etc/containerd/certs.d")
        self.machine.run(self.ctr, "--namespace", "other", "images", "pull", *hosts, name)


def containerd_2(program: str) -> str:
    directory = clients.HERE / "containerd_program"
    return str(clients.go_program(f"{CONTAINERD.rpartition('/')[0]}/{program}", directory))


@pytest.fixture(scope="module", params=[1, 2])
def containerd(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Containerd]:
    clients.require("containerd", "ctr")
    programs = ("containerd", "ctr") if request.param == 1 else tuple(map(containerd_2, ("containerd", "ctr")))
    if request.param == 2:
        (machine.etc / "containerd/config.toml").write_text(CONTAINERD_2)
    machine.run("sh", "-c", "rm -rf /var/lib/containerd/* /run/containerd")
    with machine.daemon(programs[0], ready=(programs[1], "version")):
        told = machine.run(programs[1], "version").partition("Server:")[2]
        assert f"Version:  {request.param}." in told
        yield Containerd(machine, programs[1])


@pytest.mark.parametrize("name", IMAGES)
def test_kubernetes_pulls_by_the_upstreams_name(containerd: Containerd, place: Place, name: str) -> None:
    assert containerd.pull(name) == config_of(place.images[name])


@pytest.mark.parametrize("name", IMAGES)
def test_ctr_pulls_by_the_upstreams_name(containerd: Containerd, place: Place, name: str) -> None:
    containerd.fetch(name)


def test_kubernetes_pulls_by_the_full_name(containerd: Containerd, place: Place) -> None:
    for name in IMAGES:
        assert containerd.pull(place.in_site(name)) == config_of(place.images[name])


@pytest.mark.parametrize("name", IMAGES)
def test_containerd_says_which_upstream_it_means(containerd: Containerd, place: Place, name: str) -> None:
    """A mirror without a path: `?ns=` is all that tells three images of the same path apart."""
    host = name.partition("/")[0]
    file = containerd.machine.etc / "containerd/certs.d" / host / "hosts.toml"
    before = file.read_text()
    lines = [line for line in before.splitlines() if "override_path" not in line]
    file.write_text("\n".join(lines).replace(f"/v2/{host.replace(':', '_')}", ""))
    assert "/v2" not in file.read_text()
    try:
        assert containerd.pull(name) == config_of(place.images[name])
        digest = f"{name.rpartition(':')[0]}@{place.images[name].digest}"
        assert containerd.pull(digest) == config_of(place.images[name])
    finally:
        file.write_text(before)


def test_containerd_asks_nobody_else_for_what_is_not_there(containerd: Containerd, place: Place) -> None:
    said = containerd.refuse("docker.io/library/absent:1")
    assert "not found" in said
    assert "dial tcp" not in said


@pytest.fixture(scope="module")
def docker(machine: Machine) -> Iterator[Machine]:
    clients.require("dockerd", "docker", "containerd")
    (machine.etc / "containerd/config.toml").write_text(clients.CONTAINERD_CONFIG)
    machine.run("sh", "-c", "rm -rf /var/lib/containerd/* /run/containerd")
    dockerd = machine.daemon("dockerd", ready=("docker", "version"))
    with machine.daemon("containerd", ready=("ctr", "version")), dockerd:
        yield machine


def test_docker_pulls_from_a_mirror_of_images_without_a_registry(docker: Machine, place: Place, tmp_path: Path) -> None:
    """`--upstream docker.io` says where they are from; docker's `registry-mirrors` knows only this kind."""
    with open_directory() as directory:
        built = write_runnable(directory / "images/library/unscoped/1", binary=hello_elf("unscoped\n"))
        export(directory / "images", directory / "site")
        with start_nginx(directory / "site", directory) as server:
            url = f"http://{MIRROR}:{server.port}"
            options = ("--url", url, "--upstream", "docker.io")
            done = wait(start("clients", *options, directory / "site", tmp_path / "clients"))
            assert (done.returncode, done.stderr) == (0, "")
            settings = docker.etc / "docker/daemon.json"
            before = settings.read_text()
            settings.write_text(json.dumps(json.loads(before) | json.loads(_daemon_json(tmp_path))))
            try:
                docker.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")
                docker.wait_for("sh", "-c", f"docker info | grep {url}")
                docker.run("docker", "pull", "--quiet", "unscoped:1")
            finally:
                settings.write_text(before)
                docker.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")
            shown = docker.run("docker", "image", "inspect", "--format", "{{.Id}}", "unscoped:1")
            assert shown.strip() == config_of(built)


def _daemon_json(directory: Path) -> str:
    return (directory / "clients/docker/daemon.json").read_text()


@pytest.mark.parametrize("name", IMAGES)
def test_docker_pulls_by_the_full_name(docker: Machine, place: Place, name: str) -> None:
    docker.run("docker", "pull", "--quiet", place.in_site(name))
    shown = docker.run("docker", "image", "inspect", "--format", "{{.Id}}", place.in_site(name))
    assert shown.strip() == config_of(place.images[name])
