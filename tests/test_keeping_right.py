"""What an export mends in a site, and what it remembers of files from one run to the next."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.runner import ENVIRONMENT, assert_whole, codes, export, inodes, listing, start, wait


def blob_of(images: Path, path: str) -> Path:
    """The largest blob of an image."""
    return max(
        (each for each in (images / path).iterdir() if len(each.name) == 64), key=lambda each: each.stat().st_size
    )


@pytest.mark.parametrize(
    "which", ["v2", "v2/app/blobs", "v2/app/manifests", "v2/app/tags", "manifest", "pages", "list"]
)
def test_directories_and_files_that_a_web_server_cannot_read_are_mended(images: Path, site: Path, which: str) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site).chmod(0o750)
    path = {
        "manifest": next(site.glob("v2/app/manifests/*@*")),
        "pages": next(site.glob("v2/app/tags/_pages@*")),
        "list": next(site.glob("v2/app/tags/_pages@*/@all")),
    }.get(which, site / which)
    path.chmod(path.stat().st_mode & ~0o077)
    assert wait(start("verify", site)).returncode == 1
    assert export(images, site)["faults"] == []
    assert wait(start("verify", site)).returncode == 0
    assert stat.S_IMODE(site.stat().st_mode) == 0o750  # SITE itself is the operator's


def test_a_file_of_images_that_is_closed_later_is_replaced_by_a_copy(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    source = blob_of(images, "app/v1")
    source.chmod(0o600)
    report = export(images, site)
    assert report["files"]["copied"] + report["files"]["reflinked"] == 1
    assert report["why_copied"] == {"not readable by all in IMAGES": 1}
    copy = site / "v2/app/blobs" / f"sha256:{source.name}"
    assert (stat.S_IMODE(copy.stat().st_mode), stat.S_IMODE(source.stat().st_mode)) == (0o644, 0o600)
    assert not any(export(images, site)["files"].values())


def test_a_stray_file_in_a_manifests_directory_is_removed(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    directory = next(site.glob("v2/app/manifests/*@*"))
    (directory / "x@y").write_text("stray")
    (directory / "deeper").mkdir()
    export(images, site)
    assert [path.name for path in directory.iterdir()] == [directory.name]


def test_manifests_edited_in_place_are_not_answered_under_their_old_digest(images: Path, site: Path) -> None:
    old = write_image(images / "app/v1")
    export(images, site)
    other = images.parent / "stick/app/v1"
    new = write_image(other, seed=2)
    subprocess.run(["cp", "-r", f"{images.parent}/stick/.", f"{images}/"], check=True)
    report = export(images, site)
    assert [(each["code"], each["in"]) for each in report["warnings"]] == [("edited", "SITE")]
    assert "cp --remove-destination" in report["warnings"][0]["remedy"]
    assert not list(site.glob(f"v2/app/manifests/*@{old.digest}"))
    assert list(site.glob(f"v2/app/manifests/*@{new.digest}"))
    assert wait(start("verify", site)).returncode == 0
    subprocess.run(["cp", "-r", "--remove-destination", f"{images.parent}/stick/.", f"{images}/"], check=True)  # remedy
    assert export(images, site)["warnings"] == []


@pytest.mark.parametrize("prune", [True, False])
def test_a_blob_edited_in_place_is_not_answered_under_its_digest(images: Path, site: Path, prune: bool) -> None:
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    blob = blob_of(images, "app/v1")
    kept = images.parent / "kept"
    os.link(blob, kept)
    shutil.rmtree(images / "app/v1")
    if prune:
        export(images, site)  # it is unreferenced now, and stays for running pulls
        kept.write_bytes(b"?" + kept.read_bytes()[1:])
        report = export(images, site)
        assert [each["code"] for each in report["warnings"]] == ["edited"]
        assert not (site / "v2/app/blobs" / f"sha256:{blob.name}").exists()
    else:
        export(images, site, "--no-prune")
        assert (site / "v2/app/blobs" / f"sha256:{blob.name}").exists()


def test_an_unreferenced_blob_that_was_only_touched_stays(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    blob = site / "v2/app/blobs" / f"sha256:{blob_of(images, 'app/v1').name}"
    shutil.rmtree(images / "app/v1")
    export(images, site)
    os.utime(blob)
    assert export(images, site)["warnings"] == []
    assert blob.exists()


def test_a_failed_run_notes_what_it_verified(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    (images / "bad").symlink_to("app")
    first = export(images, site, status=1)
    assert codes(first) == {("bad", "link")}
    assert not (site / "v2").exists()
    (images / "bad").unlink()
    assert export(images, site)["hashed"] == 0
    assert_whole(site)
    assert built.blobs


def test_a_dry_run_writes_nothing(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    write_image(images / "app/v2", seed=2)
    (images / "bad").symlink_to("app")
    before = listing(site)
    export(images, site, "--dry-run", status=1)
    assert listing(site) == before
    export(images, site / "new", "--dry-run", status=1)
    assert not (site / "new").exists()


def test_of_many_copies_of_a_digest_one_is_hashed(images: Path, site: Path) -> None:
    for number in range(5):
        built = write_image(images / f"app/v{number}")
    assert export(images, site)["hashed"] == sum(map(len, built.blobs.values()))


def test_a_damaged_copy_is_a_warning_where_another_is_sound(images: Path, site: Path) -> None:
    for number in range(3):
        built = write_image(images / f"app/v{number}")
    damaged = blob_of(images, "app/v0")
    data = damaged.read_bytes()
    damaged.write_bytes(b"?" + data[1:])
    report = export(images, site)
    assert [(each["path"], each["code"]) for each in report["warnings"]] == [("app/v0", "digest")]
    assert "is damaged" in report["warnings"][0]["what"]
    assert_whole(site)
    for number in (1, 2):
        path = images / f"app/v{number}" / damaged.name
        path.unlink()
        path.write_bytes(b"?" + data[1:])
    failed = export(images, site, status=1)
    assert codes(failed) == {(f"app/v{number}", "digest") for number in range(3)}
    assert built.blobs


@pytest.mark.parametrize("options", [[], ["--verify", "size"]])
def test_a_new_copy_that_sorts_first_relinks_nothing(images: Path, site: Path, options: list[str]) -> None:
    built = write_image(images / "b/v1")
    export(images, site, *options)
    before = {digest: inodes(site / "v2", digest) for digest in built.blobs}
    write_image(images / "a/v1")
    report = export(images, site, *options)
    assert not any(report["changed"][noun] for noun in ("blobs", "manifests"))
    assert report["hashed"] == 0
    assert {digest: inodes(site / "v2", digest) for digest in built.blobs} == before


def test_what_verify_finds_damaged_is_hashed_by_the_next_export(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    blob = blob_of(images, "app/v1")
    status = blob.stat()
    blob.write_bytes(b"?" + blob.read_bytes()[1:])
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` of a damaged backup
    assert export(images, site)["hashed"] == 0
    assert wait(start("verify", site)).returncode == 1
    assert codes(export(images, site, status=1)) == {("app/v1", "digest")}


def test_verify_changes_nothing_where_all_is_sound(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = listing(site)
    assert wait(start("verify", site)).returncode == 0
    assert listing(site) == before


def test_the_state_is_closed_to_other_users(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    (site / ".scr-export").mkdir(parents=True, mode=0o755)
    (site / ".scr-export/lock").touch(mode=0o644)
    export(images, site)
    assert stat.S_IMODE((site / ".scr-export").stat().st_mode) == 0o700
    assert stat.S_IMODE((site / ".scr-export/lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_closed_streams_do_not_matter(images: Path, site: Path, closed: str) -> None:
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
def test_a_full_disk_behind_stdout_is_one_line(images: Path, site: Path, arguments: list[str]) -> None:
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


def test_verify_of_nothing_prints_json_too(tmp_path: Path) -> None:
    done = wait(start("verify", "--json", tmp_path / "nowhere"))
    assert done.returncode == 1
    assert '"error"' in done.stdout
