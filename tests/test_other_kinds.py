"""Images in other forms than skopeo's `dir:` are reported, even if they are broken."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scr_export.images import remedies
from scr_export.images.place import Arguments, Place, quoted
from tests.support.builders import write_image
from tests.support.runner import run

HEX = "0123456789abcdef" * 4
SAVED = [{"Config": f"{HEX}.json", "RepoTags": ["registry:5000/team/app:v1"], "Layers": [f"{HEX}.tar"]}]
NAME = "org.opencontainers.image.ref.name"
ARGUMENTS = Arguments("/srv/images", "/srv/site")


def problems(images: Path, site: Path) -> list[tuple[str, str, str]]:
    """Path, code and remedy of each problem that there is besides a good image."""
    write_image(images / "good/v1")
    process = run(images, site, "--keep-going", "--dry-run", "--json")
    report = json.loads(process.stdout)
    return [(each["path"], each["code"], each["remedy"]) for kind in ("faults", "warnings") for each in report[kind]]


def write(directory: Path, files: Mapping[str, object]) -> None:
    """Write files: a text, bytes, or JSON."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def tar(files: Mapping[str, object]) -> bytes:
    """A tar archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def layout(*names: str | None) -> dict[str, Any]:
    """The index of an OCI layout with images of these names."""
    return {"manifests": [{"annotations": {NAME: name}} if name else {} for name in names]}


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (layout("v1"), ["/app dir:", "images/team/app/v1"]),
        (layout(None), ["/app dir:", "images/team/app"]),
        (layout("v1", "v2"), ["app:v1 dir:", "app:v2 dir:", "images/team/app/v2"]),
        (layout("v1", None), ["app:v1 dir:"]),
        (layout(None, None), ["app:@0 dir:", "app:@1 dir:"]),
        (layout("docker.io/library/x:v1"), ["images/x/v1"]),
        (layout("registry:5000/x:v1"), ["images/registry:5000/x/v1"]),
        (layout(), ["/app dir:"]),
        ({"manifests": 7}, ["/app dir:"]),
        ({"manifests": [7, None, {"annotations": []}, {"annotations": {NAME: 7}}]}, ["app:@0", "app:@1"]),
        ([], ["/app dir:"]),
        (b"{", ["/app dir:"]),
        (b"[" * 100_000, ["/app dir:"]),
    ],
)
def test_an_oci_layout_is_reported_with_its_names(images: Path, site: Path, index: object, says: list[str]) -> None:
    write(images / "team/app", {"oci-layout": {}, "index.json": index, f"blobs/sha256/{HEX}": b"x"})
    [(path, code, remedy)] = problems(images, site)
    assert (path, code) == ("team/app", "oci-layout")
    outside = f"{images.parent}/team_app"
    assert remedy.startswith(f"mv -T {images}/team/app {outside} && mkdir -p ")
    assert all(each in remedy.replace(outside, "/app") for each in says), remedy


@pytest.mark.parametrize("tags", [None, [], ["app:v1"], ["app:v1", "app:v2"], 7, [7]])
def test_an_unpacked_docker_save_is_reported(images: Path, site: Path, tags: object) -> None:
    write(images / "app", {"manifest.json": [{"Config": "x", "RepoTags": tags, "Layers": []}], f"{HEX}/layer.tar": b""})
    [(path, code, remedy)] = problems(images, site)
    assert (path, code) == ("app", "docker-save")
    assert f"tar -C {images.parent}/app -cf {images.parent}/app.tar ." in remedy
    assert remedy.count("skopeo copy") == (2 if tags == ["app:v1", "app:v2"] else 1)


def test_a_list_that_docker_did_not_save_is_a_broken_manifest(images: Path, site: Path) -> None:
    write(images / "app/v1", {"manifest.json": [{"a": 1}]})
    [(path, code, _)] = problems(images, site)
    assert (path, code) == ("app/v1", "manifest")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"manifest.json": SAVED}, "docker-archive:ARCHIVE:registry:5000/team/app:v1 dir:"),
        ({"manifest.json": SAVED, "oci-layout": {}, "index.json": layout("v1")}, "docker-archive:"),
        (
            {f"blobs/sha256/{HEX}": b"x" * 5000, "index.json": layout("v1"), "oci-layout": {}},
            "oci-archive:ARCHIVE dir:",
        ),
        ({"./oci-layout": {}, "./index.json": layout("v1")}, "oci-archive:ARCHIVE dir:"),
        ({"app/v1/manifest.json": {}}, "-xf ARCHIVE"),
        ({"README": b""}, "mv -T"),
        ({"manifest.json": {}}, "mv -T"),
        ({"manifest.json": b"[" * 100_000}, "mv -T"),
    ],
)
def test_an_archive_is_reported_by_its_content(images: Path, site: Path, files: dict[str, object], says: str) -> None:
    write(images / "team", {"any.name": tar(files)})
    [(path, code, remedy)] = problems(images, site)
    assert (path, code) == ("team/any.name", "archive")
    assert says in remedy.replace(f"{images.parent}/team_any.name", "ARCHIVE")


@pytest.mark.parametrize("name", [f"{HEX}.json", f"{HEX}/VERSION", "blobs/", f"sha256:{HEX}"])
def test_a_compressed_archive_is_reported(images: Path, site: Path, name: str) -> None:
    write(images, {"app.tar.gz": gzip.compress(tar({name: b"x" * 100_000}))})
    [(path, code, remedy)] = problems(images, site)
    assert (path, code) == ("app.tar.gz", "archive")
    assert f"docker-archive:{images.parent}/app.tar.gz.tar dir:{images}/app/latest" in remedy


BROKEN = {
    "cut off": tar({"manifest.json": SAVED})[:700],
    "no header": b"\0" * 257 + b"ustar" + b"\0" * 300,
    "a size that is no number": tar({"a": b"x"}).replace(b"00000000001\0", b"0000000000x\0", 1),
    "a negative size": tar({"a": b"x"}).replace(b"00000000001\0", b"\xff" * 12, 1),
    "a huge size": tar({"a": b"x"}).replace(b"00000000001\0", b"\x80" + b"\x7f" * 11, 1),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_archive_causes_no_crash(images: Path, site: Path, data: bytes) -> None:
    write(images, {"x.tar": data})
    assert [code for _, code, _ in problems(images, site)] in ([], ["archive"])


@pytest.mark.parametrize(
    "data", [b"", b"x", b"x" * 10_000, gzip.compress(b"x" * 10_000), b"\x1f\x8b", b"\x1f\x8b" + b"x" * 1000]
)
def test_another_file_is_ignored(images: Path, site: Path, data: bytes) -> None:
    write(images, {"x.tar": data, "team/x.tgz": data})
    assert problems(images, site) == []


def test_trees_of_registries_are_reported_once(images: Path, site: Path) -> None:
    storage = "var/docker/registry/v2"
    for name in ("app", "team/app"):
        write(images / storage / "repositories" / name / "_manifests/tags/v1/current", {"link": b"sha256:0"})
        write(images / "mirror/v2" / name, {f"manifests/sha256:{HEX}": b"{}", f"blobs/sha256:{HEX}": b"{}"})
    write(images / storage / "blobs/sha256/01" / HEX, {"data": b"{}"})
    write(images / "old/v2", {"_catalog": {"repositories": []}})
    assert [(path, code) for path, code, _ in problems(images, site)] == [
        ("mirror/v2", "oc-mirror"),
        ("old", "site"),
        ("var", "registry"),
    ]


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("app", "mkdir -p /srv/images && mv -T /srv/images/app /srv/images/app:latest"),
        ("My App/v1", "mkdir -p /srv/images/my-app && mv -T '/srv/images/My App/v1' /srv/images/my-app/v1"),
        ("Team/App:V1", "mkdir -p /srv/images/team && mv -T /srv/images/Team/App:V1 /srv/images/team/app:V1"),
        ("app/v1+2", "mkdir -p /srv/images/app && mv -T /srv/images/app/v1+2 /srv/images/app/v1-2"),
        ("_app_/v1", "mkdir -p /srv/images/app && mv -T /srv/images/_app_/v1 /srv/images/app/v1"),
        ("a..b/v1", "mkdir -p /srv/images/a-b && mv -T /srv/images/a..b/v1 /srv/images/a-b/v1"),
        (
            f"App@sha256:{HEX}",
            f"mkdir -p /srv/images && mv -T /srv/images/App@sha256:{HEX} /srv/images/app@sha256:{HEX}",
        ),
        ("app@sha256:0", "mv -T /srv/images/app@sha256:0 /srv/app_sha256_0"),
        (".git/x/v1", "mv -T /srv/images/.git /srv/.git"),
        ("a/.hidden/v1", "mv -T /srv/images/a/.hidden /srv/a_.hidden"),
        ("\xe4/v1", "mv -T '/srv/images/\xe4/v1' '/srv/\xe4_v1'"),
        ("a\n/v1", "mv -T $'/srv/images/a\\012' /srv/a_"),
        ("a/" + "v" * 200, f"mkdir -p /srv/images/a && mv -T /srv/images/a/{'v' * 200} /srv/images/a/{'v' * 128}"),
    ],
)
def test_a_directory_gets_the_nearest_name_that_it_can_have(path: str, command: str) -> None:
    assert remedies.name_anew(Place(path, ARGUMENTS)) == command


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("app/v1", "docker://REGISTRY/app:v1"),
        ("team/app:v1", "docker://REGISTRY/team/app:v1"),
        ("registry.example.com/team/app/v1", "docker://registry.example.com/team/app:v1"),
        ("localhost:5000/app:v1", "docker://localhost:5000/app:v1"),
        ("localhost/app/v1", "docker://localhost/app:v1"),
        (f"app@sha256:{HEX}", f"docker://REGISTRY/app@sha256:{HEX}"),
        ("app.v1/v2", "docker://REGISTRY/app.v1:v2"),
        ("", "docker://REGISTRY/NAME:TAG"),
    ],
)
def test_the_source_of_an_image_follows_from_its_path(path: str, url: str) -> None:
    assert remedies.source(path) == url


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("a", "a"),
        ("a b", "'a b'"),
        ("-a", "./-a"),
        ("a'b", "'a'\"'\"'b'"),
        ("a\x1b", "$'a\\033'"),
        ("\udcff", "$'\\377'"),
    ],
)
def test_a_path_is_one_word_of_a_shell(path: str, word: str) -> None:
    assert quoted(path) == word
