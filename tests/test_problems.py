"""How problems are told: those of an image together, warnings apart, counts last."""

from __future__ import annotations

from pathlib import Path

import pytest

from scr_export.problems import Problem, Problems, Severity, by_place
from tests.support.builders import write_image, write_index
from tests.support.runner import export, run, start, wait


def problem(path: str, severity: Severity = "fault") -> Problem:
    return Problem(severity, path, "code", "what", "remedy")


def test_problems_of_one_place_stand_together() -> None:
    found = [problem(path) for path in ("b", "a", "b", "c", "a")]
    assert [each.path for each in by_place(found)] == ["b", "b", "a", "a", "c"]


@pytest.mark.parametrize(
    ("faults", "warnings", "text"),
    [
        (["a"], [], "1 fault"),
        (["a", "b"], [], "2 faults"),
        (["a", "a", "b"], [], "3 faults in 2 images"),
        (["a", "a", "b"], ["a"], "3 faults in 2 images, 1 warning"),
        (["a", "a"], ["a", "b"], "2 faults in 1 image, 2 warnings"),
        ([], ["a", "b", "c"], "3 warnings"),
    ],
)
def test_problems_are_counted(faults: list[str], warnings: list[str], text: str) -> None:
    assert (
        Problems([problem(path) for path in faults], [problem(path, "warning") for path in warnings]).summary() == text
    )


def test_faults_of_the_site_are_in_no_image() -> None:
    faults = [Problem("fault", "v2/x", "code", "what", "remedy", "SITE") for _ in range(3)]
    assert Problems(faults).summary() == "3 faults"


@pytest.fixture
def bad(images: Path) -> Path:
    """Two images that lack blobs, one of them two and the tag of no image, and one without all its platforms."""
    for name, seed in (("one", 1), ("two", 2)):
        built = write_image(images / f"{name}/v1", seed=seed)
        for digest in list(built.blobs)[:seed]:
            (images / f"{name}/v1" / digest[7:]).unlink()
    write_index(images / "sparse/v1", seed=3, sparse=["arm64"])
    write_image(images / "good/v1", seed=4)
    return images


def test_errors_come_first_then_warnings_then_the_counts(bad: Path, site: Path) -> None:
    process = run(bad, site, "--keep-going")
    *lines, last = process.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", f"{bad}/one/v1"],
        ["error", f"{bad}/two/v1"],
        ["error", f"{bad}/two/v1"],
        ["warning", f"{bad}/sparse/v1"],
    ]
    assert all("; " in line for line in lines)  # the remedy
    assert last == "3 faults in 2 images, 1 warning"
    quiet = run(bad, site, "--keep-going", "-q").stderr.splitlines()
    assert quiet == lines[:3]


def test_what_is_found_late_stands_with_the_rest_of_its_image(images: Path, site: Path) -> None:
    for number in (1, 2):
        write_index(images / f"app/v{number}", seed=number, sparse=["arm64"])
    (images / "app/v2/signature-1").write_bytes(b"\x90")  # so v1 is unsigned beside a signed one, which is seen last
    expected = [("app/v1", "sparse"), ("app/v1", "unsigned"), ("app/v2", "sparse")]
    assert [(each["path"], each["code"]) for each in export(images, site)["warnings"]] == expected
    lines = run(images, site).stderr.splitlines()[:3]
    assert [line.split(": ")[1] for line in lines] == [f"{images}/{path}" for path, _ in expected]


def test_a_run_that_stops_has_the_counts_in_its_last_line(bad: Path, site: Path) -> None:
    process = run(bad, site)
    assert process.stderr.splitlines()[-1] == "scr-export: nothing was published: 3 faults in 2 images"
    assert export(bad, site, status=1)["error"] == "nothing was published: 3 faults in 2 images"


def test_few_problems_need_no_count(images: Path, site: Path) -> None:
    for number in range(2):
        write_index(images / f"app/v{number}", seed=number, sparse=["arm64"])
    assert len(run(images, site).stderr.splitlines()) == 2
    write_index(images / "app/v3", seed=3, sparse=["arm64"])
    assert run(images, site).stderr.splitlines()[3:] == ["3 warnings"]


def test_many_problems_of_a_kind_are_counted_where_they_stand(images: Path, site: Path) -> None:
    built = write_image(images / "a/v1", layers=20)
    for digest in built.blobs:
        (images / "a/v1" / digest[7:]).unlink()
    write_image(images / "b/v1", seed=2)
    (images / "b/v1/manifest.json").write_text("[]")
    *lines, last = run(images, site).stderr.splitlines()
    assert [line.startswith(f"error: {images}/a/v1: ") for line in lines] == [True] * 10 + [False] * 2
    assert lines[10] == f"{images}/a/v1: 11 problems more of this kind (missing); --json has all"
    assert lines[11].startswith(f"error: {images}/b/v1: ")
    assert last == "scr-export: nothing was published: 22 faults in 2 images"


def test_verify_counts_faults(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    for blob in site.glob("v2/app/blobs/*"):
        blob.unlink()
    *lines, last = wait(start("verify", site)).stderr.splitlines()
    assert len(lines) == 3
    assert last == "3 faults"
