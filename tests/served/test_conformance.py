"""The conformance suite of the distribution spec, in the part that is for registries that can only be pulled from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.builders import write_artifact, write_image, write_index
from tests.support.edges import start_edge
from tests.support.fronts import SERVED
from tests.support.runner import export
from tests.support.servers import Server, open_directory

SUITE = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
NAME = "team/app"
RESULT = re.compile(r"^ *OCI Conformance Test/(.+): (\w+)$", re.MULTILINE)
# all at once would end in the suite's own panic, after its report
BRANCHES = ("ping", "empty", "read-only", "missing-manifest", "invalid-digest-format")
SETTINGS = {
    "OCI_TLS": "disabled",
    "OCI_REPO1": NAME,
    "OCI_API_PUSH": "false",
    "OCI_API_BLOBS_DELETE": "false",
    "OCI_API_MANIFESTS_DELETE": "false",
    "OCI_API_TAGS_DELETE": "false",
    # of data that it has not pushed itself, the suite never reads this field where it requires it
    "OCI_API_MANIFESTS_DIGEST_HEADER": "false",
}

Data = dict[str, set[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def data(place: Path) -> Data:
    """What the site has, by the names that the suite has for it."""
    repository = place / "images" / NAME
    built = {
        "1.0": write_image(repository / "1.0", seed=1),
        "1.1": write_image(repository / "1.1", seed=2, docker=True),
        "V2": write_image(repository / "V2", seed=3, algorithm="sha512"),
        "latest": write_index(repository / "latest", seed=4),
    }
    subjects = (built["1.0"], built["latest"])
    referrers = [
        write_artifact(repository / f"sbom-{seed}", seed=seed, empty_config=True, subject=each)
        for seed, each in enumerate(subjects)
    ]
    for seed, each in enumerate(referrers):
        (repository / f"sbom-{seed}").rename(f"{repository}@{each.digest}")
    export(place / "images", place / "site")
    everything = [*built.values(), *referrers]
    return {
        "OCI_RO_DATA_TAGS": set(built),
        "OCI_RO_DATA_MANIFESTS": {digest for each in everything for digest in each.manifests},
        "OCI_RO_DATA_BLOBS": {digest for each in everything for digest in each.blobs},
        "OCI_RO_DATA_REFERRERS": {each.digest for each in subjects},
    }


@pytest.fixture(scope="module", params=[*SERVED, "edge"])
def server(request: pytest.FixtureRequest, data: Data, place: Path) -> Iterator[Server]:
    """What answers for the site: a server, a front, or a cache in front of a server."""
    name = "nginx" if request.param == "edge" else request.param
    with SERVED[name](place / "site", place) as server:
        if request.param != "edge":
            yield server
            return
        with start_edge(place, server.port) as edge:
            yield edge


@pytest.mark.parametrize("version", ["1.0", "1.1", "dev"])
def test_the_conformance_suite_passes(server: Server, data: Data, version: str, tmp_path: Path) -> None:
    """Every test that needs no push has run, once for each tag, manifest and blob, and none is found to fail."""
    settings = SETTINGS | {name: " ".join(sorted(values)) for name, values in data.items()}
    settings |= {"OCI_VERSION": version, "OCI_REGISTRY": server.address, "OCI_RESULTS_DIR": str(tmp_path)}
    results: Counter[tuple[str, str]] = Counter()
    for branch in BRANCHES:
        report = _report(settings | {"OCI_FILTER_TEST": f"OCI Conformance Test/{branch}"})
        assert "\nOCI Conformance Result: Pass\n" in report, report
        results.update(RESULT.findall(report))
    passed = {name: count for (name, result), count in results.items() if result == "Pass"}
    assert passed == _expected(data, referrers=version != "1.0")
    assert {result for _, result in results} == {"Pass", "Disabled"}


def _report(settings: dict[str, str]) -> str:
    """The suite's result for one branch. Its exit status is useless: it is 0 after most errors."""
    return clients.run([str(clients.go_program(SUITE))], settings).stdout


def _expected(data: Data, *, referrers: bool) -> dict[str, int]:
    tags, manifests, blobs = (len(data[f"OCI_RO_DATA_{kind}"]) for kind in ("TAGS", "MANIFESTS", "BLOBS"))
    return {
        "ping": 1,
        "empty": 1,
        "empty/tag list": 1,
        "read-only": 1,
        "read-only/tag-list": 1,
        "read-only/head": 1,
        "read-only/head/manifest-head-by-tag": tags,
        "read-only/head/manifest-head-by-digest": manifests,
        "read-only/head/blob-head": blobs,
        "read-only/pull": 1,
        "read-only/pull/manifest-by-tag": tags,
        "read-only/pull/manifest-by-digest": manifests,
        "read-only/pull/blob-get": blobs,
        "missing-manifest": 1,
        "missing-manifest/by-digest": 1,
        "missing-manifest/by-tag": 1,
        "invalid-digest-format": 1,
        "invalid-digest-format/manifest-get": 1,
        **({"empty/referrers": 1, "read-only/referrers": 1} if referrers else {}),
    }
