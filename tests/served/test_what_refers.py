"""What refers to a manifest, on both servers: recomputed from the manifests, and asked for by type."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.support.builders import Built, referrer, write_artifact, write_image, write_index, write_referrers_tag
from tests.support.fronts import SERVED
from tests.support.http import Answer, request
from tests.support.requests_table import check_referrers_list
from tests.support.runner import export
from tests.support.servers import START, Server, open_directory

TYPES = [
    *("application/vnd.example.signature.v1+json", "application/vnd.example.signature.v1+jso", "text/plain", "a/b"),
    *("application/vnd.example.signature.v1", "A1._-/b_.-+c.d-e_", f"{'a' * 64}/{'b' * 120}+{'c' * 60}", "Text/Plain"),
]
# Types without a file of their own: the whole list is answered, without `OCI-Filters-Applied`.
ODD_TYPES = [
    *(
        "application/x; charset=utf-8",
        "../../tags/list",
        "no type",
        "a/b+c+d",
        "a/b/c",
        "@all",
        "a@b",
        "\u00e9/b",
        "*/*",
    ),
    *(
        "{env.HOME}/b",
        "$scr_root/b",
        "a/b\n",
        "a" * 65 + "/b",
        "~/b",
        "%2e%2e/b",
        "a&b/c",
        "a#b/c",
        "a?b/c",
        "+",
        "a=b",
    ),
]
UNKNOWN = f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class Repository:
    """What the repository `team/app` has: manifests by digest, and what an index under a tag of the schema lists."""

    built: Mapping[str, Built]
    listed: Mapping[str, list[str]]

    def descriptors(self, subject: str) -> list[dict[str, Any]]:
        """What refers to a digest, in the order of digests."""
        found = {digest for digest, each in self.built.items() if _subject(each) == subject}
        return [referrer(self.built[digest]) for digest in sorted(found | set(self.listed.get(subject, ())))]


def _subject(built: Built) -> str | None:
    subject = json.loads(built.raw).get("subject")
    return subject and str(subject["digest"])


def _write(directory: Path) -> Repository:
    app = directory / "team/app"
    image, index = write_image(app / "v1"), write_index(app / "v2", seed=2)
    built = [image, index]
    for seed, artifact_type in enumerate(TYPES + ODD_TYPES, 10):
        annotations = {"org.example.\u00e9": f"{seed} \"<>&'\\"}
        built.append(
            write_artifact(
                app / f"ref-{seed}",
                seed=seed,
                artifact_type=artifact_type,
                empty_config=True,
                subject=image,
                annotations=annotations,
            )
        )
    built.append(write_artifact(app / "chart", seed=3, subject=index))  # the type is its config's
    built.append(write_index(app / "of-index", seed=4, platforms=["amd64"], subject=index, annotations={"a": "b"}))
    built.append(write_artifact(app / "of-chart", seed=5, subject=built[-2], artifact_type="a/b", empty_config=True))
    old = write_artifact(directory / "old", seed=6, artifact_type="a/b", empty_config=True)
    shutil.rmtree(directory / "old")
    write_referrers_tag(app / index.digest.replace(":", "-"), referrers=[old])
    write_image(directory / "other/v1")  # to which nothing refers there
    return Repository({each.digest: each for each in [*built, old]}, {index.digest: [old.digest]})


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def repository(place: Path) -> Repository:
    repository = _write(place / "images")
    export(place / "images", place / "site")
    return repository


@pytest.fixture(scope="module")
def servers(place: Path, repository: Repository) -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(start(place / "site", place)) for name, start in SERVED.items()}


@pytest.fixture(params=SERVED)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


def ask(server: Server, subject: str, query: str = "", *, method: str = "GET", name: str = "team/app") -> Answer:
    return request(server.port, method, f"/v2/{name}/referrers/{subject}{query}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_all_referrers_are_listed(server: Server, repository: Repository, method: str) -> None:
    counts = []
    for subject in [*repository.built, UNKNOWN]:
        expected = repository.descriptors(subject)
        counts.append(len(expected))
        check_referrers_list(ask(server, subject, method=method), method, expected, filtered=False)
    assert sorted(count for count in counts if count) == [1, 3, len(TYPES) + len(ODD_TYPES)]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("artifact_type", [*TYPES, "application/vnd.cncf.helm.config.v1+json", "a/of-nothing"])
def test_referrers_are_filtered_by_type(
    server: Server, repository: Repository, artifact_type: str, method: str
) -> None:
    """However a client writes it: a plus may stand for itself (RFC 3986), and a slash."""
    written = {artifact_type, quote(artifact_type), quote(artifact_type, safe=""), quote_plus(artifact_type)}
    written |= {each.replace("%2F", "%2f").replace("%2B", "%2b") for each in written}
    for subject in [*repository.built, UNKNOWN]:
        expected = [each for each in repository.descriptors(subject) if each.get("artifactType") == artifact_type]
        for each in sorted(written):
            for query in (f"?artifactType={each}", f"?x=y&artifactType={each}&z"):
                check_referrers_list(ask(server, subject, query, method=method), method, expected, filtered=True)


@pytest.mark.parametrize("artifact_type", [*ODD_TYPES, "", "..", "a/" + "b" * 5000])
def test_an_unknown_type_is_not_filtered_by(server: Server, repository: Repository, artifact_type: str) -> None:
    for subject in list(repository.built)[:2]:
        answer = ask(server, subject, f"?artifactType={quote(artifact_type, safe='')}")
        check_referrers_list(answer, "GET", repository.descriptors(subject), filtered=False)


@pytest.mark.parametrize("start", ["//v2/", "/v2//", "/./v2/"])
def test_referrers_are_listed_where_a_client_doubles_a_slash(
    server: Server, repository: Repository, start: str
) -> None:
    """Servers merge slashes. What is found must not depend on them: an empty list would hide a signature."""
    subject = next(digest for digest, each in repository.built.items() if repository.descriptors(digest))
    paths = (f"{each}team/app/referrers/{subject}" for each in ("/v2/", start))
    plain, doubled = (request(server.port, "GET", path) for path in paths)
    assert (doubled.status, doubled.body) == (plain.status, plain.body)


def test_another_repository_has_no_referrers(server: Server, repository: Repository) -> None:
    for subject in repository.built:
        check_referrers_list(ask(server, subject, name="other"), "GET", [], filtered=False)
        assert ask(server, subject, name="nobody").codes == ["NAME_UNKNOWN"]


def test_removed_and_added_referrers_are_seen_at_once(open_tmp: Path) -> None:
    images, site = open_tmp / "images", open_tmp / "site"
    repository = _write(images)
    export(images, site)
    index = next(iter(repository.listed))
    with START["nginx"](site, open_tmp) as nginx, START["caddy"](site, open_tmp) as caddy:
        gone = f"sha256:{hashlib.sha256((images / 'team/app/chart/manifest.json').read_bytes()).hexdigest()}"
        shutil.rmtree(images / "team/app/chart")
        new = write_artifact(images / "team/app/new", seed=7, subject=repository.built[index])
        export(images, site)
        kept = {digest: each for digest, each in repository.built.items() if digest != gone}
        expected = Repository(kept | {new.digest: new}, repository.listed).descriptors(index)
        for server in (nginx, caddy):
            check_referrers_list(ask(server, index), "GET", expected, filtered=False)
