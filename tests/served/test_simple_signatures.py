"""podman demands signatures of a real key, by the policy that `scr-export clients` wrote. It finds them in the site."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.builders import write_index, write_runnable
from tests.support.clients import Machine
from tests.support.fronts import SERVED
from tests.support.http import request
from tests.support.runner import export, start, wait
from tests.support.servers import HASHED, HOST, PASSWORD, START, Server, open_directory, start_caddy, start_nginx

MIRROR = "mirror.example.com"
SIGNED, UNSIGNED = "docker.io/library/hello:1", "docker.io/library/hello:2"
FOREIGN, LIST, FREE = "docker.io/library/foreign:1", "docker.io/library/list:1", "quay.io/library/hello:1"
MOVED = "docker.io/library/hello:moved"


@dataclass(frozen=True, slots=True)
class Signer:
    """Someone with a key of their own."""

    home: Path
    name: str

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"GNUPGHOME": str(self.home)}

    def gpg(self, *arguments: str) -> bytes:
        command = ["gpg", "--batch", "--quiet", *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout

    def sign(self, directory: Path, reference: str, *, of: str = "") -> None:
        """Sign an image directory, as skopeo does it; `of` is the digest of a manifest that its index lists."""
        start = f"{of.partition(':')[2]}." if of else ""
        manifest, signature = directory / f"{start}manifest.json", directory / f"{start}signature-1"
        command = ["skopeo", "standalone-sign", str(manifest), reference, self.fingerprint, "--output", str(signature)]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    @property
    def fingerprint(self) -> str:
        listed = self.gpg("--with-colons", "--list-keys", self.name).decode().splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Signer]]:
    clients.require("gpg", "skopeo", "podman")
    made = {}
    for name in ("operator", "stranger"):
        home = tmp_path_factory.mktemp(name)
        home.chmod(0o700)
        made[name] = Signer(home, name)
        made[name].gpg("--passphrase", "", "--quick-generate-key", name, "default", "default", "never")
    yield made
    for signer in made.values():
        subprocess.run(["gpgconf", "--kill", "all"], env=signer.environment, check=True)


@pytest.fixture(scope="module")
def place(signers: dict[str, Signer]) -> Iterator[Path]:
    """A site with signed images, one that is not, one of another key, and one whose signature is another tag's."""
    with open_directory() as directory:
        images = directory / "images"
        for reference in (SIGNED, UNSIGNED, FOREIGN, FREE):
            write_runnable(images / reference, binary=reference.encode())
        write_runnable(images / MOVED, binary=b"moved")
        write_index(images / LIST, platforms=["amd64", "arm64"])
        signers["operator"].sign(images / SIGNED, SIGNED)
        signers["operator"].sign(images / MOVED, f"{SIGNED}.0")
        signers["stranger"].sign(images / FOREIGN, FOREIGN)
        for child in json.loads((images / LIST / "manifest.json").read_bytes())["manifests"]:
            signers["operator"].sign(images / LIST, LIST, of=child["digest"])
        signers["operator"].sign(images / LIST, LIST)
        report = export(images, directory / "site")
        assert report["signed"] == {"cosign": 0, "simple": 4}
        yield directory


@pytest.fixture(scope="module", params=SERVED)
def server(request: pytest.FixtureRequest, place: Path) -> Iterator[Server]:
    with SERVED[request.param](place / "site", place) as server:
        yield server


@pytest.fixture(scope="module")
def podman(
    server: Server, place: Path, signers: dict[str, Signer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with host(server, place, signers, tmp_path_factory.mktemp("etc")) as machine:
        yield machine


def host(
    server: Server, place: Path, signers: dict[str, Signer], etc: Path
) -> contextlib.AbstractContextManager[Machine]:
    """A host with the files in their places, as their README has it."""
    clients.configure(etc, {})
    files = etc / "written"
    done = wait(start("clients", "--url", f"http://{MIRROR}:{server.port}", place / "site", files))
    assert (done.returncode, done.stderr) == (0, "")
    shutil.copytree(files / "containers", etc / "containers", dirs_exist_ok=True)
    (etc / "containers/keys").mkdir()
    (etc / "containers/keys/docker.io.gpg").write_bytes(signers["operator"].gpg("--export", "operator"))
    (etc / "containers/hosts").write_text(f"{HOST} {MIRROR}\n")
    return clients.machine(etc)


def pull(podman: Machine, reference: str, *options: str) -> str:
    podman.run("sh", "-c", "grep -q mirror /etc/hosts || cat /etc/containers/hosts >>/etc/hosts")
    return podman.run("podman", "pull", "--quiet", *options, reference)


def refuse(podman: Machine, reference: str, *options: str) -> str:
    with pytest.raises(AssertionError) as failure:
        pull(podman, reference, *options)
    return str(failure.value)


def names(server: Server, reference: str) -> list[str]:
    """The names by which a client can pull an image."""
    return [reference, f"{MIRROR}:{server.port}/{reference}"]


@pytest.mark.parametrize("reference", [SIGNED, LIST])
def test_a_signed_image_is_pulled(podman: Machine, server: Server, reference: str) -> None:
    for name in names(server, reference):
        assert pull(podman, name)


def test_a_signed_image_is_pulled_by_its_digest(podman: Machine, server: Server, place: Path) -> None:
    digest = os.readlink(place / "site/v2/docker.io/library/hello/manifests/1").partition("@")[2]
    for name in names(server, f"docker.io/library/hello@{digest}"):
        assert pull(podman, name)


def test_an_unsigned_neighbour_is_refused(podman: Machine, server: Server) -> None:
    for name in names(server, UNSIGNED):
        assert "A signature was required, but no signature exists" in refuse(podman, name)


def test_an_image_that_another_key_signed_is_refused(podman: Machine, server: Server) -> None:
    for name in names(server, FOREIGN):
        assert "Invalid GPG signature" in refuse(podman, name)


def test_an_image_that_was_signed_under_another_name_is_refused(podman: Machine, server: Server) -> None:
    for name in names(server, MOVED):
        assert "is not accepted" in refuse(podman, name)


def test_a_registry_without_signatures_is_pulled_from_as_before(podman: Machine, server: Server) -> None:
    for name in names(server, FREE):
        assert pull(podman, name)


# behind a password

GUARDED = {
    "nginx": "auth_basic registry; auth_basic_user_file {place}/htpasswd; root {site}; include {site}/nginx.conf;",
    "caddy": "root * {site}\nbasicauth {{\nuser {hash}\n}}\nimport {site}/Caddyfile",
}
OPENED = {
    "nginx": "set $realm registry; if ($uri ~ ^/v2/_sigstore/) {{ set $realm off; }} auth_basic $realm; "
    "auth_basic_user_file {place}/htpasswd; root {site}; include {site}/nginx.conf;",
    "caddy": "root * {site}\n@guarded not path /v2/_sigstore/*\nbasicauth @guarded {{\nuser {hash}\n}}\n"
    "import {site}/Caddyfile",
}
AROUND = ("../", "%2e%2e/", "..%2f", "x/../../", "x%2f..%2f../", "./../", "/../", "..//", "?ns=/../", "x/%2e%2e/../")
CREDENTIALS = ("--creds", f"user:{PASSWORD}")


def guarded(name: str, block: str, place: Path) -> Server:
    (place / "htpasswd").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
    text = block.format(place=place, site=place / "site", hash=HASHED)
    return (start_nginx if name == "nginx" else start_caddy)(place / "site", place, server=text)


@pytest.mark.parametrize("name", START)
def test_a_password_before_signatures_fails_every_pull(
    place: Path, signers: dict[str, Signer], tmp_path: Path, name: str
) -> None:
    with guarded(name, GUARDED[name], place) as server, host(server, place, signers, tmp_path) as podman:
        for reference in (SIGNED, FREE):
            said = refuse(podman, f"{MIRROR}:{server.port}/{reference}", *CREDENTIALS)
            assert "signature" in said
            assert "401" in said


@pytest.mark.parametrize("name", START)
def test_signatures_without_a_password_serve_a_registry_with_one(
    place: Path, signers: dict[str, Signer], tmp_path: Path, name: str
) -> None:
    with guarded(name, OPENED[name], place) as server, host(server, place, signers, tmp_path) as podman:
        full = f"{MIRROR}:{server.port}/{SIGNED}"
        assert pull(podman, full, *CREDENTIALS)
        assert "A signature was required" in refuse(podman, f"{MIRROR}:{server.port}/{UNSIGNED}", *CREDENTIALS)
        assert "unauthorized" in refuse(podman, f"{MIRROR}:{server.port}/{FREE}")
        for path in AROUND:
            answer = request(server.port, "GET", f"/v2/_sigstore/{path}docker.io/library/hello/manifests/1")
            assert answer.status in (400, 401, 404)


def test_a_password_in_the_url_of_signatures_is_sent(place: Path, signers: dict[str, Signer], tmp_path: Path) -> None:
    with guarded("nginx", GUARDED["nginx"], place) as server, host(server, place, signers, tmp_path) as podman:
        written = tmp_path / "containers/registries.d/scr-export.yaml"
        written.write_text(written.read_text().replace("http://", f"http://user:{PASSWORD}@"))
        assert pull(podman, f"{MIRROR}:{server.port}/{SIGNED}", *CREDENTIALS)
        assert "A signature was required" in refuse(podman, f"{MIRROR}:{server.port}/{UNSIGNED}", *CREDENTIALS)


def test_signatures_are_read_from_a_copy_on_the_host(place: Path, signers: dict[str, Signer], tmp_path: Path) -> None:
    with guarded("nginx", GUARDED["nginx"], place) as server, host(server, place, signers, tmp_path) as podman:
        shutil.copytree(place / "site/v2/_sigstore", tmp_path / "containers/_sigstore")
        written = tmp_path / "containers/registries.d/scr-export.yaml"
        address = f"http://{MIRROR}:{server.port}/v2/_sigstore"
        assert address in written.read_text()
        written.write_text(written.read_text().replace(address, "file:///etc/containers/_sigstore"))
        assert pull(podman, f"{MIRROR}:{server.port}/{SIGNED}", *CREDENTIALS)
        assert "A signature was required" in refuse(podman, f"{MIRROR}:{server.port}/{UNSIGNED}", *CREDENTIALS)
