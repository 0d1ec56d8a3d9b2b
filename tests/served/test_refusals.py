"""Clients refuse what the table of manifests says that they refuse, and take the rest.

A server that knows nothing of manifests gives them exactly what is in the table.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.manifests_table import BUILT, CONTAINERD, CRANE, LIBRARY, ORAS, SKOPEO, SUBJECT, Row, rows
from tests.support.servers import HOST, open_directory, run_nginx

ROWS = list(rows())
NUMBERS = {row: number for number, row in enumerate(ROWS)}


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a server with a repository for each row, called by its number."""
    with open_directory() as place:
        (place / "blobs").mkdir()
        built = [*BUILT.values(), SUBJECT]
        for digest, data in [item for each in built for item in each.blobs.items()]:
            (place / "blobs" / digest).write_bytes(data)
        shared = {digest: manifest for each in built for digest, manifest in each.manifests.items()}
        locations = [manifest(place, f"[0-9]+/manifests/{digest}", *shared[digest]) for digest in shared]
        for row, number in NUMBERS.items():
            digest = f"sha256:{hashlib.sha256(row.raw).hexdigest()}"
            locations.append(manifest(place, f"{number}/manifests/(?:v1|{digest})", row.media_type, row.raw))
        with run_nginx(place, lambda port: configuration(port, place, locations)) as server:
            yield server.address


def manifest(place: Path, path: str, media_type: str, raw: bytes) -> str:
    """A location that serves these bytes with this type."""
    digest = hashlib.sha256(raw).hexdigest()
    (place / digest).write_bytes(raw)
    return f'''location ~ "^/v2/{path}$" {{
        types {{}} default_type "{media_type}"; add_header Docker-Content-Digest sha256:{digest};
        root {place}; try_files /{digest} =404;
    }}'''


def configuration(port: int, place: Path, locations: list[str]) -> str:
    """The whole configuration of nginx."""
    return f"""events {{ }}
http {{
server {{ listen {HOST}:{port};
    location = /v2/ {{ return 200 "{{}}"; }}
    location ~ ^/v2/[0-9]+/blobs/(?<digest>[^/]+)$ {{
        types {{}} default_type application/octet-stream; add_header Docker-Content-Digest $digest;
        alias {place}/blobs/$digest;
    }}
    {chr(10).join(locations)}
}} }}
"""


Pull = Callable[[str, Path], list[str | Path]]


@pytest.fixture(scope="module")
def pull() -> dict[str, Pull]:
    """How each client fetches all that a reference leads to."""
    clients.require("skopeo")
    library = clients.go_program(".", clients.HERE / "image_library")
    containerd = clients.go_program(".", clients.HERE / "containerd_library")
    crane, oras = clients.go_program(clients.CRANE), clients.go_program(clients.ORAS)
    skopeo = ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--src-tls-verify=false"]
    return {
        SKOPEO: lambda name, place: [*skopeo, f"docker://{name}", f"dir:{place}/image"],
        LIBRARY: lambda name, place: [library, f"docker://{name}", f"dir:{place}/image"],
        CONTAINERD: lambda name, place: [containerd, name, place],
        CRANE: lambda name, _: [crane, "validate", "--remote", name],
        ORAS: lambda name, place: [oras, "copy", "--from-plain-http", name, "--to-oci-layout", f"{place}/image:v1"],
    }


def run(command: list[str | Path], home: Path) -> subprocess.CompletedProcess[str]:
    """The end of a client that has a home of its own, and no internet."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.client], ids=str)
def test_the_client_refuses_the_manifest(registry: str, pull: dict[str, Pull], tmp_path: Path, row: Row) -> None:
    done = run(pull[row.client](f"{registry}/{NUMBERS[row]}:v1", tmp_path), tmp_path)
    assert done.returncode != 0
    assert done.stderr


@pytest.mark.parametrize("row", [row for row in ROWS if not row.client], ids=str)
def test_every_client_accepts_the_manifest(registry: str, pull: dict[str, Pull], tmp_path: Path, row: Row) -> None:
    for client, command in pull.items():
        (tmp_path / client).mkdir(parents=True)
        done = run(command(f"{registry}/{NUMBERS[row]}:v1", tmp_path / client), tmp_path)
        assert done.returncode == 0, f"{client}: {done.stderr}"
