"""Real clients pull every kind of image from the real servers, and a container runs from what was pulled.

A client's store is emptied after each test, so that the next one has to fetch everything again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import builders, clients
from tests.support.builders import ARCHITECTURE, Built, hello_elf
from tests.support.clients import CGROUP, Machine
from tests.support.fronts import SERVED, SERVED_TO_CLIENTS
from tests.support.runner import export

Json = dict[str, Any]

BOTH = ("amd64", "arm64")
HUB = "library/hello:latest"
INDEX = "index/hello:1.0"
RUNNABLE: dict[str, Json] = {
    "docker/hello:1.0": {"docker": True},
    "oci/hello:1.0": {},
    "list/hello:1.0": {"docker": True, "platforms": BOTH},
    INDEX: {"platforms": BOTH},
    "zstd/hello:1.0": {"compression": "zstd"},
    "a/b-c/d.e/f_g/h__i:V1.0_rc-2.json": {},
    HUB: {},
}
PULLABLE = {
    "docker:1": partial(builders.write_image, seed=1, docker=True, layers=9, layer_size=300_000),
    "oci:1": partial(builders.write_image, seed=2, layers=9, layer_size=300_000),
    "oci:2": partial(builders.write_image, seed=3, compression="none", media_type_field=False),
}
COPYABLE = {
    "oci:10": partial(builders.write_index, seed=4, platforms=(*BOTH, "arm/v7"), compression="zstd"),
    "charts/hello:1.0.0": partial(builders.write_artifact, seed=5),
}
RECENT = {"sha512:1": partial(builders.write_image, seed=6, algorithm="sha512", prefixed=True)}
# what Debian 12's clients cannot do: skopeo 1.9 and containerd 1.6 know sha256 alone, docker 20.10 no zstd
DOCKER = [each for each, options in RUNNABLE.items() if "compression" not in options]

by_tag_and_digest = pytest.mark.parametrize("by", ["tag", "digest"])
every = pytest.mark.parametrize("image", [*RUNNABLE, *PULLABLE, *COPYABLE], indirect=True)
every_and_recent = pytest.mark.parametrize("image", [*RUNNABLE, *PULLABLE, *COPYABLE, *RECENT], indirect=True)
runnable = pytest.mark.parametrize("image", RUNNABLE, indirect=True)


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the site, and the directory that it was made from."""

    reference: str
    directory: Path
    built: Built

    def named(self, registry: str, by: str) -> str:
        """The name that a client gives it, by `tag` or by `digest`."""
        name = f"{registry}/{self.reference}"
        return name if by == "tag" else f"{name.rpartition(':')[0]}@{self.built.digest}"

    @property
    def greeting(self) -> str:
        """What it writes when it runs here."""
        return greeting(self.reference, ARCHITECTURE)

    @property
    def manifest(self) -> bytes:
        """The manifest that is for this machine's platform."""
        for child in json.loads(self.built.raw).get("manifests", []):
            if child["platform"]["architecture"] == ARCHITECTURE:
                return self.built.manifests[child["digest"]][1]
        return self.built.raw

    @property
    def config(self) -> str:
        """The digest of that manifest's config, which is the image's id in most clients."""
        return str(json.loads(self.manifest)["config"]["digest"])


def greeting(reference: str, platform: str) -> str:
    return f"{reference} runs on {platform}\n"


def write_hello(directory: Path, reference: str, platforms: tuple[str, ...] = (), **options: Any) -> Built:
    """Write an image that says its own name, and its platform."""
    programs = {each: hello_elf(greeting(reference, each), architecture=each) for each in platforms}
    binary = programs or hello_elf(greeting(reference, ARCHITECTURE))
    return builders.write_runnable(directory, binary=binary, **options)


def contents(directory: Path) -> dict[str, bytes]:
    """The files of an image directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Where images and site lie: a web server can read there."""
    with tempfile.TemporaryDirectory(prefix="scr-export-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def images(place: Path) -> dict[str, Image]:
    """The images of the site by their references."""
    hellos = {each: partial(write_hello, reference=each, **options) for each, options in RUNNABLE.items()}
    written = {}
    for reference, write in {**hellos, **PULLABLE, **COPYABLE, **RECENT}.items():
        directory = place / "images" / reference.replace(":", "/")
        written[reference] = Image(reference, directory, write(directory))
    return written


@pytest.fixture
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    """The image under test."""
    return images[request.param]


@pytest.fixture(scope="session")
def registries(images: dict[str, Image], place: Path) -> Iterator[dict[str, str]]:
    """The address of each server, all of them with the same site."""
    export(place / "images", place / "site")
    with ExitStack() as stack:
        yield {name: stack.enter_context(start(place / "site", place)).address for name, start in SERVED.items()}


@pytest.fixture(params=SERVED_TO_CLIENTS)
def server(request: pytest.FixtureRequest) -> str:
    """The server under test."""
    return str(request.param)


@pytest.fixture
def registry(server: str, registries: dict[str, str]) -> str:
    """The address of the server under test."""
    return registries[server]


@pytest.fixture
def elsewhere(server: str) -> str:
    """A registry that is out of reach, and that the server under test stands in for."""
    return f"{server}.example.com"


@pytest.fixture(scope="session")
def machine(registries: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Where the clients run."""
    etc = tmp_path_factory.mktemp("etc")
    clients.configure(etc, {f"{server}.example.com": address for server, address in registries.items()})
    with clients.machine(etc) as machine:
        yield machine


# skopeo


@pytest.fixture
def skopeo(machine: Machine) -> Machine:
    clients.require("skopeo")
    return machine


@every
@by_tag_and_digest
def test_skopeo_copies_every_byte(skopeo: Machine, registry: str, image: Image, by: str, tmp_path: Path) -> None:
    """What `skopeo copy --all` brings is what the site was made from, file by file."""
    source = f"docker://{image.named(registry, by)}"
    skopeo.run("skopeo", "copy", "--all", "--preserve-digests", source, f"dir:{tmp_path}")
    assert contents(tmp_path) == contents(image.directory)


@pytest.mark.parametrize("image", ["list/hello:1.0", INDEX, "oci:10"], indirect=True)
def test_skopeo_finds_its_platform(skopeo: Machine, registry: str, image: Image, tmp_path: Path) -> None:
    """Without `--all`, the manifest for this platform is copied from an index."""
    skopeo.run("skopeo", "copy", f"docker://{registry}/{image.reference}", f"dir:{tmp_path}")
    assert (tmp_path / "manifest.json").read_bytes() == image.manifest


@every_and_recent
def test_skopeo_inspects_an_image(skopeo: Machine, registry: str, image: Image) -> None:
    """`skopeo inspect --raw` shows the manifest's own bytes."""
    raw = skopeo.run("skopeo", "inspect", "--raw", f"docker://{registry}/{image.reference}")
    assert raw.encode() == image.built.raw


@pytest.mark.parametrize("image", ["oci:1"], indirect=True)
def test_skopeo_lists_tags(skopeo: Machine, registry: str, image: Image) -> None:
    """`skopeo list-tags` shows a repository's tags, and so does `skopeo inspect` beside the digest."""
    tags = json.loads(skopeo.run("skopeo", "list-tags", f"docker://{registry}/oci"))["Tags"]
    assert sorted(tags) == ["1", "10", "2"]
    facts = json.loads(skopeo.run("skopeo", "inspect", f"docker://{registry}/{image.reference}"))
    assert (facts["Digest"], facts["RepoTags"]) == (image.built.digest, tags)


def test_skopeo_syncs_a_repository(skopeo: Machine, registry: str, images: dict[str, Image], tmp_path: Path) -> None:
    """`skopeo sync` finds all tags of a repository and brings what the site was made from, file by file."""
    source = ("--src", "docker", f"{registry}/oci")
    skopeo.run("skopeo", "sync", "--all", *source, "--dest", "dir", str(tmp_path))
    synced = {path.name: contents(path) for path in tmp_path.iterdir()}
    assert synced == {each: contents(images[each].directory) for each in ("oci:1", "oci:2", "oci:10")}


# podman


@pytest.fixture
def podman(machine: Machine) -> Iterator[Machine]:
    clients.require("podman", "conmon", "runc")
    yield machine
    machine.run("podman", "rmi", "--all", "--force")


def podman_run(podman: Machine, name: str) -> str:
    return podman.run("podman", "run", "--rm", "--cgroup-parent", f"/{CGROUP}", name)


@runnable
@by_tag_and_digest
def test_podman_runs_an_image(podman: Machine, registry: str, image: Image, by: str) -> None:
    """A container of podman's runs from an image that it pulled, which it knows by its digest."""
    name = image.named(registry, by)
    assert podman_run(podman, name) == image.greeting
    known = json.loads(podman.run("podman", "image", "inspect", "--format", "{{json .RepoDigests}}", name))
    assert image.named(registry, "digest") in known


@pytest.mark.parametrize("image", PULLABLE, indirect=True)
def test_podman_pulls_an_image(podman: Machine, registry: str, image: Image) -> None:
    """Images of many layers, of large ones and of ones that are not compressed are pulled and unpacked."""
    pulled = podman.run("podman", "pull", "--quiet", f"{registry}/{image.reference}")
    assert pulled == f"{image.config.removeprefix('sha256:')}\n"


@pytest.mark.parametrize("image", [INDEX], indirect=True)
def test_podman_pulls_through_a_mirror(podman: Machine, elsewhere: str, image: Image) -> None:
    """With a mirror in `registries.conf`, an image has the name that it has everywhere."""
    assert podman_run(podman, f"{elsewhere}/{image.reference}") == image.greeting


def test_podman_searches_the_catalog(podman: Machine, registry: str, images: dict[str, Image]) -> None:
    """`podman search` shows the catalog, and with `--list-tags` a repository's tags."""
    found = podman.run("podman", "search", "--format", "{{.Name}}", f"{registry}/").split()
    assert set(found) == {f"{registry}/{each.rpartition(':')[0]}" for each in images}
    listed = json.loads(podman.run("podman", "search", "--list-tags", "--format", "json", f"{registry}/oci"))
    assert [sorted(each["Tags"]) for each in listed] == [["1", "10", "2"]]


# containerd


@pytest.fixture(scope="session")
def containerd(machine: Machine) -> Iterator[Machine]:
    clients.require("containerd", "ctr", "runc")
    with machine.daemon("containerd", ready=("ctr", "version")):
        yield machine


@pytest.fixture
def ctr(containerd: Machine) -> Iterator[Machine]:
    yield containerd
    for namespace in ("default", "k8s.io"):
        images = ("ctr", "--namespace", namespace, "images")
        for name in containerd.run(*images, "ls", "--quiet").split():
            containerd.run(*images, "rm", "--sync", name)
    assert containerd.run("ctr", "content", "ls", "--quiet") == ""


def ctr_run(ctr: Machine, name: str) -> str:
    return ctr.run("ctr", "run", "--rm", "--cgroup", f"/{CGROUP}/hello", name, "hello")


@runnable
@by_tag_and_digest
def test_containerd_runs_an_image(ctr: Machine, registry: str, image: Image, by: str) -> None:
    """A container of containerd's runs from an image that it pulled."""
    name = image.named(registry, by)
    ctr.run("ctr", "images", "pull", "--plain-http", name)
    assert ctr_run(ctr, name) == image.greeting


@every
def test_containerd_fetches_everything(ctr: Machine, registry: str, image: Image) -> None:
    """All manifests and blobs of all platforms arrive in the content store, which checks their digests."""
    ctr.run("ctr", "content", "fetch", "--plain-http", "--all-platforms", f"{registry}/{image.reference}")
    stored = ctr.run("ctr", "content", "ls", "--quiet").split()
    assert set(stored) == image.built.manifests.keys() | image.built.blobs.keys()


@pytest.mark.parametrize("image", [INDEX], indirect=True)
def test_containerd_pulls_through_a_mirror(ctr: Machine, elsewhere: str, image: Image) -> None:
    """With a mirror in `hosts.toml`, an image has the name that it has everywhere."""
    name = f"{elsewhere}/{image.reference}"
    ctr.run("ctr", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", name)
    assert ctr_run(ctr, name) == image.greeting


# containerd, spoken to as Kubernetes does


class Kubelet:
    """What asks containerd's image service."""

    def __init__(self, machine: Machine, grpcurl: Path) -> None:
        self.machine = machine
        self.command = (
            str(grpcurl),
            "-plaintext",
            "-unix",
            "-import-path",
            "/etc/containerd",
            "-proto",
            "cri.proto",
        )

    def ask(self, method: str, request: Json) -> Json:
        """The answer to a request of the Container Runtime Interface."""
        where = ("/run/containerd/containerd.sock", f"runtime.v1.ImageService/{method}")
        answer: Json = json.loads(self.machine.run(*self.command, "-d", json.dumps(request), *where))
        return answer


@pytest.fixture
def kubelet(ctr: Machine) -> Kubelet:
    return Kubelet(ctr, clients.go_program(clients.GRPCURL))


@runnable
@by_tag_and_digest
def test_kubernetes_pulls_an_image(kubelet: Kubelet, registry: str, image: Image, by: str) -> None:
    """After PullImage, ImageStatus and ListImages know the image by its id, its name and its digest."""
    name = image.named(registry, by)
    request = {"image": {"image": name}}
    assert kubelet.ask("PullImage", request) == {"imageRef": image.config}
    status = kubelet.ask("ImageStatus", request)["image"]
    names = {"repoTags": [name]} if by == "tag" else {}
    assert status == {"id": image.config, "repoDigests": [image.named(registry, "digest")], **names}
    assert kubelet.ask("ListImages", {}) == {"images": [status]}


@pytest.mark.parametrize("image", [INDEX], indirect=True)
def test_kubernetes_pulls_through_a_mirror(kubelet: Kubelet, elsewhere: str, image: Image) -> None:
    """With a mirror in the `hosts.toml` of containerd's `config_path`, names are what they are everywhere."""
    request = {"image": {"image": f"{elsewhere}/{image.reference}"}}
    assert kubelet.ask("PullImage", request) == {"imageRef": image.config}


# docker


@pytest.fixture(scope="session")
def dockerd(containerd: Machine) -> Iterator[Machine]:
    clients.require("dockerd", "docker")
    with containerd.daemon("dockerd", ready=("docker", "version")):
        yield containerd


@pytest.fixture
def docker(dockerd: Machine) -> Iterator[Machine]:
    yield dockerd
    dockerd.run("docker", "image", "prune", "--all", "--force")


def docker_run(docker: Machine, name: str) -> str:
    return docker.run("docker", "run", "--rm", "--network", "none", name)


@pytest.mark.parametrize("image", DOCKER, indirect=True)
@by_tag_and_digest
def test_docker_runs_an_image(docker: Machine, registry: str, image: Image, by: str) -> None:
    """A container of docker's runs from an image that it pulled, which it knows by its digest."""
    name = image.named(registry, by)
    assert docker_run(docker, name) == image.greeting
    known = json.loads(docker.run("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", name))
    assert known == [image.named(registry, "digest")]


@pytest.mark.parametrize("image", PULLABLE, indirect=True)
def test_docker_pulls_an_image(docker: Machine, registry: str, image: Image) -> None:
    """Images of many layers, of large ones and of ones that are not compressed are pulled and unpacked."""
    name = f"{registry}/{image.reference}"
    docker.run("docker", "pull", name)
    assert docker.run("docker", "image", "inspect", "--format", "{{.Id}}", name) == f"{image.config}\n"


@pytest.mark.parametrize("image", ["docker/hello:1.0", "list/hello:1.0"], indirect=True)
def test_docker_inspects_an_image(dockerd: Machine, registry: str, image: Image) -> None:
    """`docker manifest inspect`, which in old versions knows docker's types alone, shows the manifest."""
    shown = dockerd.run("docker", "manifest", "inspect", "--insecure", f"{registry}/{image.reference}")
    assert json.loads(shown) == json.loads(image.built.raw)


@pytest.mark.parametrize("image", [HUB], indirect=True)
def test_docker_pulls_through_a_mirror(docker: Machine, registry: str, image: Image) -> None:
    """With a `registry-mirrors` of dockerd's, an image of Docker Hub has its short name."""
    clients.configure_docker(docker.etc, mirrors=[registry])
    docker.run("sh", "-c", "kill -HUP $(cat /run/docker.pid)")
    docker.wait_for("sh", "-c", f"docker info | grep http://{registry}/")
    assert docker_run(docker, "hello") == image.greeting


# the library that CRI-O pulls with


@pytest.fixture(scope="session")
def image_library() -> str:
    return str(clients.go_program(".", clients.HERE / "image_library"))


@every_and_recent
@by_tag_and_digest
def test_image_library_copies_every_byte(
    machine: Machine, image_library: str, registry: str, image: Image, by: str, tmp_path: Path
) -> None:
    """What the library brings is what the site was made from, file by file."""
    said = machine.run(image_library, f"docker://{image.named(registry, by)}", f"dir:{tmp_path}")
    assert said == f"{image.built.digest} {image.built.media_type}\n"
    assert contents(tmp_path) == contents(image.directory)


@pytest.mark.parametrize("image", ["oci:1", "oci:10", INDEX, "charts/hello:1.0.0"], indirect=True)
def test_image_library_makes_a_layout(
    machine: Machine, image_library: str, registry: str, image: Image, tmp_path: Path
) -> None:
    """An OCI layout holds every manifest and blob of the image under its digest."""
    machine.run(image_library, f"docker://{registry}/{image.reference}", f"oci:{tmp_path}")
    found = {f"sha256:{path.name}": path.read_bytes() for path in (tmp_path / "blobs/sha256").iterdir()}
    manifests = {digest: raw for digest, (_, raw) in image.built.manifests.items()}
    assert found == image.built.blobs | manifests
