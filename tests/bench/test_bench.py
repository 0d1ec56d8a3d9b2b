"""The benchmark runs: every row, on trees so small that its figures mean nothing. What they must be is not tested."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import load, trees
from tests.bench.measure import NotMeasured, compared, cost, in_turns
from tests.support.servers import open_directory, start_nginx

_RUN = Path(__file__).with_name("run")
_TIMEOUT = 120  # seconds, of which it needs a tenth


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run([_RUN, *arguments], env=environment, capture_output=True, text=True, timeout=_TIMEOUT)


def test_every_row_is_measured_and_nothing_is_left_behind() -> None:
    with open_directory() as directory:
        process = bench("--tiny", "--directory", directory)
        assert process.returncode == 0, process.stdout + process.stderr
        assert not list(directory.iterdir())
    table = [line.split("|")[1:-1] for line in process.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 34 + 2 * bool(shutil.which("openssl"))
    assert {len(cells) for cells in table} == {6}
    assert "not measured" not in process.stdout
    opened = next(line for line in process.stdout.splitlines() if "blobs opened" in line)
    assert opened.split("|")[2].strip() == "0"
    assert f"first export: {trees.TAGS * trees.BLOBS} " in opened


def test_a_row_that_cannot_be_measured_is_reported_and_the_others_are_measured(tmp_path: Path) -> None:
    """`rsync` fails here, since a program of that name stands before it."""
    broken = tmp_path / "rsync"
    broken.write_text("#!/bin/sh\necho no disk >&2\nexit 7\n")
    broken.chmod(0o755)
    environment = os.environ | {"PYTHON": sys.executable, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.run(
        [_RUN, "--tiny", "--directory", tmp_path, "rsync", "tree"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
    )
    assert process.returncode == 1
    assert "rsync ended with 7: no disk" in process.stdout
    assert "the site's own inodes, an image" in process.stdout


def test_a_missing_environment_is_reported_with_its_remedy() -> None:
    process = subprocess.run([_RUN], env=os.environ | {"PYTHON": "/nowhere/python"}, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (1, "")
    assert "tests/run --quick" in process.stderr


def test_a_tree_is_made_of_images_and_no_two_blobs_are_the_same(tmp_path: Path) -> None:
    trees.write_images(tmp_path, 2 * trees.TAGS)
    manifests = list(tmp_path.glob("*/*/manifest.json"))
    blobs = [path for path in tmp_path.rglob("*") if len(path.name) == 64]
    assert len(manifests) == 2 * trees.TAGS
    assert len({path.name for path in blobs}) == len(blobs) == len(manifests) * trees.BLOBS
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in blobs)
    for manifest in manifests:
        document = json.loads(manifest.read_bytes())
        for descriptor in (document["config"], *document["layers"]):
            blob = manifest.parent / descriptor["digest"].removeprefix("sha256:")
            assert blob.stat().st_size == descriptor["size"]


def test_large_blobs_have_their_sizes(tmp_path: Path) -> None:
    trees.write_large(tmp_path, 5_000_000)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if len(path.name) == 64]
    assert max(sizes) == 5_000_000
    assert 8 * 5_000_000 < sum(sizes) < 9 * 5_000_000


def test_each_pair_of_runs_gives_a_ratio() -> None:
    line = compared("row", [1, 20, 6], "other", [2, 10, 4], goal=1.4, unit=str)
    assert (line.ratio, line.verdict) == ("1.500 (0.500 .. 2.000)", "missed by 0.100")
    assert compared("row", [1], "other", [1], goal=1, unit=str).verdict == "met"


def test_runs_are_in_turns_and_the_first_of_each_does_not_count() -> None:
    order: list[str] = []
    numbers = iter(range(100))

    def noted(name: str) -> int:
        order.append(name)
        return next(numbers)

    assert in_turns(lambda: noted("a"), lambda: noted("b"), 2) == ([2, 4], [3, 5])
    assert order == ["a", "b"] * 3


def test_a_cost_is_what_the_process_and_its_children_took() -> None:
    burn = "import time; memory = bytearray(200_000_000)\nwhile time.process_time() < 0.2: pass"
    taken = cost(["sh", "-c", f"{sys.executable} -c '{burn}'; exit 0"])
    assert taken.cpu >= 0.2
    assert taken.wall >= 0.2
    assert taken.peak >= 200_000_000
    with pytest.raises(NotMeasured, match="sh ended with 3: too bad"):
        cost(["sh", "-c", "echo too bad >&2; exit 3"])


@pytest.mark.parametrize("by", [load.by_wrk, load.by_sockets])
def test_only_good_answers_are_counted(by: Callable[[int, str, int], int]) -> None:
    with open_directory() as directory:
        (directory / "file").write_bytes(b"x" * 300_000)
        log = directory / "requests"
        http = f"access_log {log}; keepalive_requests 1000000;"
        with start_nginx(directory, directory, server=f"root {directory};", http=http) as server:
            answered = by(server.port, "/file", 1)
            assert answered > 16
            with pytest.raises(NotMeasured, match=r"404|Non-2xx"):
                by(server.port, "/absent", 1)
        # nginx writes its log after an answer, so that it is whole only now
        seen = sum(" 200 " in line for line in log.read_text().splitlines())
    assert answered <= seen <= answered + 16
