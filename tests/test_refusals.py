"""The exporter refuses what a client refuses, and takes what every client takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.builders import Built, link_image, write_artifact, write_image, write_index
from tests.support.manifests_table import BUILT, SUBJECT, Kind, Row, rows
from tests.support.runner import export

ROWS = list(rows())
REFUSED, TAKEN = [row for row in ROWS if row.client], [row for row in ROWS if not row.client]
WRITE: dict[Kind, Callable[[Path], Built]] = {
    "image": write_image,
    "docker": partial(write_image, docker=True),
    "index": write_index,
    "list": partial(write_index, docker=True),
    "artifact": write_artifact,
}


def write_rows(place: Path, images: Path, chosen: list[Row]) -> None:
    """Write an image for each row, in a repository of its own with its subject beside it."""
    for kind, write in WRITE.items():
        assert write(place / kind) == BUILT[kind]
    assert write_artifact(place / "subject", seed=9) == SUBJECT
    for number, row in enumerate(chosen):
        link_image(place / row.kind, images / f"{number}/v1")
        (images / f"{number}/v1/manifest.json").unlink()
        (images / f"{number}/v1/manifest.json").write_bytes(row.raw)
        link_image(place / "subject", images / f"{number}@{SUBJECT.digest}")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[Row, str]:
    """What an export says of each row that a client refuses."""
    place = tmp_path_factory.mktemp("refused")
    write_rows(place, place / "images", REFUSED)
    reported: dict[str, list[str]] = defaultdict(list)
    for fault in export(place / "images", place / "site", "--dry-run", status=1)["faults"]:
        reported[fault["path"]].append(fault["what"])
    return {row: "; ".join(reported[f"{number}/v1"]) for number, row in enumerate(REFUSED)}


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[Row, Path]:
    """Where each row that all clients take is in the site."""
    place = tmp_path_factory.mktemp("taken")
    write_rows(place, place / "images", TAKEN)
    export(place / "images", place / "site")
    return {row: place / "site/v2" / str(number) / "manifests/v1" for number, row in enumerate(TAKEN)}


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_an_export_refuses_what_a_client_refuses(refused: dict[Row, str], row: Row) -> None:
    assert row.says in refused[row]
    assert len(refused[row]) < 500


@pytest.mark.parametrize("row", TAKEN, ids=str)
def test_an_export_accepts_what_every_client_accepts(taken: dict[Row, Path], row: Row) -> None:
    head = taken[row].readlink().name
    assert head.startswith(f"{row.media_type.removeprefix('application/')}@")
    assert (taken[row] / head).read_bytes() == row.raw


def test_each_row_has_a_name_of_its_own() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS)
    assert all(row.says for row in REFUSED)
