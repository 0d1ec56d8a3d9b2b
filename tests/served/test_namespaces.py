"""`?ns=HOST`, by which containerd and docker say which registry they ask a mirror for (many upstreams in one site)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.builders import Built, write_artifact, write_image
from tests.support.fronts import SERVED
from tests.support.http import Answer, request
from tests.support.requests_table import MOVES, SECRET, check_list, check_manifest
from tests.support.runner import export
from tests.support.servers import Server, open_directory

UPSTREAMS = ("docker.io", "quay.io", "localhost_5000", "r.example_443", "0")
TAGS = ["0", "1", "2", "3"]
DOCKER, LOCAL, PORT = "docker.io", "localhost:5000", "r.example%3A443"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def images(place: Path) -> Mapping[str, Built]:
    """The same path below several upstreams, another image each; and beside them without one."""
    built, seed = {}, 1
    for upstream in ("", *(f"{each}/" for each in UPSTREAMS)):
        for tag in TAGS:
            name = f"{upstream}library/app"
            built[f"{name}:{tag}"] = write_image(place / "images" / name / tag, seed=seed)
            seed += 1
    built["library/only:1"] = write_image(place / "images/library/only/1", seed=seed)
    built["docker.io/docker.io/app:1"] = write_image(place / "images/docker.io/docker.io/app/1", seed=seed + 1)
    write_artifact(place / "images/docker.io/library/app/ref", seed=99, subject=built["docker.io/library/app:1"])
    export(place / "images", place / "site")
    for name in ("secret", "v2/secret", ".scr-export/secret"):
        (place / "site" / name).write_bytes(SECRET)
    return built


@pytest.fixture(scope="module", params=SERVED)
def server(request: pytest.FixtureRequest, place: Path, images: Mapping[str, Built]) -> Iterator[Server]:
    with SERVED[request.param](place / "site", place) as server:
        yield server


def check_from(answer: Answer, images: Mapping[str, Built], reference: str) -> None:
    """The answer is the manifest of that reference."""
    image = images[reference]
    check_manifest(answer, "GET", image.media_type, image.digest, image.raw, MOVES)


@pytest.mark.parametrize(
    ("path", "ns", "reference"),
    [
        # below the upstream
        ("library/app/manifests/1", "docker.io", "docker.io/library/app:1"),
        ("library/app/manifests/0", "quay.io", "quay.io/library/app:0"),
        ("library/app/manifests/1", "localhost:5000", "localhost_5000/library/app:1"),
        ("library/app/manifests/1", "localhost%3A5000", "localhost_5000/library/app:1"),
        ("library/app/manifests/1", "localhost%3a5000", "localhost_5000/library/app:1"),
        ("library/app/manifests/1", "r.example:443", "r.example_443/library/app:1"),
        ("library/app/manifests/1", "0", "0/library/app:1"),
        # the path says it already
        ("docker.io/library/app/manifests/2", "docker.io", "docker.io/library/app:2"),
        ("localhost_5000/library/app/manifests/2", "localhost:5000", "localhost_5000/library/app:2"),
        ("docker.io/app/manifests/1", "docker.io", None),
        # another upstream in the path
        ("quay.io/library/app/manifests/2", "docker.io", None),
        # no such upstream
        ("library/app/manifests/3", "gcr.io", "library/app:3"),
        ("library/app/manifests/3", "docker.io:5000", "library/app:3"),
        ("library/app/manifests/3", "localhost", "library/app:3"),
        ("docker.io/library/app/manifests/3", "quay.example", "docker.io/library/app:3"),
        ("library/app/manifests/3", "", "library/app:3"),
        # never from elsewhere
        ("library/only/manifests/1", "docker.io", None),
        ("library/only/manifests/1", "gcr.io", "library/only:1"),
    ],
)
def test_a_manifest_comes_from_its_upstream(
    server: Server, images: Mapping[str, Built], path: str, ns: str, reference: str | None
) -> None:
    for query in (f"ns={ns}", f"x=y&ns={ns}", f"ns={ns}&z"):
        answer = request(server.port, "GET", f"/v2/{path}?{query}")
        if reference is None:
            assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])
        else:
            check_from(answer, images, reference)


def test_everything_of_a_repository_comes_from_its_upstream(server: Server, images: Mapping[str, Built]) -> None:
    image = images["docker.io/library/app:1"]
    below = "/v2/library/app"
    for digest in image.manifests:
        assert request(server.port, "HEAD", f"{below}/manifests/{digest}?ns=docker.io").status == 200
        assert request(server.port, "HEAD", f"{below}/manifests/{digest}?ns=quay.io").status == 404
    for digest, data in image.blobs.items():
        assert request(server.port, "GET", f"{below}/blobs/{digest}?ns=docker.io").body == data
        assert request(server.port, "HEAD", f"{below}/blobs/{digest}?ns=quay.io").status == 404
    path = f"{below}/referrers/{image.digest}"
    for ns, count in (("docker.io", 1), ("quay.io", 0), ("gcr.io", 0)):
        answer = request(server.port, "GET", f"{path}?ns={ns}")
        assert len(json.loads(answer.body)["manifests"]) == count


def test_a_link_carries_the_resolved_path(server: Server) -> None:
    """So the client needs no `ns` to follow it."""
    path, found = "/v2/library/app/tags/list?ns=docker.io&n=1", []
    while path:
        answer = request(server.port, "GET", path)
        check_list(answer, "GET", {"name": "docker.io/library/app", "tags": json.loads(answer.body)["tags"]})
        found += json.loads(answer.body)["tags"]
        link = re.fullmatch('<([^<>]*)>; rel="next"', answer.one("Link") or "")
        assert link is None or link[1].startswith("/v2/docker.io/library/app/tags/list?n=1&last=")
        path = link[1] if link else ""
    assert found == [*TAGS, "ref"]


def test_the_whole_list_comes_from_its_upstream(server: Server) -> None:
    answer = request(server.port, "GET", "/v2/library/app/tags/list?ns=quay.io")
    check_list(answer, "GET", {"name": "quay.io/library/app", "tags": TAGS})


@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/_catalog", "/v2/_catalog?n=1"])
def test_the_catalog_and_the_api_version_have_no_upstream(server: Server, path: str) -> None:
    plain = request(server.port, "GET", path)
    joined = "&" if "?" in path else "?"
    answer = request(server.port, "GET", f"{path}{joined}ns=docker.io")
    assert (plain.status, plain.body, plain.all("Link")) == (answer.status, answer.body, answer.all("Link"))


HOSTILE = [
    *("..", ".", "/", "../..", "..%2f..", "%2e%2e", "docker.io/..", "docker.io%2f..%2fquay.io", "docker.io/library"),
    *(
        "../.scr-export",
        "..%2f.scr-export",
        ".scr-export",
        "_",
        "_pages",
        "_catalog",
        "@",
        "*",
        "%2a",
        "docker.*",
        "[a-z]",
    ),
    *(
        "docker.io%00",
        "docker.io%0a",
        "%0adocker.io",
        "docker.io%20",
        "docker.io%0d%0aX-Evil:%201",
        "%ff",
        "\xff",
        "{env.HOME}",
    ),
    *(
        "$document_root",
        "{http.request.uri}",
        "%7bhttp.vars.root%7d",
        "DOCKER.IO",
        "docker..io:",
        "docker.io:",
        ":5000",
    ),
    *(
        "localhost:5000:1",
        "localhost:x",
        "localhost_5000",
        "docker.io%253A1",
        "a" * 300,
        "a." * 3000,
        ".docker.io",
        "-",
    ),
    *("docker.io?", "docker.io#x", "http://docker.io", "user@docker.io", "[::1]:5000", "docker.io&ns=quay.io"),
]


@pytest.mark.parametrize("ns", HOSTILE, ids=lambda each: ascii(each)[:40])
def test_a_hostile_upstream_reaches_no_other_file(server: Server, images: Mapping[str, Built], ns: str) -> None:
    """It is ignored, or the name that it begins with is taken: nothing but a reference of the site is served."""
    served = {image.digest for reference, image in images.items() if reference.endswith("library/app:1")}
    answer = request(server.port, "GET", f"/v2/library/app/manifests/1?ns={ns}".encode("latin-1"))
    assert answer.status == 400 or set(answer.all("Docker-Content-Digest")) <= served
    assert answer.status in (200, 400, 404)
    for path in ("secret", "v2/secret", "nginx.conf", "x/../secret", "library/app/secret", "_catalog/manifests/1"):
        answer = request(server.port, "GET", f"/v2/{path}?ns={ns}".encode("latin-1"))
        assert answer.status in (400, 404)
        assert SECRET not in answer.body
    assert answer.all("X-Evil") == []


@pytest.mark.parametrize(
    "path",
    [
        "library/app/manifests/1%3fx",
        "library/app/manifests/1%2531",
        "library/app%3f/manifests/1",
        "library/app/manifests/1%23",
        "library/app/manifests/%7benv.HOME%7d",
        "library/app/manifests/1%0a",
        "x%2f%2e%2e/secret",
    ],
)
def test_a_malformed_path_is_refused_with_an_upstream(server: Server, path: str) -> None:
    for ns in (DOCKER, LOCAL, PORT, "gcr.io"):
        answer = request(server.port, "GET", f"/v2/{path}?ns={ns}")
        assert answer.status in (400, 404)
        assert SECRET not in answer.body


def test_an_upstream_is_added_and_removed_without_a_reload(
    server: Server, images: Mapping[str, Built], place: Path
) -> None:
    answer = request(server.port, "GET", "/v2/library/app/manifests/1?ns=new.example")
    check_from(answer, images, "library/app:1")
    (place / "site/v2/new.example").mkdir()
    try:
        answer = request(server.port, "GET", "/v2/library/app/manifests/1?ns=new.example")
        assert answer.codes == ["NAME_UNKNOWN"]
    finally:
        (place / "site/v2/new.example").rmdir()


def test_a_method_other_than_a_pull_is_refused_with_an_upstream(server: Server) -> None:
    for path in ("library/app/manifests/1", "library/app/blobs/uploads/", ""):
        answer = request(server.port, "POST", f"/v2/{path}?ns={quote(LOCAL, safe='')}")
        assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])
