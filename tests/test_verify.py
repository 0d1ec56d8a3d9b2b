"""`scr-export verify`: sound sites are sound, and each damage is reported with its path."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scr_export.commands.verify import verify as verify_here
from tests.support.builders import Built, write_artifact, write_image, write_index
from tests.support.runner import Report, export, listing, start, wait

IMAGE, INDEX = "vnd.oci.image.manifest.v1+json", "vnd.oci.image.index.v1+json"


def verify(site: Path, *options: str, status: int = 0) -> Report:
    """Check a site; the JSON report."""
    process = wait(start("verify", "--json", *options, site))
    assert process.returncode == status, process.stderr
    document: Report = json.loads(process.stdout)
    return document


@pytest.fixture
def image(images: Path, site: Path) -> Built:
    """The image of `app:v1` in a site that also has `team/app:v1`, an index, and `app:v2`."""
    built = write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    write_index(images / "team/app/v1", seed=3)
    export(images, site)
    return built


def test_a_site_is_sound_after_an_export(image: Built, site: Path) -> None:
    before = listing(site)
    report = verify(site)
    assert (report["site"], report["faults"], report["warnings"]) == (str(site), [], [])
    assert (report["repositories"], report["tags"], report["manifests"], report["blobs"]) == (2, 3, 5, 12)
    assert report["bytes"] == sum(path.stat().st_size for path in site.glob("v2/**/blobs/*"))
    assert listing(site) == before


def test_the_text_reports_the_same(image: Built, site: Path) -> None:
    process = wait(start("verify", site))
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith(f"{site}: 2 repositories, 3 tags, 5 manifests, 12 blobs: all sound\n")
    next(site.glob("v2/app/blobs/*")).unlink()
    process = wait(start("verify", site))
    assert process.returncode == 1
    assert process.stdout.startswith(f"{site}: 2 repositories, 3 tags, 5 manifests, 11 blobs: 1 fault\n")
    assert process.stderr.startswith(f"error: {site}/v2/app/manifests/{IMAGE}@sha256:")
    assert process.stderr.count("\n") == 1


def write_signature(prefix: Path, subject: Built, seed: int = 5) -> Built:
    """Write a referrer without a tag. Its directory is named by `prefix` and its digest."""
    fields: dict[str, Any] = {"seed": seed, "artifact_type": "application/x.sig", "empty_config": True}
    with tempfile.TemporaryDirectory() as scratch:
        built = write_artifact(Path(scratch), **fields, subject=subject)
    return write_artifact(prefix.with_name(prefix.name + built.digest), **fields, subject=subject)


def entry(built: Built) -> str:
    """The directory of the manifest."""
    return f"v2/app/manifests/{IMAGE}@{built.digest}"


def inner(built: Built) -> str:
    return f"{entry(built)}/{IMAGE}@{built.digest}"


def blob(built: Built) -> str:
    """The largest blob."""
    return f"v2/app/blobs/{max(built.blobs, key=lambda digest: len(built.blobs[digest]))}"


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes in an inode of the site's own."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o644)


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def flip(path: Path) -> None:
    data = path.read_bytes()
    rewrite(path, data[:-1] + bytes([data[-1] ^ 1]))


def renew(path: Path, mode: int) -> None:
    """The same bytes in an inode of the site's own, with this mode."""
    rewrite(path, path.read_bytes())
    path.chmod(mode)


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def page(site: Path, name: str) -> Path:
    return site / "v2/app/tags/_pages" / name


def pages(built: Built) -> str:
    """The start of the path of the directory that has the pages of `app`."""
    return "v2/app/tags/_pages@"


def refers(built: Built) -> str:
    """The list of the image's referrers of one type."""
    return f"v2/app/referrers/{built.digest}/application@x.sig@"


def rename_head(site: Path, built: Built, name: str) -> None:
    """Give a manifest another type or digest by its names, and its tag with it."""
    old, new = site / entry(built), site / "v2/app/manifests" / name
    old.rename(new)
    (new / old.name).rename(new / name)
    relink(site / "v2/app/manifests/v1", name)


STRANGER = f"sha256:{'0' * 64}"
Damage = tuple[Callable[[Path, Built], object], Callable[[Built], str], str]
DAMAGES: dict[str, Damage] = {
    "a blob is missing": (lambda s, b: (s / blob(b)).unlink(), entry, "missing"),
    "a blob has other bytes": (lambda s, b: flip(s / blob(b)), blob, "digest"),
    "a blob is short": (lambda s, b: rewrite(s / blob(b), b"short"), entry, "size"),
    "a blob is empty": (lambda s, b: rewrite(s / blob(b), b""), blob, "digest"),
    "a blob is private": (lambda s, b: (s / blob(b)).chmod(0o600), blob, "unreadable"),
    "a blob is a link": (lambda s, b: relink(s / blob(b), "/etc/hostname"), entry, "missing"),
    "a manifest is missing": (lambda s, b: (s / inner(b)).unlink(), entry, "unreadable"),
    "a manifest has other bytes": (lambda s, b: rewrite(s / inner(b), b.raw + b"\n"), entry, "digest"),
    "a manifest is no JSON": (lambda s, b: rewrite(s / inner(b), b.raw[:-1]), entry, "manifest"),
    "a manifest is a link": (lambda s, b: relink(s / inner(b), "/etc/hostname"), entry, "manifest"),
    "a manifest is private": (lambda s, b: (s / inner(b)).chmod(0o600), entry, "unreadable"),
    "a manifest directory is private": (
        lambda s, b: (s / entry(b)).chmod(0o700),
        entry,
        "unreadable",
    ),
    "a manifest directory is missing": (
        lambda s, b: shutil.rmtree(s / entry(b)),
        lambda b: "v2/app/manifests/v1",
        "tag",
    ),
    "a manifest directory has two files": (
        lambda s, b: (s / entry(b) / "x@y").touch(),
        lambda b: f"{entry(b)}/x@y",
        "left-over",
    ),
    "a manifest name lies about the type": (
        lambda s, b: rename_head(s, b, f"{INDEX}@{b.digest}"),
        lambda b: f"v2/app/manifests/{INDEX}@{b.digest}",
        "digest",
    ),
    "a manifest name lies about the digest": (
        lambda s, b: rename_head(s, b, f"{IMAGE}@{STRANGER}"),
        lambda b: f"v2/app/manifests/{IMAGE}@{STRANGER}",
        "digest",
    ),
    "a repository is private": (lambda s, b: (s / "v2/app").chmod(0o700), lambda b: "v2/app", "unreadable"),
    "the registry is private": (lambda s, b: (s / "v2").chmod(0o700), lambda b: "v2", "unreadable"),
    "the site is private": (lambda s, b: s.chmod(0o700), lambda b: "", "unreadable"),
    "the blobs are private": (lambda s, b: (s / "v2/app/blobs").chmod(0o700), lambda b: "v2/app/blobs", "unreadable"),
    "a tag leads nowhere": (
        lambda s, b: relink(s / "v2/app/manifests/v1", f"{IMAGE}@{STRANGER}"),
        lambda b: "v2/app/manifests/v1",
        "tag",
    ),
    "a tag is absolute": (
        lambda s, b: relink(s / "v2/app/manifests/v1", str(s / entry(b))),
        lambda b: "v2/app/manifests/v1",
        "tag",
    ),
    "a tag goes round about": (
        lambda s, b: relink(s / "v2/app/manifests/v1", f"../manifests/{Path(entry(b)).name}"),
        lambda b: "v2/app/manifests/v1",
        "tag",
    ),
    "a tag leads to a tag": (
        lambda s, b: relink(s / "v2/app/manifests/v1", "v2"),
        lambda b: "v2/app/manifests/v1",
        "tag",
    ),
    "a tag is not listed": (
        lambda s, b: (s / "v2/app/manifests/v3").symlink_to(Path(entry(b)).name),
        lambda b: "v2/app/tags/_pages",
        "list",
    ),
    "a tag is gone": (lambda s, b: (s / "v2/app/manifests/v2").unlink(), lambda b: "v2/app/tags/_pages", "list"),
    "a list is a file": (
        lambda s, b: rewrite(s / "v2/app/tags/list", b'{"name":"app","tags":["v1","v2"]}\n'),
        lambda b: "v2/app/tags/list",
        "list",
    ),
    "a list is missing": (lambda s, b: (s / "v2/app/tags/list").unlink(), lambda b: "v2/app/tags/list", "list"),
    "a list leads elsewhere": (
        lambda s, b: relink(s / "v2/app/tags/list", "_pages/@0"),
        lambda b: "v2/app/tags/list",
        "list",
    ),
    "the way to a list is missing": (
        lambda s, b: (s / "v2/app/tags/_pages").unlink(),
        lambda b: "v2/app/tags/_pages",
        "list",
    ),
    "the way to a list leads elsewhere": (
        lambda s, b: relink(s / "v2/app/tags/_pages", "/etc"),
        lambda b: "v2/app/tags/_pages",
        "list",
    ),
    "a list lies": (lambda s, b: rewrite(page(s, "@all"), b'{"name":"app","tags":["v1","v3"]}\n'), pages, "list"),
    "a list is private": (lambda s, b: renew(page(s, "@all"), 0o600), pages, "list"),
    "a page lies": (lambda s, b: rewrite(page(s, "v1@1"), b'{"name":"app","tags":["v3"]}\n'), pages, "list"),
    "a page is private": (lambda s, b: renew(page(s, "@10/@10"), 0o640), pages, "list"),
    "a page is missing": (lambda s, b: page(s, "v2@1").unlink(), pages, "list"),
    "a page leads elsewhere": (lambda s, b: relink(page(s, "@1"), "v1@1"), pages, "list"),
    "a page is a link": (lambda s, b: relink(page(s, "v1@1"), "@all"), pages, "list"),
    "a page is a directory": (lambda s, b: in_place_of(page(s, "v2@1"), Path.mkdir), pages, "list"),
    "a page is a FIFO": (lambda s, b: in_place_of(page(s, "v2@1"), os.mkfifo), pages, "list"),
    "a page is left over": (lambda s, b: page(s, "v3@1").touch(), pages, "list"),
    "pages are private": (lambda s, b: page(s, "@1").parent.chmod(0o700), pages, "unreadable"),
    "all pages are missing": (lambda s, b: shutil.rmtree(page(s, "@1").parent.resolve()), pages, "list"),
    "old pages are left over": (
        lambda s, b: (s / "v2/app/tags/_pages@0").mkdir(),
        lambda b: "v2/app/tags/_pages@0",
        "left-over",
    ),
    "the catalog lies": (
        lambda s, b: rewrite(s / "v2/_pages/@all", b'{"repositories":["app","b"]}\n'),
        lambda b: "v2/_pages@",
        "list",
    ),
    "the catalog is missing": (lambda s, b: (s / "v2/_catalog").unlink(), lambda b: "v2/_catalog", "list"),
    "a list of referrers is missing": (lambda s, b: (s / refers(b)).unlink(), lambda b: refers(b), "list"),
    "a list of referrers lies": (lambda s, b: flip(s / refers(b)), lambda b: refers(b), "list"),
    "a list of referrers is private": (lambda s, b: renew(s / refers(b), 0o600), lambda b: refers(b), "list"),
    "a list of referrers is a link": (
        lambda s, b: relink(s / refers(b), "@all"),
        lambda b: refers(b),
        "list",
    ),
    "a list of referrers is of another": (
        lambda s, b: (s / refers(b)).rename((s / refers(b)).with_name("text@x@")),
        lambda b: refers(b),
        "list",
    ),
    "a list of a type that nothing has": (
        lambda s, b: shutil.copy(s / refers(b), (s / refers(b)).with_name("text@x@")),
        lambda b: refers(b).replace("application@x.sig@", "text@x@"),
        "left-over",
    ),
    "referrers of nothing": (
        lambda s, b: (s / "v2/app/referrers" / STRANGER).mkdir(),
        lambda b: f"v2/app/referrers/{STRANGER}",
        "left-over",
    ),
    "the directory of referrers is private": (
        lambda s, b: (s / refers(b)).parent.chmod(0o700),
        lambda b: refers(b).rpartition("/")[0],
        "unreadable",
    ),
    "a snippet is missing": (lambda s, b: (s / "Caddyfile").unlink(), lambda b: "Caddyfile", "list"),
    "a blob is left over": (
        lambda s, b: (s / "v2/app/blobs" / STRANGER).touch(),
        lambda b: f"v2/app/blobs/{STRANGER}",
        "left-over",
    ),
    "a file is left over": (lambda s, b: (s / "v2/app/x").touch(), lambda b: "v2/app/x", "left-over"),
    "a directory is left over": (lambda s, b: (s / "v2/y/x").mkdir(parents=True), lambda b: "v2/y/x", "left-over"),
    "a FIFO is left over": (lambda s, b: os.mkfifo(s / "v2/app/x"), lambda b: "v2/app/x", "left-over"),
    "a link is left over": (lambda s, b: (s / "v2/x").symlink_to("/etc"), lambda b: "v2/x", "left-over"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    """A site that each damage is done to a copy of, and the image of `app:v1` in it."""
    directory = tmp_path_factory.mktemp("sound")
    built = write_image(directory / "images/app/v1")
    write_image(directory / "images/app/v2", seed=2)
    write_signature(directory / "images/app@", built)
    export(directory / "images", directory / "site")
    return directory / "site", built


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_reported(sound: tuple[Path, Built], site: Path, name: str) -> None:
    damage, where, code = DAMAGES[name]
    shutil.copytree(sound[0], site, symlinks=True)
    damage(site, sound[1])
    before = listing(site)
    report = verify_here(str(site), jobs=1)
    path = where(sound[1])  # with the start of the name of a directory of pages
    found = {(f.path, f.code) for f in report.problems.faults}
    assert any(
        found_code == code and (at.startswith(path) if path.endswith("@") and "_pages" in path else at == path)
        for at, found_code in found
    ), found
    assert all(fault.what and fault.remedy for fault in report.problems.faults)
    assert listing(site) == before


def test_a_snippet_of_another_version_is_a_warning(image: Built, site: Path) -> None:
    flip(site / "nginx.conf")
    report = verify(site)
    assert report["faults"] == []
    assert [(warning["path"], warning["code"]) for warning in report["warnings"]] == [("nginx.conf", "snippet")]


def test_all_damages_are_reported_in_one_run(image: Built, site: Path) -> None:
    flip(site / blob(image))
    (site / "v2/app/tags/list").unlink()
    next(site.glob("v2/team/app/blobs/*")).unlink()
    assert {fault["code"] for fault in verify(site, status=1)["faults"]} == {"digest", "list", "missing"}


def test_an_export_repairs_what_it_can_see(images: Path, image: Built, site: Path) -> None:
    relink(site / "v2/app/manifests/v1", "/etc")
    rewrite(site / "v2/_catalog", b"{}")
    (site / "v2/app/tags/_pages").unlink()
    flip(site / blob(image))
    (site / "v2/app/x").touch()
    export(images, site)
    assert verify(site)["faults"] == []


def test_unreferenced_content_in_its_grace_period_is_no_fault(images: Path, image: Built, site: Path) -> None:
    shutil.rmtree(images / "team")
    write_image(images / "app/v1", seed=9)
    assert export(images, site)["unreferenced"]["count"]
    report = verify(site)
    assert (report["faults"], report["warnings"]) == ([], [])
    (site / "v2/team/app/blobs" / STRANGER).touch()  # this one waits for nothing
    assert {fault["path"] for fault in verify(site, status=1)["faults"]} == {f"v2/team/app/blobs/{STRANGER}"}


def test_a_damaged_unreferenced_blob_is_reported(images: Path, image: Built, site: Path) -> None:
    write_image(images / "app/v1", seed=9)
    export(images, site)
    flip(site / blob(image))
    assert [fault["path"] for fault in verify(site, status=1)["faults"]] == [blob(image)]


@pytest.mark.parametrize("without", ["--exclude=.scr-export", "--exclude=.scr-export/lock"])
def test_a_copy_of_a_site_is_sound(images: Path, image: Built, site: Path, tmp_path: Path, without: str) -> None:
    write_image(images / "app/v1", seed=9)
    export(images, site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    archive = subprocess.run(["tar", "-C", site, without, "-c", "."], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", elsewhere, "-x"], input=archive, check=True)
    report = verify(elsewhere)
    assert report["faults"] == []  # unreferenced content cannot be distinguished from left-over files there
    assert {warning["code"] for warning in report["warnings"]} <= {"left-over"}
    (elsewhere / blob(image)).unlink()
    flip(next(elsewhere.glob("v2/team/app/blobs/*")))
    assert {fault["code"] for fault in verify(elsewhere, status=1)["faults"]} == {"missing", "digest"}


def carry(site: Path, elsewhere: Path) -> Path:
    """A copy of a site without the notes of its exports."""
    shutil.copytree(site, elsewhere, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    return elsewhere


def test_referrers_are_checked_without_the_state(images: Path, site: Path, tmp_path: Path) -> None:
    """Also while a removed referrer is still unreferenced content."""
    built = write_image(images / "app/v1")
    kept, gone = write_signature(images / "app@", built), write_signature(images / "app@", built, seed=6)
    export(images, site)
    shutil.rmtree(images / f"app@{gone.digest}")
    export(images, site)
    assert {path.name for path in site.glob("v2/app/manifests/*@*")} >= {Path(entry(b)).name for b in (kept, gone)}
    assert (verify(site)["faults"], verify(site)["warnings"]) == ([], [])
    elsewhere = carry(site, tmp_path / "elsewhere")
    report = verify(elsewhere)
    assert report["faults"] == []
    assert {warning["code"] for warning in report["warnings"]} <= {"left-over"}
    flip(elsewhere / refers(built))
    assert [fault["path"] for fault in verify(elsewhere, status=1)["faults"]] == [refers(built)]
    shutil.rmtree((site / refers(built)).parent)
    lost = {fault["path"] for fault in verify(site, status=1)["faults"]}
    assert lost == {refers(built), refers(built).replace("application@x.sig@", "@all")}


def test_pages_are_checked_without_the_state(image: Built, site: Path, tmp_path: Path) -> None:
    elsewhere = carry(site, tmp_path / "elsewhere")
    assert (verify(elsewhere)["faults"], verify(elsewhere)["warnings"]) == ([], [])
    page(elsewhere, "v2@1").unlink()
    page(elsewhere, "v3@1").touch()
    [fault] = verify(elsewhere, status=1)["faults"]
    assert fault["path"] == f"v2/app/tags/{os.readlink(elsewhere / 'v2/app/tags/_pages')}"
    assert "2 pages" in fault["what"]


def test_a_site_is_sound_after_an_export_without_pruning(images: Path, image: Built, site: Path) -> None:
    write_image(images / "app/v3", seed=4)
    shutil.rmtree(images / "team")
    export(images, site, "--no-prune")
    report = verify(site)
    assert (report["faults"], report["warnings"]) == ([], [])


def test_verify_refuses_a_site_that_an_export_holds(image: Built, site: Path) -> None:
    with open(site / ".scr-export/lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = wait(start("verify", site))
    assert (process.returncode, process.stdout) == (3, "")
    assert process.stderr.count("\n") == 1
    assert f"held by process {lock_holder(site)}" in process.stderr


def lock_holder(site: Path) -> str:
    return (site / ".scr-export/lock").read_text().split()[1]


def test_an_export_refuses_a_site_that_verify_holds(images: Path, image: Built, site: Path) -> None:
    with open(site / ".scr-export/lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert verify(site)["faults"] == []  # two may look
        process = wait(start(images, site))
    assert process.returncode == 3


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty directory"])
def test_a_directory_that_is_no_site_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what != "nothing":
        path.touch() if what == "a file" else path.mkdir()
    process = wait(start("verify", path))
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.count("\n") == 1
    assert str(path) in process.stderr


def cut_off(site: Path, built: Built) -> None:
    """What examples/mirror leaves when it is killed while content arrives."""
    (site / "v2/.transfer").mkdir()
    (site / "v2/.transfer/link").symlink_to("end")
    (site / "v2/app/blobs/.sha256:0.Ab12Cd").write_bytes(b"half")
    for directory in ("v2/app/blobs/.partial", f"{entry(built)}/.partial"):
        (site / directory).mkdir(mode=0)  # rsync's are closed to others
    (page(site, "@all").parent / ".@all.Ab12Cd").touch()
    (site / "v2/app/manifests/.v1.Ab12Cd").symlink_to(Path(entry(built)).name)
    (site / f"v2/app/manifests/{IMAGE}@{STRANGER}").mkdir()
    (site / f"v2/app/tags/_pages@{'0' * 32}").mkdir()


def test_unfinished_files_of_a_transfer_are_a_warning(image: Built, site: Path, tmp_path: Path) -> None:
    """Also where its lists are old already and an untagged manifest has arrived before its blobs."""
    elsewhere = carry(site, tmp_path / "elsewhere")
    untagged = write_image(tmp_path / "other/app/v9", seed=9)
    arrived = elsewhere / entry(untagged)
    arrived.mkdir()
    (arrived / arrived.name).write_bytes(untagged.raw)
    assert {fault["code"] for fault in verify(elsewhere, status=1)["faults"]} == {"missing"}
    cut_off(elsewhere, image)
    (elsewhere / "v2/app/manifests/v3").symlink_to(Path(entry(image)).name)
    process = wait(start("verify", elsewhere, obedient=True))
    assert process.returncode == 0, process.stderr
    assert "chmod" not in process.stderr
    report = verify(elsewhere)
    assert report["faults"] == []
    half_made = [warning["path"] for warning in report["warnings"] if "left it unfinished" in warning["what"]]
    assert sorted(half_made) == [
        "v2/.transfer",
        "v2/app/blobs/.partial",
        "v2/app/blobs/.sha256:0.Ab12Cd",
        "v2/app/manifests/.v1.Ab12Cd",
        f"{entry(image)}/.partial",
    ]
    [unfinished] = [warning for warning in report["warnings"] if warning["code"] == "unfinished"]
    assert "7 faults in lists and untagged manifests" in unfinished["what"]


@pytest.mark.parametrize(
    "name",
    [
        "a blob is missing",
        "a blob has other bytes",
        "a manifest is missing",
        "a tag leads nowhere",
        "a blob is private",
    ],
)
def test_a_damage_is_reported_although_a_transfer_is_unfinished(
    image: Built, site: Path, tmp_path: Path, name: str
) -> None:
    damage, where, code = DAMAGES[name]
    elsewhere = carry(site, tmp_path / "elsewhere")
    cut_off(elsewhere, image)
    damage(elsewhere, image)
    assert (where(image), code) in {(f["path"], f["code"]) for f in verify(elsewhere, status=1)["faults"]}


def test_old_lists_are_a_fault_in_a_site_that_an_export_wrote(image: Built, site: Path) -> None:
    """A half-made file there is a warning, but no reason to excuse anything."""
    cut_off(site, image)
    report = verify(site, status=1)
    assert {fault["code"] for fault in report["faults"]} == {"unreadable", "left-over"}
    assert f"{os.path.dirname(page(site, '@all').resolve().relative_to(site))}/.@all.Ab12Cd" in {
        warning["path"] for warning in report["warnings"]
    }
