"""`scr-export clients`: which upstreams a site has, and what is written for each kind of client."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from scr_export.clients.files import client_files
from scr_export.clients.mirror import Mirror, Server, Upstream, find_upstreams, parse_host, upstream_of
from scr_export.oci.name import RepositoryName
from tests.support.builders import write_image
from tests.support.runner import export, start, wait

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PLAIN = Server.parse("http://mirror.example.com:8080")
SECURE = Server.parse("https://mirror.example.com")
HUB, QUAY = Upstream("docker.io", "docker.io"), Upstream("quay.io", "quay.io", is_signed=True)
LOCAL = Upstream("localhost:5000", "localhost_5000")


def names(*texts: str) -> list[RepositoryName]:
    return list(map(RepositoryName, texts))


def found(*texts: str, prefix: str = "", unscoped: str | None = None) -> dict[str, str]:
    """The start of names in the site for each upstream."""
    return {each.host: each.start for each in find_upstreams(names(*texts), [], prefix, unscoped).upstreams}


@pytest.mark.parametrize(
    ("component", "host"),
    [
        ("docker.io", "docker.io"),
        ("registry.k8s.io", "registry.k8s.io"),
        ("localhost", "localhost"),
        ("localhost_5000", "localhost:5000"),
        ("registry.example.com_443", "registry.example.com:443"),
        ("10.0.0.1_5000", "10.0.0.1:5000"),
        ("registry_80", "registry:80"),
        ("my-registry.example.x1", "my-registry.example.x1"),
        ("10.0.0.1", None),
        ("library", None),
        ("v1.0", None),
        ("app.2", None),
        ("a_b", None),
        ("a_b.io", None),
        ("a__5000", None),
        ("registry_123456", None),
    ],
)
def test_the_first_component_tells_the_upstream(component: str, host: str | None) -> None:
    assert upstream_of(component) == host


def test_a_site_can_have_many_upstreams() -> None:
    site = ("docker.io/library/a", "docker.io/b/c", "quay.io/d", "localhost_5000/e", "f", "library/g")
    assert found(*site) == {"docker.io": "docker.io", "localhost:5000": "localhost_5000", "quay.io": "quay.io"}
    assert find_upstreams(names(*site), []).unscoped == ("f", "library/g")


def test_a_host_without_a_repository_below_it_is_a_repository() -> None:
    assert find_upstreams(names("docker.io"), []).unscoped == ("docker.io",)


def test_unscoped_images_can_have_an_upstream() -> None:
    assert found("library/a", "quay.io/b", unscoped="docker.io") == {"docker.io": "", "quay.io": "quay.io"}
    assert found("quay.io/b", unscoped="docker.io") == {"quay.io": "quay.io"}


def test_a_prefix_is_part_of_where_images_are_and_not_of_their_upstream() -> None:
    site = ("prod/docker.io/a", "prod/b", "docker.io/other")
    assert found(*site[:2], prefix="prod", unscoped="quay.io") == {"docker.io": "prod/docker.io", "quay.io": "prod"}
    assert find_upstreams(names("prod/docker.io/a", "other/b"), [], "prod").elsewhere == 1


@pytest.mark.parametrize(
    ("site", "prefix", "unscoped"),
    [
        (("docker.io/library/a", "library/b"), "", "docker.io"),
        (("prod/docker.io/a", "docker.io/b"), "prod", None),
        (("prod/a", "docker.io/b"), "prod", "docker.io"),
    ],
)
def test_one_upstream_in_two_places_is_refused(site: tuple[str, ...], prefix: str, unscoped: str | None) -> None:
    with pytest.raises(ValueError, match=r"docker\.io"):
        find_upstreams(names(*site), [], prefix, unscoped)


def test_an_upstream_is_signed_where_a_repository_of_it_is() -> None:
    site = names("docker.io/a", "docker.io/b", "quay.io/c", "d")
    hosts = find_upstreams(site, names("docker.io/b", "d"), "", "ghcr.io").upstreams
    assert {each.host: each.is_signed for each in hosts} == {"docker.io": True, "quay.io": False, "ghcr.io": True}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://mirror.example.com:8080", "mirror.example.com:8080"),
        ("https://mirror.example.com/", "mirror.example.com"),
        ("https://Mirror.Example.com", "mirror.example.com"),
        ("http://10.0.0.1", "10.0.0.1"),
        ("https://localhost", "localhost"),
        ("https://mirror", "mirror:443"),  # `mirror/app` would be docker.io/mirror/app
        ("http://mirror", "mirror:80"),
    ],
)
def test_a_server_has_an_address_that_names_of_images_can_begin_with(url: str, address: str) -> None:
    assert Server.parse(url).address == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "mirror.example.com", "ftp://a.b", "http://", "http://a.b/v2", "http://a.b?x", "http://a.b#x"),
        *("http://u:p@a.b", "http://[::1]:80", "http://a b", "http://a_b.c", "http://a.b:x", "http://a.b:70000"),
    ],
)
def test_a_url_that_clients_cannot_have_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, each has words of its own
        Server.parse(url)


@pytest.mark.parametrize(
    "text", ["", "library", "docker.io/library", "Docker.io", "a.b:", "https://docker.io", "a_b.c"]
)
def test_an_upstream_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host of a registry"):
        parse_host(text)


# files


def text(mirror: Mirror, path: str) -> str:
    return client_files(mirror)[path].decode()


def hosts(mirror: Mirror, upstream: str) -> dict[str, Any]:
    return tomllib.loads(text(mirror, f"containerd/certs.d/{upstream}/hosts.toml"))


@pytest.mark.parametrize("authority", [None, CERTIFICATE])
@pytest.mark.parametrize("server", [PLAIN, SECURE])
@pytest.mark.parametrize("upstreams", [(), (HUB, LOCAL, QUAY), (Upstream("docker.io", ""), QUAY)])
def test_every_file_can_be_read_by_its_parser(
    upstreams: tuple[Upstream, ...], server: Server, authority: bytes | None
) -> None:
    files = client_files(Mirror(server, upstreams, authority))
    for path, data in files.items():
        assert data.endswith(b"\n")
        match Path(path).suffix:
            case ".toml" | ".conf":
                assert tomllib.loads(data.decode())
            case ".yaml":
                assert all(yaml.safe_load_all(data.decode()))
            case ".json":
                assert json.loads(data)
            case ".crt":
                assert data == CERTIFICATE
            case suffix:
                assert suffix == ".md"


def test_containerd_asks_the_server_alone() -> None:
    url = "http://mirror.example.com:8080/v2/docker.io"
    settings = {"capabilities": ["pull", "resolve"], "override_path": True}
    assert hosts(Mirror(PLAIN, (HUB,)), "docker.io") == {"server": url, **settings, "host": {url: settings}}
    mirror = Mirror(PLAIN, (Upstream("docker.io", ""), LOCAL))
    assert hosts(mirror, "docker.io")["server"] == PLAIN.url
    assert hosts(mirror, "localhost:5000")["server"] == f"{PLAIN.url}/v2/localhost_5000"
    assert hosts(mirror, PLAIN.address)["server"] == PLAIN.url


def test_an_authority_is_named_where_its_certificate_lies() -> None:
    mirror = Mirror(SECURE, (HUB,), CERTIFICATE)
    files = client_files(mirror)
    for host in ("docker.io", "mirror.example.com"):
        assert hosts(mirror, host)["ca"] == "ca.crt"
        assert hosts(mirror, host)["host"][hosts(mirror, host)["server"]]["ca"] == "ca.crt"
        assert files[f"containerd/certs.d/{host}/ca.crt"] == CERTIFICATE
    for path in ("containers", "docker"):
        assert files[f"{path}/certs.d/mirror.example.com/ca.crt"] == CERTIFICATE
    for name in ("k3s", "rke2"):
        tls = yaml.safe_load(files[f"{name}/registries.yaml"])["configs"]["mirror.example.com"]["tls"]
        assert tls == {"ca_file": f"/etc/rancher/{name}/ca.crt"}
        assert files[f"{name}/ca.crt"] == CERTIFICATE
    config_map = yaml.safe_load(files["openshift/authority.yaml"])
    assert config_map["data"] == {"mirror.example.com": CERTIFICATE.decode()}
    assert "docker/daemon.json" not in files


def test_the_authority_of_a_port_has_the_key_that_openshift_reads() -> None:
    secure = Mirror(Server.parse("https://mirror.example.com:8443"), (), CERTIFICATE)
    assert yaml.safe_load(text(secure, "openshift/authority.yaml"))["data"].keys() == {"mirror.example.com..8443"}


def test_podman_finds_an_upstream_at_a_location() -> None:
    conf = tomllib.loads(
        text(Mirror(PLAIN, (HUB, Upstream("quay.io", ""))), "containers/registries.conf.d/scr-export.conf")
    )
    assert conf["registry"] == [
        {"location": PLAIN.address, "insecure": True},
        {"prefix": "docker.io", "location": f"{PLAIN.address}/docker.io", "insecure": True},
        {"prefix": "quay.io", "location": PLAIN.address, "insecure": True},
    ]


def test_a_policy_demands_signatures_only_of_upstreams_that_have_some() -> None:
    files = client_files(Mirror(PLAIN, (HUB, QUAY)))
    scopes = json.loads(files["containers/policy.json"])["transports"]["docker"]
    assert scopes.keys() == {"quay.io", f"{PLAIN.address}/quay.io"}
    [by_place] = scopes[f"{PLAIN.address}/quay.io"]
    assert by_place["signedIdentity"] == {
        "type": "remapIdentity",
        "prefix": f"{PLAIN.address}/quay.io",
        "signedPrefix": "quay.io",
    }
    lookaside = yaml.safe_load(files["containers/registries.d/scr-export.yaml"])
    assert lookaside == {"docker": {PLAIN.address: {"lookaside": f"{PLAIN.url}/v2/_sigstore"}}}
    assert not [path for path in client_files(Mirror(PLAIN, (HUB,))) if "policy" in path or "registries.d" in path]


def test_k3s_rewrites_to_where_an_upstream_is() -> None:
    mirrors = yaml.safe_load(text(Mirror(PLAIN, (HUB, Upstream("quay.io", ""))), "k3s/registries.yaml"))["mirrors"]
    endpoint = {"endpoint": [PLAIN.url]}
    assert mirrors == {
        PLAIN.address: endpoint,
        "docker.io": {**endpoint, "rewrite": {"^(.*)$": "docker.io/$1"}},
        "quay.io": endpoint,
    }


def test_openshift_never_contacts_the_source() -> None:
    sets = list(yaml.safe_load_all(text(Mirror(PLAIN, (HUB,)), "openshift/mirrors.yaml")))
    entry = {
        "source": "docker.io",
        "mirrors": [f"{PLAIN.address}/docker.io"],
        "mirrorSourcePolicy": "NeverContactSource",
    }
    assert [each["kind"] for each in sets] == ["ImageDigestMirrorSet", "ImageTagMirrorSet"]
    assert [each["spec"] for each in sets] == [{"imageDigestMirrors": [entry]}, {"imageTagMirrors": [entry]}]


def test_docker_gets_a_mirror_only_where_docker_hub_is_at_the_top() -> None:
    scoped, unscoped = Mirror(PLAIN, (HUB,)), Mirror(PLAIN, (Upstream("docker.io", ""),))
    assert json.loads(text(scoped, "docker/daemon.json")) == {"insecure-registries": [PLAIN.address]}
    assert json.loads(text(unscoped, "docker/daemon.json"))["registry-mirrors"] == [PLAIN.url]
    assert "is asked of Docker Hub" in text(unscoped, "README.md")
    assert "docker/daemon.json" not in client_files(Mirror(SECURE, (HUB,)))


# the command


def clients(*arguments: str | os.PathLike[str]) -> CompletedProcess[str]:
    return wait(start("clients", *arguments))


@pytest.fixture
def scoped(images: Path, site: Path) -> Path:
    write_image(images / "docker.io/library/app/1")
    write_image(images / "quay.io/app:1", seed=2)
    export(images, site)
    return site


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_ino)
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_second_run_touches_nothing(scoped: Path, tmp_path: Path) -> None:
    done = clients("--url", PLAIN.url, scoped, tmp_path / "c")
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker.io, quay.io" in done.stdout
    before = tree(tmp_path / "c")
    done = clients("--url", PLAIN.url, "--json", scoped, tmp_path / "c")
    assert (json.loads(done.stdout)["written"], json.loads(done.stdout)["unchanged"]) == ([], len(before))
    assert tree(tmp_path / "c") == before
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").rglob("*") if path.is_file()} == {0o644}


def test_a_file_of_an_upstream_that_left_is_a_warning(scoped: Path, images: Path, tmp_path: Path) -> None:
    clients("--url", PLAIN.url, scoped, tmp_path / "c")
    shutil.rmtree(images / "quay.io")
    export(images, scoped)
    done = clients("--url", PLAIN.url, scoped, tmp_path / "c")
    assert done.returncode == 0
    assert "containerd/certs.d/quay.io/hosts.toml" in done.stderr


def test_images_of_no_upstream_are_a_warning_unless_one_is_named(scoped: Path, images: Path, tmp_path: Path) -> None:
    write_image(images / "team/app/1", seed=3)
    export(images, scoped)
    done = clients("--url", PLAIN.url, scoped, tmp_path / "c")
    assert (done.returncode, "v2/team/app" in done.stderr, "--upstream" in done.stderr) == (0, True, True)
    done = clients("--url", PLAIN.url, "--upstream", "ghcr.io", scoped, tmp_path / "c")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "c/containerd/certs.d/ghcr.io/hosts.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--url", "mirror", "{site}", "{out}"], 2, "http://"),
        (["{site}", "{out}"], 2, "--url"),
        (["--url", PLAIN.url, "--upstream", "docker.io/library", "{site}", "{out}"], 2, "--upstream"),
        (["--url", PLAIN.url, "--name-prefix", "/x", "{site}", "{out}"], 2, "--name-prefix"),
        (["--url", PLAIN.url, "--name-prefix", "prod", "{site}", "{out}"], 2, "no repository begins with prod/"),
        (["--url", "https://quay.io", "{site}", "{out}"], 2, "quay.io is itself a registry"),
        (["--url", PLAIN.url, "--ca-file", "{ca}", "{site}", "{out}"], 2, "https://"),
        (["--url", SECURE.url, "--ca-file", "{out}/none", "{site}", "{out}"], 2, "--ca-file"),
        (["--url", SECURE.url, "--ca-file", "{text}", "{site}", "{out}"], 2, "no certificate"),
        (["--url", SECURE.url, "--ca-file", "{key}", "{site}", "{out}"], 2, "private key"),
        (["--url", PLAIN.url, "{site}", "{site}"], 2, "same directory"),
        (["--url", PLAIN.url, "{site}", "{site}/v2/x"], 2, "SITE/v2"),
        (["--url", PLAIN.url, "{out}", "{out}"], 2, "same directory"),
        (["--url", PLAIN.url, "{text}", "{out}"], 1, "text"),
        (["--url", PLAIN.url, "{site}", "{text}/x"], 1, "text"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    scoped: Path, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    for name, data in {"ca": CERTIFICATE, "text": b"x", "key": CERTIFICATE + b"-----BEGIN PRIVATE KEY-----"}.items():
        (tmp_path / name).write_bytes(data)
    where = {name: str(tmp_path / name) for name in ("ca", "text", "key", "out")} | {"site": str(scoped)}
    done = clients(*(each.format(**where) for each in arguments))
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_of_an_earlier_run_is_named_where_it_lies(scoped: Path, tmp_path: Path) -> None:
    left = tmp_path / "clients/certs.d/gone.example.com/hosts.toml"
    left.parent.mkdir(parents=True)
    left.touch()
    process = clients("--url", "http://mirror:8080", scoped, tmp_path / "clients")
    assert process.returncode == 0, process.stderr
    assert f"warning: {left}: " in process.stderr
