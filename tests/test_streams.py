"""Standard output and standard error that are closed or full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.runner import ENVIRONMENT, assert_whole, start, wait


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_an_export_works_with_closed_streams(images: Path, site: Path, closed: str) -> None:
    write_image(images / "app/v1")
    (images / "bad/v1").mkdir(parents=True)
    (images / "bad/v1/manifest.json").write_text("[]")
    redirect = {"stdout": ">&-", "stderr": "2>&-", "both": ">&- 2>&-"}[closed]
    command = f"exec {sys.executable} -m scr_export --keep-going --json {images} {site} {redirect}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 1  # the bad image
    assert ("internal" not in done.stderr, "Traceback" not in done.stderr) == (True, True)
    assert done.stdout == "" if closed != "stderr" else done.stdout.startswith("{")
    assert_whole(site)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["export", "--help"], ["IMAGES", "SITE"]])
def test_a_full_disk_behind_stdout_is_reported_in_one_line(images: Path, site: Path, arguments: list[str]) -> None:
    write_image(images / "app/v1")
    words = [{"IMAGES": str(images), "SITE": str(site)}.get(word, word) for word in arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scr_export", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "scr-export: No space left on device\n"


def test_verify_of_a_missing_site_prints_json(tmp_path: Path) -> None:
    done = wait(start("verify", "--json", tmp_path / "nowhere"))
    assert done.returncode == 1
    assert '"error"' in done.stdout
