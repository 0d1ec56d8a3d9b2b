"""Signatures in files of their own, as skopeo writes them, are served as a lookaside; the report counts them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scr_export.commands.export import export as export_here
from scr_export.commands.options import ExportOptions
from scr_export.commands.verify import verify
from scr_export.publish.directory import publish as publishing
from tests.support.builders import Built, write_artifact, write_image, write_index
from tests.support.runner import export

SIMPLE = b"\x90"  # the first byte of an OpenPGP message that is signed
SIGSTORE = b"\0sigstore-json\n{}"
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def sign(directory: Path, *signatures: bytes, of: str = "") -> None:
    """Put signatures beside an image's files; `of` is the digest of a manifest that its index lists."""
    start = f"{of.partition(':')[2]}." if of else ""
    for number, signature in enumerate(signatures, 1):
        (directory / f"{start}signature-{number}").write_bytes(signature)


def lookaside(site: Path, name: str, digest: str) -> list[bytes]:
    """What a client finds: it counts from 1 and stops where nothing is."""
    directory = site / "v2/_sigstore" / f"{name}@{digest.replace(':', '=')}"
    found: list[bytes] = []
    while (path := directory / f"signature-{len(found) + 1}").exists():
        assert path.stat().st_mode & 0o004
        found.append(path.read_bytes())
    return found


def warnings(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["path"], each["code"]) for each in report["warnings"]}


def faults(site: Path) -> set[tuple[str, str]]:
    return {(each.path, each.code) for each in verify(str(site)).problems.faults}


def test_signatures_are_published_by_repository_and_digest(images: Path, site: Path) -> None:
    built = write_index(images / "team/app/1", platforms=["amd64", "arm64"])
    other = next(each for each in built.manifests if each != built.digest)
    sign(images / "team/app/1", SIMPLE + b"a", SIMPLE + b"b")
    sign(images / "team/app/1", SIMPLE + b"c", of=other)
    report = export(images, site)
    assert lookaside(site, "team/app", built.digest) == [SIMPLE + b"a", SIMPLE + b"b"]
    assert lookaside(site, "team/app", other) == [SIMPLE + b"c"]
    assert report["warnings"] == []
    assert faults(site) == set()
    assert verify(str(site)).signatures == 3


def test_a_signature_is_a_hard_link_or_a_copy_that_all_may_read(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", SIMPLE + b"a", SIMPLE + b"b")
    (images / "app/1/signature-2").chmod(0o600)
    export(images, site)
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"a", SIMPLE + b"b"]
    assert (images / "app/1/signature-1").stat().st_nlink == 2
    assert export(images, site)["changed"]["other"] == 0


def test_tags_of_one_manifest_share_their_signatures(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    write_image(images / "app/latest")
    sign(images / "app/1", SIMPLE + b"both", SIMPLE + b"as 1")
    sign(images / "app/latest", SIMPLE + b"as latest", SIMPLE + b"both")
    export(images, site)
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"both", SIMPLE + b"as 1", SIMPLE + b"as latest"]


def test_a_gap_in_the_numbers_is_closed(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    for number in (10, 2, 5):
        (images / f"app/1/signature-{number}").write_bytes(SIMPLE + b"%d" % number)
    export(images, site)
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"2", SIMPLE + b"5", SIMPLE + b"10"]


@pytest.mark.parametrize("odd", ["text", "empty", "link", "directory", "fifo", "large", "format"])
def test_a_file_that_clients_cannot_read_is_left_out_with_a_warning(images: Path, site: Path, odd: str) -> None:
    built = write_image(images / "app/1")
    path = images / "app/1/signature-1"
    sign(images / "app/1", b"", SIMPLE)
    match odd:
        case "text":
            path.write_bytes(b"-----BEGIN PGP MESSAGE-----")
        case "link":
            path.unlink()
            path.symlink_to("signature-2")
        case "directory":
            path.unlink()
            path.mkdir()
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "large":
            path.write_bytes(SIMPLE + bytes(4 * 1024 * 1024))
        case "format":
            path.write_bytes(b"\0other\n{}")
    report = export(images, site)
    assert warnings(report) == {("app/1", "signature")}
    assert lookaside(site, "app", built.digest) == [SIMPLE]


def test_a_signature_of_a_manifest_that_was_not_copied_is_a_warning(images: Path, site: Path) -> None:
    built = write_index(images / "app/1", platforms=["amd64", "arm64"], sparse=["arm64"])
    sign(images / "app/1", SIMPLE, of=f"sha256:{'0' * 64}")
    report = export(images, site)
    assert ("app/1", "signature") in warnings(report)
    assert not (site / "v2/_sigstore").exists()
    assert built.digest


# removal


def test_signatures_leave_with_their_image_after_the_grace_period(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", SIMPLE)
    write_image(images / "app/2", seed=2)
    export(images, site)
    shutil.rmtree(images / "app/1")
    export(images, site)
    assert lookaside(site, "app", built.digest) == [SIMPLE]  # for a pull that has just begun
    assert faults(site) == set()
    export(images, site, "--grace", "0")
    assert not (site / "v2/_sigstore").exists()


def test_a_revoked_signature_leaves_and_the_next_one_takes_its_number(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", SIMPLE + b"a", SIMPLE + b"b")
    export(images, site)
    (images / "app/1/signature-1").unlink()
    export(images, site, "--grace", "0")
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"b"]


@pytest.mark.parametrize(
    ("before", "after"), [("ab", "xab"), ("ab", "xaby"), ("abc", "bc"), ("abc", "c"), ("b", "abcd"), ("abcd", "bd")]
)
def test_a_signature_that_stays_is_found_at_every_instant(
    images: Path, site: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", *(SIMPLE + each.encode() for each in before))
    _export_here(images, site)
    for path in images.glob("app/1/signature-*"):
        path.unlink()
    sign(images / "app/1", *(SIMPLE + each.encode() for each in after))
    seen: list[set[bytes]] = []
    real = publishing._Publisher._place

    def place(self: Any, file: Any, directory: str, name: str, overwrite: bool) -> None:
        real(self, file, directory, name, overwrite)
        seen.append({each[1:] for each in lookaside(site, "app", built.digest)})

    monkeypatch.setattr(publishing._Publisher, "_place", place)
    _export_here(images, site)
    assert seen
    assert all({each.encode() for each in {*before} & {*after}} <= each for each in seen)
    assert lookaside(site, "app", built.digest) == [SIMPLE + each.encode() for each in after]


def _export_here(images: Path, site: Path) -> None:
    export_here(ExportOptions(images=str(images), site=str(site), grace=0))


def test_without_pruning_signatures_stay_and_new_ones_follow(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", SIMPLE + b"a", SIMPLE + b"b")
    export(images, site)
    (images / "app/1/signature-1").unlink()
    (images / "app/1/signature-3").write_bytes(SIMPLE + b"c")
    export(images, site, "--no-prune")
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"a", SIMPLE + b"b", SIMPLE + b"c"]
    shutil.rmtree(images / "app/1")
    write_image(images / "app/2", seed=2)
    export(images, site, "--no-prune")
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"a", SIMPLE + b"b", SIMPLE + b"c"]


def test_a_bad_image_keeps_the_signatures_of_what_the_site_serves_for_it(images: Path, site: Path) -> None:
    built = write_image(images / "app/1")
    sign(images / "app/1", SIMPLE)
    write_image(images / "app/2", seed=2)
    export(images, site)
    (images / "app/1/manifest.json").write_text("{")
    (images / "app/1/signature-1").unlink()
    export(images, site, "--keep-going", "--grace", "0", status=1)
    assert lookaside(site, "app", built.digest) == [SIMPLE]


# counts and warnings


def write_cosign(directory: Path, of: Built, seed: int = 7) -> Built:
    """Write a signature as `cosign sign` does: under a tag that is made of the digest."""
    return write_artifact(directory / f"{of.digest.replace(':', '-')}.sig", seed=seed)


def test_signed_images_are_counted_by_kind(images: Path, site: Path) -> None:
    tagged = write_image(images / "a/1")
    write_cosign(images / "a", tagged)
    old, new = write_image(images / "b/1", seed=2), write_image(images / "c/1", seed=3)
    write_artifact(images / "b/sig", subject=old, artifact_type=COSIGN, seed=8)
    write_artifact(images / "c/sig", subject=new, artifact_type=BUNDLE, seed=9)
    write_image(images / "d/1", seed=4)
    sign(images / "d/1", SIMPLE, SIGSTORE)
    described = write_image(images / "e/1", seed=5)
    write_artifact(images / "e/sbom", subject=described, artifact_type="text/spdx+json", seed=10)
    report = export(images, site)
    assert report["signed"] == {"cosign": 4, "simple": 1}
    assert report["warnings"] == []  # in each repository all are signed, or none is


def test_a_signature_without_its_image_is_a_warning(images: Path, site: Path) -> None:
    signed = write_index(images / "gone/1", platforms=["amd64"])
    write_image(images / "app/1", seed=2)
    signature = write_cosign(images / "app", signed)
    write_artifact(images / "app/bundle", subject=signed, artifact_type=BUNDLE, seed=8)
    assert signature.digest
    shutil.rmtree(images / "gone")
    report = export(images, site)
    tag = f"app/{signed.digest.replace(':', '-')}.sig"
    assert warnings(report) == {(tag, "signature"), ("app/bundle", "signature")}
    assert report["signed"] == {"cosign": 0, "simple": 0}


def test_unsigned_images_beside_signed_ones_are_one_warning(images: Path, site: Path) -> None:
    signed = write_image(images / "app/1")
    write_cosign(images / "app", signed)
    for tag in range(2, 8):
        write_image(images / f"app/{tag}", seed=tag)
    write_image(images / "free/1", seed=20)
    report = export(images, site)
    [warning] = report["warnings"]
    assert (warning["path"], warning["code"]) == ("app/2", "unsigned")
    assert "app:2, app:3, app:4 and 3 more" in warning["what"]


def test_nothing_is_said_of_signatures_where_images_are_bad(images: Path, site: Path) -> None:
    signed = write_image(images / "app/1")
    write_cosign(images / "app", signed)
    write_image(images / "app/2", seed=2)
    (images / "app/1/manifest.json").write_text("{")
    report = export(images, site, "--keep-going", status=1)
    assert report["warnings"] == []


# verify


def test_verify_tells_what_is_wrong_with_signatures(images: Path, site: Path) -> None:
    built, other = write_image(images / "app/1"), f"sha256={'0' * 64}"
    sign(images / "app/1", SIMPLE + b"a", SIMPLE + b"b")
    export(images, site)
    above = site / "v2/_sigstore"
    directory = f"v2/_sigstore/app@{built.digest.replace(':', '=')}"
    (site / directory / "signature-9").write_bytes(SIMPLE)
    (site / directory / "stray").write_bytes(SIMPLE)
    (above / f"app@{other}").mkdir()
    (above / f"app@{other}/signature-1").write_bytes(SIMPLE)
    (site / directory / "signature-2").unlink()
    (site / directory / "signature-2").write_bytes(b"text")
    (site / directory / "signature-1").chmod(0o640)
    assert faults(site) == {
        (f"{directory}/signature-9", "left-over"),
        (f"{directory}/stray", "left-over"),
        (f"v2/_sigstore/app@{other}/signature-1", "left-over"),
        (f"v2/_sigstore/app@{other}", "left-over"),
        (f"{directory}/signature-2", "signature"),
        (f"{directory}/signature-1", "unreadable"),
    }
    export(images, site, "--grace", "0")
    assert faults(site) == set()
    assert lookaside(site, "app", built.digest) == [SIMPLE + b"a", SIMPLE + b"b"]


def test_a_copy_of_a_site_is_sound_with_signatures_in_their_grace_period(images: Path, site: Path) -> None:
    write_image(images / "app/1")
    sign(images / "app/1", SIMPLE)
    write_image(images / "app/2", seed=2)
    export(images, site)
    shutil.rmtree(images / "app/1")
    export(images, site)
    copy = site.parent / "copy"
    shutil.copytree(site, copy, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    assert faults(copy) == set()
