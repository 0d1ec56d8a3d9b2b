"""The contract of the command line: words in, exit status out."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import scr_export
from tests.support.builders import write_image
from tests.support.endless import image_without_end
from tests.support.runner import assert_whole, export, listing, run, start, substance, wait
from tests.support.waiting import wait_until


def wait_until_held(site: Path, process: subprocess.Popen[str]) -> None:
    """Wait until this process holds the site."""
    lock = site / ".scr-export/lock"
    wait_until(lambda: lock.exists() and f"process {process.pid} " in lock.read_text(), process)


def has_open(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether a process has a file open."""
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if descriptor.readlink() == path:
                return True
    return False


@pytest.fixture
def slow(images: Path, site: Path) -> Iterator[subprocess.Popen[str]]:
    """An export that holds the site, and hashes for hours."""
    write_image(images / "app/v1")
    layer = image_without_end(images)
    process = start(images, site)
    try:
        wait_until(lambda: has_open(process, layer), process)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_export_with_one_line(
    images: Path, site: Path, slow: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    before = substance(images)
    slow.send_signal(number)
    began = time.monotonic()
    process = wait(slow)
    assert time.monotonic() - began < 10
    assert process.returncode == status
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1
    assert ("interrupted" if number == signal.SIGINT else "terminated") in process.stderr
    assert not (site / "v2").exists()
    assert substance(images) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_the_old_site_and_no_lock(
    images: Path, site: Path, number: signal.Signals
) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = substance(site / "v2")
    write_image(images / "app/v1", seed=2)
    image_without_end(images)
    slow = start(images, site)
    wait_until_held(site, slow)
    slow.send_signal(number)
    assert wait(slow).returncode in (130, 143, -signal.SIGKILL)
    assert substance(site / "v2") == before
    (images / "slow/v1").rename(images.parent / "slow")
    export(images, site, "--grace", "0")  # no stale lock
    assert_whole(site)


def test_a_second_export_ends_while_one_is_running(images: Path, site: Path, slow: subprocess.Popen[str]) -> None:
    before = listing(site)
    process = run(images, site)
    assert process.returncode == 3
    assert process.stdout == ""
    assert re.fullmatch(rf"scr-export: .*: held by process {slow.pid} on \S+; .*\n", process.stderr)
    assert listing(site) == before
    report = export(images, site, status=3)
    assert f"process {slow.pid}" in report["error"]
    assert slow.poll() is None


def test_the_status_is_0_after_a_success_and_1_after_a_fault(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    assert run(images, site).returncode == 0
    (images / "app/v1/manifest.json").unlink()
    assert run(images, site).returncode == 1
    assert run(images, site, "--keep-going").returncode == 1
    assert run(images, site, "--dry-run").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["IMAGES"],
        ["IMAGES", "SITE", "MORE"],
        ["--unknown", "IMAGES", "SITE"],
        ["--grace", "-1", "IMAGES", "SITE"],
        ["--grace", "soon", "IMAGES", "SITE"],
        ["--grace", "nan", "IMAGES", "SITE"],
        ["--jobs", "0", "IMAGES", "SITE"],
        ["--jobs", "many", "IMAGES", "SITE"],
        ["--verify", "none", "IMAGES", "SITE"],
        ["--name-prefix", "Upper", "IMAGES", "SITE"],
        ["--name-prefix", "a/", "IMAGES", "SITE"],
        ["--name-prefix", "a/../b", "IMAGES", "SITE"],
        ["NOWHERE", "SITE"],
        ["FILE", "SITE"],
        ["IMAGES", "IMAGES"],
        ["IMAGES", "IMAGES/site"],
        ["IMAGES/app", "IMAGES"],
        ["IMAGES", "LINK/site"],
        ["LINK", "IMAGES"],
        ["", "SITE"],
        ["IMAGES", ""],
    ],
)
def test_wrong_usage_ends_with_status_2(images: Path, site: Path, arguments: list[str]) -> None:
    write_image(images / "app/v1")
    (images.parent / "link").symlink_to(images)
    (images.parent / "file").touch()
    words = {"IMAGES": images, "SITE": site, "LINK": images.parent / "link", "FILE": images.parent / "file"}
    before = substance(images.parent)
    process = wait(start(*(re.sub("IMAGES|SITE|LINK|FILE", lambda word: str(words[word[0]]), a) for a in arguments)))
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr
    assert substance(images.parent) == before


def test_a_directory_that_is_no_site_is_refused(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    (site / "v2").mkdir(parents=True)
    (site / "precious").write_text("mine")
    before = listing(site)
    for options in ([], ["--dry-run"], ["--keep-going"]):
        process = run(images, site, *options)
        assert process.returncode == 1
        assert "not a site" in process.stderr
        assert len(process.stderr.splitlines()) == 1
        assert listing(site) == before


def test_a_site_of_another_version_is_refused(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    for text in ("0\n", "2\n", "", "1"):
        (site / ".scr-export/format").write_text(text)
        before = listing(site)
        assert "version" in export(images, site, status=1)["error"]
        assert listing(site) == before


def test_a_site_that_is_a_file_is_refused(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    site.write_text("mine")
    process = run(images, site)
    assert process.returncode in (1, 2)
    assert len(process.stderr.splitlines()) == 1
    assert site.read_text() == "mine"


def test_an_empty_directory_a_link_to_one_and_lost_and_found_are_accepted_as_site(images: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    for name in ("empty", "linked", "disk/lost+found"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("linked")
    for name in ("empty", "link", "disk"):
        export(images, tmp_path / name)
        export(images, tmp_path / name)
        assert_whole(tmp_path / name)
    assert (tmp_path / "link").is_symlink()


def test_files_of_the_operator_in_a_site_are_left_as_they_are(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / "index.html").write_text("mine")
    (site / "more").mkdir()
    export(images, site, "--grace", "0")
    assert (site / "index.html").read_text() == "mine"
    assert (site / "more").is_dir()


def test_export_is_the_default_command(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    process = wait(start("export", images, site, "--json"))
    assert process.returncode == 0
    assert json.loads(process.stdout)["images"] == 1
    process = wait(start(images, site, "--json"))  # options may stand behind
    assert json.loads(process.stdout)["unchanged"] > 0


def test_relative_paths_are_accepted(images: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(images / "app/v1")
    monkeypatch.chdir(images.parent)
    export("images", "site")
    export("./images/", "./site/")
    monkeypatch.chdir(images)
    export(".", "../site")
    assert_whole(site)
    assert run(".", "./site").returncode == 2


def test_help_and_version_are_printed() -> None:
    process = wait(start("--version"))
    assert (process.returncode, process.stdout) == (0, f"{scr_export.__version__}\n")
    process = wait(start("--help"))
    assert process.returncode == 0
    assert "export" in process.stdout
    process = wait(start("export", "--help"))
    assert process.returncode == 0
    for option in (
        "--name-prefix",
        "--dry-run",
        "--json",
        "--jobs",
        "--verify",
        "--keep-going",
        "--no-prune",
        "--grace",
    ):
        assert option in process.stdout
    assert wait(start()).returncode == 2


def test_a_closed_pipe_causes_no_traceback(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    process = start(images, site)
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    assert wait(process).returncode in (0, 1)
    assert_whole(site)


@pytest.mark.parametrize("jobs", ["1", "7"])
def test_every_number_of_jobs_hashes_every_blob(images: Path, site: Path, jobs: str) -> None:
    """Large and small blobs are hashed once, and each is reported when one of its bytes differs."""
    blobs: dict[Path, bytes] = {}
    for name, size in (("large", 2**20), ("small", 2**10)):
        built = write_image(images / name / "v1", seed=size, layer_size=size)
        blobs |= {images / name / "v1" / digest[7:]: blob for digest, blob in built.blobs.items()}
    assert {len(blob) > 2**20 for blob in blobs.values()} == {True, False}
    assert export(images, site, "--jobs", jobs)["hashed"] == sum(map(len, blobs.values()))
    assert_whole(site)
    for file, blob in blobs.items():
        file.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    faults = export(images, site, "--jobs", jobs, status=1)["faults"]
    assert sorted(fault["what"].split()[0] for fault in faults) == sorted(file.name for file in blobs)


@pytest.mark.parametrize("flag", ["--server-root", "--server-root=/srv", "--omit-constants", "--only-constants"])
def test_an_option_of_the_predecessor_is_answered_by_one_sentence(images: Path, site: Path, flag: str) -> None:
    write_image(images / "app/v1")
    ended = run(images, site, flag)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"scr-export: --[a-z-]+ is not needed: .+\n", ended.stderr)
    assert not site.exists()
