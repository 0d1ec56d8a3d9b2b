"""images.txt: one file that says what a site is, to sign and to compare."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from scr_export.site.documents.images_txt import is_own, untagged_in
from tests.support.builders import Built, write_image, write_index
from tests.support.forked import Hook
from tests.support.forked import run as run_forked
from tests.support.runner import OF_ANY_RUN, Report, export, listing, run, start, wait

HEX = "a" * 64


def lines(site: Path) -> list[str]:
    text = (site / "images.txt").read_text()
    assert text.endswith("\n")
    return text.splitlines()


def by_reading(site: Path, untagged: Iterable[str] = ()) -> list[str]:
    """What images.txt must say, from the links of a site."""
    links = [path for path in site.glob("v2/**/manifests/*") if path.is_symlink()]
    found = [
        f"{os.readlink(path).rpartition('@')[2]}  {path.parents[1].relative_to(site / 'v2')}:{path.name}"
        for path in links
    ]
    return sorted([*found, *untagged])


def without_tag(images: Path, name: str, seed: int) -> Built:
    built = write_image(images / "unnamed", seed=seed)
    (images / name).parent.mkdir(exist_ok=True)
    (images / "unnamed").rename(images / f"{name}@{built.digest}")
    return built


def verify(site: Path, status: int = 0) -> Report:
    process = run_forked("verify", "--json", str(site))
    assert process.status == status, process.stderr
    document: Report = json.loads(process.stdout)
    return document


def warned(report: Report) -> list[tuple[str, str]]:
    return [(each["path"], each["code"]) for each in report["warnings"]]


@pytest.fixture
def two(images: Path, site: Path) -> Path:
    """A site of two tags."""
    write_image(images / "app/v1")
    write_image(images / "team/app/v2", seed=2)
    export(images, site)
    return site


def test_it_names_every_tag_and_every_image_without_one(images: Path, site: Path) -> None:
    index = write_index(images / "multi/v1", seed=3)
    write_image(images / "app/v1", algorithm="sha512")
    alone = without_tag(images, "team/app", seed=2)
    shutil.copytree(images / "multi/v1", images / f"multi@{index.digest}")
    export(images, site, "--name-prefix", "mirror")
    expected = by_reading(
        site,
        [f"{alone.digest}  mirror/team/app@{alone.digest}", f"{index.digest}  mirror/multi@{index.digest}"],
    )
    assert lines(site) == expected
    assert len(expected) == 4  # the parts of an index are not in it
    assert subprocess.run(["sort", "-c", site / "images.txt"], env={"LC_ALL": "C"}).returncode == 0
    assert (site / "images.txt").stat().st_mode & 0o777 == 0o644
    assert verify(site)["faults"] == []


def test_it_changes_only_when_an_image_does(images: Path, two: Path) -> None:
    before = listing(two, without=OF_ANY_RUN)
    assert export(images, two)["changed"]["other"] == 0
    assert listing(two, without=OF_ANY_RUN) == before
    write_image(images / "app/v1", seed=5)
    report = export(images, two)
    assert report["changed"]["other"] == 1
    assert lines(two) == by_reading(two)
    shutil.rmtree(images / "team")
    export(images, two)
    assert lines(two) == by_reading(two)
    assert len(lines(two)) == 1


def test_it_changes_after_everything_else_that_is_made(images: Path, two: Path) -> None:
    old = (two / "images.txt").read_bytes()
    write_image(images / "app/v1", seed=5)
    write_image(images / "new/v1", seed=6)
    seen = []

    def look(number: int) -> None:
        if (two / "images.txt").read_bytes() != old:
            seen.append(by_reading(two) == lines(two) and "new" in (two / "v2/_catalog").read_text())
            if not seen[-1]:
                os._exit(50)

    assert run_forked(os.fspath(images), os.fspath(two), before_change=look).status == 0
    assert (two / "images.txt").read_bytes() != old


@pytest.mark.parametrize(
    "text", ["alpine:3.9\n", "# mine\n", f"sha256:{HEX}  app:v1\nnot a line\n", "\n", f"{HEX}  app:v1\n"]
)
def test_an_operators_own_file_is_left_alone(images: Path, two: Path, text: str) -> None:
    (two / "images.txt").write_text(text)
    (two / "images.txt.asc").write_text("of mine")
    before = (two / "images.txt").stat()
    write_image(images / "app/v3", seed=3)
    report = export(images, two)
    assert warned(report) == [("images.txt", "foreign")]
    assert (two / "images.txt").read_text() == text
    assert (two / "images.txt").stat().st_ino == before.st_ino
    assert (two / "images.txt.asc").exists()
    checked = verify(two)
    assert checked["faults"] == []
    assert warned(checked) == [("images.txt", "foreign")]
    (two / "images.txt").unlink()
    assert warned(export(images, two)) == [("images.txt.asc", "unsigned")]
    assert lines(two) == by_reading(two)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_what_is_no_file_is_left_alone(images: Path, two: Path, kind: str) -> None:
    path = two / "images.txt"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nginx.conf")
    else:
        os.mkfifo(path)
    before = path.lstat()
    write_image(images / "app/v3", seed=3)
    assert warned(export(images, two)) == [("images.txt", "foreign")]
    assert path.lstat().st_ino == before.st_ino
    assert (two / "nginx.conf").read_text().startswith("#")


def test_a_file_that_lost_a_line_is_made_anew(images: Path, two: Path) -> None:
    (two / "images.txt").write_text(lines(two)[0] + "\n")
    assert [(each["path"], each["code"]) for each in verify(two, status=1)["faults"]] == [("images.txt", "list")]
    export(images, two)
    assert lines(two) == by_reading(two)


def test_verify_knows_a_line_of_an_image_that_is_not_there(images: Path, two: Path) -> None:
    path = two / "images.txt"
    path.write_text("".join(sorted([*path.read_text().splitlines(True), f"sha256:{HEX}  app@sha256:{HEX}\n"])))
    assert [(each["path"], each["code"]) for each in verify(two, status=1)["faults"]] == [("images.txt", "list")]
    path.unlink()
    assert [(each["path"], each["code"]) for each in verify(two, status=1)["faults"]] == [("images.txt", "list")]


def test_a_mirror_is_verified_by_it(images: Path, site: Path, tmp_path: Path) -> None:
    alone = without_tag(images, "app", seed=2)
    write_image(images / "app/v1")
    export(images, site)
    copy = tmp_path / "mirror"
    shutil.copytree(site, copy, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    report = verify(copy)
    assert (report["faults"], report["warnings"]) == ([], [])
    (copy / "images.txt").write_text(f"{alone.digest}  app@{alone.digest}\n")
    assert [fault["path"] for fault in verify(copy, status=1)["faults"]] == ["images.txt"]


def test_images_that_are_retained_stay_in_it(images: Path, site: Path) -> None:
    alone = without_tag(images, "app", seed=2)
    index = write_index(images / "multi/v1", seed=3)
    write_image(images / "app/v1")
    export(images, site)
    before = lines(site)
    directory = images / f"app@{alone.digest}"
    shutil.move(directory, images.parent / "aside")
    export(images, site, "--no-prune")
    assert lines(site) == before
    shutil.move(images.parent / "aside", directory)
    (directory / "manifest.json").write_text("broken")
    (images / "multi/v1/manifest.json").write_text("broken")
    assert export(images, site, "--keep-going", status=1)
    assert lines(site) == before
    assert f"{alone.digest}  app@{alone.digest}" in before
    assert f"{index.digest}  multi:v1" in before
    shutil.rmtree(directory)
    export(images, site, "--keep-going", status=1)
    assert lines(site) == [line for line in before if "app@" not in line]


@pytest.mark.parametrize("name", ["images.txt.asc", "images.txt.sig", "images.txt.bundle"])
def test_a_signature_that_became_stale_is_set_aside(images: Path, two: Path, name: str) -> None:
    (two / name).write_text("signed")
    assert warned(export(images, two)) == []
    assert (two / name).read_text() == "signed"
    write_image(images / "app/v1", seed=5)
    dry = export(images, two, "--dry-run")
    assert (two / name).read_text() == "signed"
    process = run(images, two)
    assert "unsigned" in process.stderr
    assert warned(dry) == [(name, "unsigned")]
    assert len(process.stderr.splitlines()) == 1
    assert not (two / name).exists()
    assert (two / ".scr-export" / name).read_text() == "signed"
    (two / name).write_text("signed again")
    write_image(images / "app/v1", seed=6)
    export(images, two)
    assert (two / ".scr-export" / name).read_text() == "signed again"
    assert warned(export(images, two)) == []


def test_no_kill_leaves_a_signature_beside_another_list(images: Path, two: Path) -> None:
    (two / "images.txt.asc").write_text("signed")
    signed = (two / "images.txt").read_bytes()
    write_image(images / "app/v1", seed=5)
    kept = two.parent / "kept"
    two.rename(kept)
    number = 1
    while True:
        shutil.rmtree(two, ignore_errors=True)
        shutil.copytree(kept, two, symlinks=True)
        status = run_forked(os.fspath(images), os.fspath(two), before_change=kill_before(number)).status
        assert not (two / "images.txt.asc").exists() or (two / "images.txt").read_bytes() == signed
        if status == 0:
            break
        assert status == 50
        number += 1
        export(images, two)
        assert lines(two) == by_reading(two)
        assert not (two / "images.txt.asc").exists()
    assert number > 10


def kill_before(last: int) -> Hook:
    def die(number: int) -> None:
        if number == last:
            os._exit(50)

    return die


def test_a_list_that_cannot_be_read_is_left_alone(images: Path, two: Path) -> None:
    (two / "images.txt").chmod(0)
    process = wait(start("verify", two, obedient=True))
    assert process.returncode == 0
    assert "images.txt: cannot be read" in process.stderr


def test_the_form() -> None:
    digest = f"sha256:{HEX}"
    long = "sha512:" + "b" * 128
    own = f"{digest}  a/b-c:V.1\n{digest}  app@{digest}\n{long}  x@{long}\n".encode()
    assert is_own(own)
    assert is_own(b"")
    assert untagged_in(own) == {"app": [digest], "x": [long]}
    for other in (own[:-1], own + b"\n", own.replace(b"  ", b" "), own.replace(b"sha", b"md"), b"#" + own, own + b"\0"):
        assert not is_own(other)
