"""Clients written in Go work as their users use them, and report and pull what was exported.

They are built from their sources, in the versions that `support/clients.py` names.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients
from tests.support.builders import Built, write_artifact, write_image, write_index, write_referrers_tag
from tests.support.fronts import SERVED, SERVED_TO_CLIENTS, update
from tests.support.runner import export
from tests.support.servers import Server, open_directory

Json = dict[str, Any]


REPOSITORIES = ["app", "charts/hello", "files", "many", "signed"]
MANY = [f"v{number:04}" for number in range(1100)]  # crane asks for 1,000 at once
NOTES = b"What is new: everything.\n"
VERSIONS = ("1.0.0", "1.1.0", "2.0.0-rc.1")
SBOM = "application/spdx+json"
REVIEW = "application/vnd.example.review"

# how cosign finds a signature, and what it calls that
BY_TAG, BY_REFERRER, BY_BUNDLE = "tag", "referrer", "bundle"
VERIFY = {BY_TAG: (), BY_REFERRER: ("--experimental-oci11",), BY_BUNDLE: ("--new-bundle-format",)}
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# empty; without it, cosign asks the internet for one
TRUSTED_ROOT = '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'

each_image = pytest.mark.parametrize("name", ["app:1", "app:2", "app:10"])


@dataclass(frozen=True, slots=True)
class Published:
    """IMAGES and SITE, and what was written there."""

    images: Path
    site: Path
    built: dict[str, Built]
    charts: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Client:
    """A program with a home of its own. What it may want of the internet is not there."""

    program: Path
    home: Path
    options: tuple[str, ...] = ()

    def run(self, *arguments: str | Path, silent: bool = True) -> str:
        """What it writes to stdout. On stderr are its warnings, and a `silent` one has none."""
        environment = {"PATH": os.defpath, "HOME": str(self.home), "HTTPS_PROXY": "http://127.0.0.1:9"}
        command = [str(self.program), *map(str, arguments), *self.options]
        done = clients.run(command, environment | {"COSIGN_PASSWORD": ""})
        assert not (silent and done.stderr), done.stderr
        return done.stdout

    def lines(self, *arguments: str) -> list[str]:
        """The lines that it writes to stdout."""
        return self.run(*arguments).splitlines()


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    """A site with something for each client."""
    with open_directory() as place:
        images = place / "images"
        write_artifact(images / "files/notes", payload=NOTES)
        annotate_layer(images / "files/notes", {"org.opencontainers.image.title": "notes.txt"})
        write_many(images / "many")
        charts = {version: chart(version) for version in VERSIONS}
        for version, data in charts.items():
            write_artifact(images / "charts/hello" / version, payload=data)
        published = Published(images, place / "site", write_images(images), charts)
        export(images, published.site)
        yield published


def write_many(repository: Path) -> None:
    """Write one artifact under many tags."""
    first, *others = (repository / tag for tag in MANY)
    write_artifact(first)
    for other in others:
        shutil.copytree(first, other, copy_function=os.link)


def write_images(images: Path) -> dict[str, Built]:
    """Write images, what refers to them, and images to sign."""
    one, two = write_image(images / "app/1", seed=1, layers=3), write_index(images / "app/2", seed=2)
    sbom = write_referrer(images / "app", seed=4, artifact_type=SBOM, subject=one, annotations={"format": "spdx"})
    # what names no subject itself, but is listed under the tag that stands for one
    listed = write_artifact(images / "app/listed", seed=7, artifact_type=REVIEW, empty_config=True)
    return {
        "app:1": one,
        "app:2": two,
        "app:10": write_image(images / "app/10", seed=3, docker=True),
        "sbom": sbom,
        "review": write_referrer(images / "app", seed=5, artifact_type=REVIEW, subject=one),
        "review of sbom": write_referrer(images / "app", seed=6, artifact_type=REVIEW, subject=sbom),
        "listed": listed,
        "list": write_referrers_tag(images / "app" / referrers_tag(two), referrers=[listed]),
        **{way: write_image(images / "signed" / way, seed=seed) for seed, way in enumerate(VERIFY, 10)},
    }


def write_referrer(repository: Path, **options: Any) -> Built:
    """Write an artifact that has no tag."""
    built = write_artifact(repository / "untagged", empty_config=True, **options)
    (repository / "untagged").rename(f"{repository}@{built.digest}")
    return built


def referrers_tag(subject: Built) -> str:
    """The tag of a list of referrers."""
    return subject.digest.replace(":", "-")


def annotate_layer(directory: Path, annotations: Mapping[str, str]) -> str:
    """Annotate the one layer of an artifact; the new digest."""
    manifest = json.loads((directory / "manifest.json").read_bytes())
    manifest["layers"][0]["annotations"] = annotations
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return f"sha256:{hashlib.sha256((directory / 'manifest.json').read_bytes()).hexdigest()}"


def chart(version: str) -> bytes:
    """A chart as `helm package` has it."""
    files = {
        "Chart.yaml": f"apiVersion: v2\nname: hello\nversion: {version}\n",
        "templates/config.yaml": "kind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-{{ .Chart.Version }}}\n",
    }
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"hello/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return package.getvalue()


def contents(*built: Built) -> dict[str, bytes]:
    """Every manifest and blob, by its name in an OCI layout."""
    digests = {digest: raw for each in built for digest, (_, raw) in each.manifests.items()}
    digests |= {digest: data for each in built for digest, data in each.blobs.items()}
    return {digest.partition(":")[2]: data for digest, data in digests.items()}


def layout(directory: Path) -> dict[str, bytes]:
    """The blobs of an OCI layout by their names."""
    return {path.name: path.read_bytes() for path in (directory / "blobs/sha256").iterdir()}


@pytest.fixture(scope="module", params=SERVED_TO_CLIENTS)
def server(request: pytest.FixtureRequest, published: Published) -> Iterator[Server]:
    """The server under test."""
    with open_directory() as tmp, SERVED[request.param](published.site, tmp) as server:
        yield server


@pytest.fixture(scope="module")
def registry(server: Server) -> str:
    """The address of the server under test."""
    return server.address


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


# crane


@pytest.fixture(scope="module")
def crane(home: Path) -> Client:
    return Client(clients.go_program(clients.CRANE), home)


@each_image
def test_crane_finds_and_checks_an_image(crane: Client, registry: str, published: Published, name: str) -> None:
    """`crane digest` asks by HEAD, and would warn if it had to GET; `validate` fetches and digests every blob."""
    built = published.built[name]
    assert crane.lines("digest", f"{registry}/{name}") == [built.digest]
    assert crane.run("manifest", f"{registry}/{name}").encode() == built.raw
    assert crane.lines("validate", "--remote", f"{registry}/{name}") == [f"PASS: {registry}/{name}"]


@each_image
def test_crane_pulls_a_layout(crane: Client, registry: str, published: Published, name: str, tmp_path: Path) -> None:
    crane.run("pull", "--format=oci", f"{registry}/{name}", tmp_path)
    assert layout(tmp_path) == contents(published.built[name])


def test_crane_pulls_a_tarball(crane: Client, registry: str, published: Published, tmp_path: Path) -> None:
    """It holds the config by its digest, the layers by theirs, and a list of both."""
    crane.run("pull", f"{registry}/app:1", tmp_path / "app.tar")
    with tarfile.open(tmp_path / "app.tar") as archive:
        found = [archive.extractfile(name) for name in archive.getnames() if name != "manifest.json"]
        assert {file.read() for file in found if file} == set(published.built["app:1"].blobs.values())


def test_crane_lists_repositories_and_tags(crane: Client, registry: str, published: Published) -> None:
    """More tags than fit into a page are found by its link."""
    tags = ["1", "10", "2", "listed", referrers_tag(published.built["app:2"])]
    assert crane.lines("ls", f"{registry}/app") == tags
    assert crane.lines("ls", f"{registry}/many") == MANY
    assert crane.lines("catalog", registry) == REPOSITORIES


# oras


@pytest.fixture(scope="module")
def oras(home: Path) -> Client:
    return Client(clients.go_program(clients.ORAS), home, ("--plain-http",))


@each_image
def test_oras_resolves_a_tag(oras: Client, registry: str, published: Published, name: str) -> None:
    assert oras.lines("resolve", f"{registry}/{name}") == [published.built[name].digest]


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        pytest.param("app:1", (), {"sbom": {"review of sbom": {}}, "review": {}}, id="all"),
        pytest.param("app:1", ("--artifact-type", SBOM), {"sbom": {}}, id="of a type"),
        pytest.param("app:1", ("--artifact-type", "application/none"), {}, id="of a type that is not there"),
        pytest.param("app:2", (), {"listed": {}}, id="listed by a tag"),
        pytest.param("app:10", (), {}, id="none"),
    ],
)
def test_oras_discovers_referrers(
    oras: Client, registry: str, published: Published, name: str, options: tuple[str, ...], found: Json
) -> None:
    """The registry lists the referrers, their types and annotations; oras may not ask for the referrers tag."""
    api = ("--distribution-spec", "v1.1-referrers-api", "--format", "json")
    document = json.loads(oras.run("discover", *api, *options, f"{registry}/{name}"))
    assert referrers(document) == {described(published.built[each], found[each], published) for each in found}


def referrers(document: Json) -> set[Any]:
    """The referrers that `oras discover` lists, unordered."""
    return {
        (each["digest"], each["size"], each["artifactType"], str(each.get("annotations")), frozenset(referrers(each)))
        for each in document["referrers"]
    }


def described(built: Built, below: Json, published: Published) -> Any:
    manifest = json.loads(built.raw)
    facts = (built.digest, len(built.raw), manifest["artifactType"], str(manifest.get("annotations")))
    return (*facts, frozenset(described(published.built[each], below[each], published) for each in below))


def test_oras_pulls_files(oras: Client, registry: str, tmp_path: Path) -> None:
    oras.run("pull", f"{registry}/files:notes", "--output", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"notes.txt": NOTES}


def test_oras_lists_repositories_and_tags(oras: Client, registry: str, published: Published) -> None:
    """What comes after the `--last` that one knows is listed to the end."""
    assert oras.lines("repo", "tags", f"{registry}/many") == MANY
    assert oras.lines("repo", "tags", "--last", "v0005", f"{registry}/many") == MANY[6:]
    later = ["2", "listed", referrers_tag(published.built["app:2"])]
    assert oras.lines("repo", "tags", "--last", "10", f"{registry}/app") == later
    assert oras.lines("repo", "ls", registry) == REPOSITORIES
    assert oras.lines("repo", "ls", "--last", "files", registry) == ["many", "signed"]


# regctl


@pytest.fixture(scope="module")
def regctl(home: Path, registry: str) -> Client:
    return Client(clients.go_program(clients.REGCTL), home, ("--host", f"reg={registry},tls=disabled"))


@each_image
def test_regctl_resolves_a_tag_by_head(regctl: Client, registry: str, published: Published, name: str) -> None:
    assert regctl.lines("manifest", "head", f"{registry}/{name}") == [published.built[name].digest]


@pytest.mark.parametrize(
    ("command", "limit", "everything"),
    [
        ("tag ls <registry>/many", 100, MANY),
        ("repo ls <registry>", 1, REPOSITORIES),
        ("repo ls <registry>", 2, REPOSITORIES),
    ],
    ids=["tags", "repositories", "repositories in twos"],
)
def test_regctl_reads_all_pages(regctl: Client, registry: str, command: str, limit: int, everything: list[str]) -> None:
    """It follows no link: its user asks for what comes after the last of a page, until there is nothing."""
    words = command.replace("<registry>", registry).split()
    found: list[str] = []
    while page := regctl.lines(*words, "--limit", str(limit), *(["--last", found[-1]] if found else [])):
        assert len(page) <= limit
        found += page
    assert found == everything


def test_regctl_lists_as_many_as_it_asks_for(regctl: Client, registry: str) -> None:
    assert regctl.lines("tag", "ls", "--limit", "10", f"{registry}/many") == MANY[:10]
    assert regctl.lines("tag", "ls", "--limit", "10", "--last", MANY[9], f"{registry}/many") == MANY[10:20]


def test_regctl_shows_a_tree(regctl: Client, registry: str, published: Published) -> None:
    document = json.loads(regctl.run("artifact", "tree", "--format", "{{json .}}", f"{registry}/app:1"))
    built = published.built
    assert tree(document) == {built["review"].digest: {}, built["sbom"].digest: {built["review of sbom"].digest: {}}}


def tree(document: Json) -> Json:
    """The digests that `regctl artifact tree` lists."""
    return {each["reference"]["Digest"]: tree(each) for each in document.get("referrer", [])}


@each_image
def test_regctl_copies_an_image(regctl: Client, registry: str, published: Published, name: str, tmp_path: Path) -> None:
    """With all that refers to the image. Lists of referrers, in an OCI layout, regctl writes by itself."""
    regctl.run("image", "copy", "--referrers", "--digest-tags", f"{registry}/{name}", f"ocidir://{tmp_path}:copy")
    below = {"app:1": ["sbom", "review", "review of sbom"], "app:2": ["list"], "app:10": []}[name]
    expected = contents(*(published.built[each] for each in [name, *below]))
    found = layout(tmp_path)
    assert {digest: found.get(digest) for digest in expected} == expected


# helm


@pytest.fixture(scope="module")
def helm(home: Path) -> Client:
    return Client(clients.go_program(clients.HELM), home, ("--plain-http",))


@pytest.mark.parametrize(
    ("options", "version"),
    [((), "1.1.0"), (("--version", "1.0.0"), "1.0.0"), (("--version", ">=1.0.0-0"), "2.0.0-rc.1")],
    ids=["latest", "exact", "latest of a range"],
)
def test_helm_pulls_a_chart(
    helm: Client, registry: str, published: Published, options: tuple[str, ...], version: str, tmp_path: Path
) -> None:
    """Where a version is not named exactly, helm takes the latest of the tags; without any, no pre-release."""
    helm.run("pull", f"oci://{registry}/charts/hello", *options, "--destination", tmp_path)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {f"hello-{version}.tgz": published.charts[version]}


def test_helm_renders_a_chart(helm: Client, registry: str) -> None:
    chart = f"oci://{registry}/charts/hello"
    assert "name: here-1.0.0" in helm.run("template", "here", chart, "--version", "~1.0", silent=False)


# cosign


@dataclass(frozen=True, slots=True)
class Signed:
    """Where the key is, and the signature that is found by its tag."""

    keys: Path
    payload: bytes
    signature: str


@pytest.fixture(scope="module")
def cosign(home: Path) -> Client:
    return Client(clients.go_program(clients.COSIGN), home)


@pytest.fixture(scope="module")
def signed(cosign: Client, server: Server, published: Published, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """Three images that the server has are signed, and the signatures exported while it runs."""
    registry = server.address
    keys, repository = tmp_path_factory.mktemp("keys"), published.images / "signed"
    cosign.run("generate-key-pair", "--output-key-prefix", keys / "cosign", silent=False)
    (keys / "trusted_root.json").write_text(TRUSTED_ROOT)
    for of_another_key in published.images.glob("signed@*"):
        shutil.rmtree(of_another_key)

    subject = published.built[BY_TAG]
    found = sign_image(cosign, keys, f"{registry}/signed@{subject.digest}")
    write_signature(repository / f"{referrers_tag(subject)}.sig", *found, artifact_type=IMAGE_CONFIG)

    subject = published.built[BY_REFERRER]
    payload, signature = sign_image(cosign, keys, f"{registry}/signed@{subject.digest}")
    untagged = repository / "untagged"
    digest = write_signature(untagged, payload, signature, artifact_type=SIGNATURE, subject=subject)
    untagged.rename(f"{repository}@{digest}")

    subject = published.built[BY_BUNDLE]
    bundle = sign_manifest(cosign, keys, repository / BY_BUNDLE / "manifest.json")
    write_referrer(repository, artifact_type=BUNDLE, payload=bundle, payload_type=BUNDLE, subject=subject)

    export(published.images, published.site)
    update(server, published.site)
    return Signed(keys, *found)


def sign_image(cosign: Client, keys: Path, image: str) -> tuple[bytes, str]:
    """Sign an image of the registry; the payload and its signature."""
    files = ("--output-payload", keys / "payload", "--output-signature", keys / "signature")
    private = ("--key", keys / "cosign.key", "--yes", "--upload=false", "--tlog-upload=false")
    cosign.run("sign", *private, *files, "--allow-http-registry", image, silent=False)
    return (keys / "payload").read_bytes(), (keys / "signature").read_text().strip()


def write_signature(directory: Path, payload: bytes, signature: str, **options: Any) -> str:
    """Write a signature as cosign would push it; its digest."""
    write_artifact(directory, payload=payload, payload_type=SIMPLE_SIGNING, **options)
    return annotate_layer(directory, {"dev.cosignproject.cosign/signature": signature})


def sign_manifest(cosign: Client, keys: Path, manifest: Path) -> bytes:
    """Sign the manifest of an image; the bundle that cosign would push."""
    (keys / "predicate.json").write_text("{}")
    what = ("--predicate", keys / "predicate.json", "--type", "https://sigstore.dev/cosign/sign/v1")
    private = ("--key", keys / "cosign.key", "--yes", "--tlog-upload=false")
    bundle = ("--new-bundle-format", "--bundle", keys / "bundle")
    cosign.run("attest-blob", *private, *bundle, *what, manifest, silent=False)
    return (keys / "bundle").read_bytes()


@pytest.mark.parametrize("way", VERIFY)
def test_cosign_verifies_a_signature(
    cosign: Client, signed: Signed, registry: str, published: Published, way: str
) -> None:
    """A signature is found by its tag, as a referrer, and as a referrer in the newer form."""
    public = ("--key", signed.keys / "cosign.pub", "--trusted-root", signed.keys / "trusted_root.json")
    options = (*VERIFY[way], "--insecure-ignore-tlog", "--allow-http-registry")
    document = json.loads(cosign.run("verify", *public, *options, f"{registry}/signed:{way}", silent=False))
    found = [each["critical"]["image"]["docker-manifest-digest"] for each in document]
    assert found == [published.built[way].digest]


def test_cosign_shows_a_signature(cosign: Client, signed: Signed, registry: str, published: Published) -> None:
    image, tag = f"{registry}/signed:{BY_TAG}", f"{referrers_tag(published.built[BY_TAG])}.sig"
    assert f"{registry}/signed:{tag}" in cosign.run("tree", "--allow-http-registry", image, silent=False)
    document = json.loads(cosign.run("download", "signature", "--allow-http-registry", image, silent=False))
    assert (base64.b64decode(document["Payload"]), document["Base64Signature"]) == (signed.payload, signed.signature)
