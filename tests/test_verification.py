"""Which files an export hashes, and what it does with files whose bytes have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.builders import blob_of, write_image
from tests.support.runner import assert_whole, codes, export, listing, start, wait


def test_only_new_files_are_hashed(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    built = write_image(images / "app/v2", seed=2)
    report = export(images, site)
    assert report["hashed"] == sum(map(len, built.blobs.values()))
    assert report["added"] == {"tags": 1, "manifests": 1, "blobs": 3, "lists": 0, "other": 0}
    assert report["changed"]["lists"] == 1


def test_verify_size_hashes_no_blob_and_verify_digest_does(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    file = images / "app/v1" / max(built.blobs, key=lambda digest: len(built.blobs[digest]))[7:]
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    report = export(images, site, "--verify", "size")
    assert report["hashed"] == 0
    failure = export(images, site, status=1)  # what was not hashed is not taken for verified
    assert [fault["code"] for fault in failure["faults"]] == ["digest"]
    assert file.name in failure["faults"][0]["what"]
    file.write_bytes(data)
    others = sum(len(blob) for digest, blob in built.blobs.items() if digest[7:] != file.name)
    assert export(images, site)["hashed"] == sum(map(len, built.blobs.values())) - others  # noted by the failed run


def test_a_blob_edited_in_place_is_hashed_again(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    export(images, site)
    file = images / "app/v1" / next(iter(built.blobs))[7:]
    data = file.read_bytes()
    file.write_bytes(b"?" + data[1:])
    assert [fault["code"] for fault in export(images, site, status=1)["faults"]] == ["digest"]


def test_a_failed_export_notes_what_it_verified(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    (images / "bad").symlink_to("app")
    first = export(images, site, status=1)
    assert codes(first) == {("bad", "link")}
    assert not (site / "v2").exists()
    (images / "bad").unlink()
    assert export(images, site)["hashed"] == 0
    assert_whole(site)
    assert built.blobs


def test_one_of_many_copies_is_hashed(images: Path, site: Path) -> None:
    for number in range(5):
        built = write_image(images / f"app/v{number}")
    assert export(images, site)["hashed"] == sum(map(len, built.blobs.values()))


def test_a_damaged_copy_is_a_warning_while_another_is_sound(images: Path, site: Path) -> None:
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


def test_the_next_export_hashes_what_verify_found_damaged(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    blob = blob_of(images, "app/v1")
    status = blob.stat()
    blob.write_bytes(b"?" + blob.read_bytes()[1:])
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` of a damaged backup
    assert export(images, site)["hashed"] == 0
    assert wait(start("verify", site)).returncode == 1
    assert codes(export(images, site, status=1)) == {("app/v1", "digest")}


def test_verify_changes_nothing_in_a_sound_site(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = listing(site)
    assert wait(start("verify", site)).returncode == 0
    assert listing(site) == before
