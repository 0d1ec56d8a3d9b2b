"""index.html, the page for people: whose it is, when it is written, and what it may do in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

from scr_export.site.documents.index_page import is_own
from tests.support.builders import write_image
from tests.support.bundles import members_of
from tests.support.forked import Hook
from tests.support.forked import run as run_forked
from tests.support.index_page import sealed
from tests.support.runner import Report, export, listing, start, wait

PAGE = (resources.files("scr_export.site") / "page/index.html").read_bytes()
OLDER = sealed(PAGE.decode().replace("Choose a repository", "Choose one")).encode()
CHANGED = PAGE.replace(b"Choose a repository", b"Choose one of ours")
MARK = PAGE.partition(b"\n")[0] + b"\n"
OPERATORS = [
    b"<h1>ours</h1>\n",
    b"",
    b"scr-export",
    MARK,
    MARK + b"<h1>ours</h1>\n",
    CHANGED,
    PAGE + b"\n",
    b"\n" + PAGE,
]


@pytest.fixture
def exported(images: Path, site: Path) -> Path:
    """A site of one image."""
    write_image(images / "app/v1")
    export(images, site)
    return site


def verify(site: Path, status: int = 0) -> Report:
    process = run_forked("verify", "--json", str(site))
    assert process.status == status, process.stderr
    document: Report = json.loads(process.stdout)
    return document


def problems(report: Report) -> list[tuple[str, str]]:
    assert report["faults"] == []
    return [(each["path"], each["code"]) for each in report["warnings"]]


def test_every_site_has_the_same_page(images: Path, exported: Path, tmp_path: Path) -> None:
    write_image(images / "team/other/v2", seed=2)
    report = export(images, tmp_path / "second", "--name-prefix", "mirror")
    assert (report["added"]["other"], report["added"]["tags"]) == (4, 2)
    for site in (exported, tmp_path / "second"):
        assert (site / "index.html").read_bytes() == PAGE
        assert (site / "index.html").stat().st_mode & 0o777 == 0o644
        assert problems(verify(site)) == []


def test_an_export_without_changes_leaves_it_as_it_is(images: Path, exported: Path) -> None:
    before = listing(exported, without=".scr-export/lock")
    assert export(images, exported)["changed"]["other"] == 0
    assert listing(exported, without=".scr-export/lock") == before


def test_the_page_of_another_version_is_replaced(images: Path, exported: Path) -> None:
    (exported / "index.html").write_bytes(OLDER)
    assert problems(verify(exported)) == [("index.html", "index-page")]
    dry = export(images, exported, "--dry-run")
    assert (dry["changed"]["other"], dry["warnings"]) == (1, [])
    assert (exported / "index.html").read_bytes() == OLDER
    assert export(images, exported)["changed"]["other"] == 1
    assert (exported / "index.html").read_bytes() == PAGE


def test_a_page_that_a_web_server_cannot_read_is_replaced(images: Path, exported: Path) -> None:
    (exported / "index.html").chmod(0o600)
    assert problems(verify(exported)) == [("index.html", "index-page")]
    assert export(images, exported)["changed"]["other"] == 1
    assert (exported / "index.html").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("data", OPERATORS, ids=range(len(OPERATORS)))
@pytest.mark.parametrize("options", [(), ("--no-html",), ("--no-prune",)], ids=" ".join)
def test_an_operators_own_page_is_left_alone(
    images: Path, exported: Path, data: bytes, options: tuple[str, ...]
) -> None:
    path = exported / "index.html"
    path.write_bytes(data)
    before = path.stat()
    write_image(images / "app/v2", seed=2)
    report = export(images, exported, *options)
    assert problems(report) == ([] if "--no-html" in options else [("index.html", "foreign")])
    assert (path.read_bytes(), path.stat().st_ino) == (data, before.st_ino)
    assert problems(verify(exported)) == []
    path.unlink()
    export(images, exported)
    assert path.read_bytes() == PAGE


@pytest.mark.parametrize("kind", ["directory", "link", "link to nowhere", "fifo"])
@pytest.mark.parametrize("options", [(), ("--no-html",)], ids=" ".join)
def test_what_is_no_file_is_left_alone(images: Path, exported: Path, kind: str, options: tuple[str, ...]) -> None:
    path = exported / "index.html"
    path.unlink()
    if kind == "directory":
        path.mkdir()
        (path / "kept").touch()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere" if "nowhere" in kind else "nginx.conf")
    before = path.lstat()
    assert problems(export(images, exported, *options)) == ([] if options else [("index.html", "foreign")])
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert problems(verify(exported)) == []


def test_a_page_that_cannot_be_read_is_left_alone(images: Path, exported: Path) -> None:
    (exported / "index.html").chmod(0)
    process = wait(start(images, exported, obedient=True))
    assert process.returncode == 0
    assert process.stderr.count("\n") == 1
    assert "index.html: cannot be read (Permission denied): it is left alone" in process.stderr
    assert (exported / "index.html").stat().st_mode & 0o777 == 0
    assert wait(start("verify", exported, obedient=True)).stderr == ""


@pytest.mark.parametrize("options", [(), ("--no-prune",)], ids=" ".join)
def test_no_html_removes_the_page_and_keeps_it_away(images: Path, exported: Path, options: tuple[str, ...]) -> None:
    dry = export(images, exported, "--no-html", "--dry-run", *options)
    assert (dry["removed"]["other"], (exported / "index.html").exists()) == (1, True)
    process = wait(start("--no-html", *options, images, exported))
    assert process.stderr == ""
    assert "  removed  1 index page\n" in process.stdout
    assert not (exported / "index.html").exists()
    assert problems(verify(exported)) == []
    again = export(images, exported, "--no-html", *options)
    assert (again["added"]["other"], again["removed"]["other"]) == (0, 0)
    assert not (exported / "index.html").exists()
    assert export(images, exported)["added"]["other"] == 1
    assert (exported / "index.html").read_bytes() == PAGE


def test_no_html_removes_the_page_of_another_version(images: Path, exported: Path) -> None:
    (exported / "index.html").write_bytes(OLDER)
    export(images, exported, "--no-html")
    assert not (exported / "index.html").exists()


def test_a_site_that_begins_without_a_page_gets_none(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    assert export(images, site, "--no-html")["added"]["other"] == 3
    assert not (site / "index.html").exists()


def test_it_appears_after_what_it_shows_and_before_the_list_of_images(images: Path, site: Path) -> None:
    write_image(images / "app/v1")

    def look(number: int) -> None:
        is_shown, is_listed = (site / "index.html").exists(), (site / "images.txt").exists()
        if (is_shown and not (site / "v2/_catalog").exists()) or (is_listed and not is_shown):
            os._exit(50)

    assert run_forked(os.fspath(images), os.fspath(site), before_change=look).status == 0


@pytest.mark.parametrize("option", ["--grace=900", "--no-html"])
def test_a_kill_leaves_the_old_page_or_the_new_one(images: Path, exported: Path, option: str) -> None:
    (exported / "index.html").write_bytes(OLDER)
    write_image(images / "app/v1", seed=2)
    kept = exported.parent / "kept"
    exported.rename(kept)
    after = None if option == "--no-html" else PAGE
    number, status = 0, 50
    while status == 50:
        number += 1
        shutil.rmtree(exported, ignore_errors=True)
        shutil.copytree(kept, exported, symlinks=True)
        status = run_forked(option, os.fspath(images), os.fspath(exported), before_change=kill_before(number)).status
        assert page_of(exported) in (OLDER, after)
        assert run_forked(option, os.fspath(images), os.fspath(exported)).status == 0
        assert page_of(exported) == after
    assert status == 0
    assert number > 10


def kill_before(last: int) -> Hook:
    def die(number: int) -> None:
        if number == last:
            os._exit(50)

    return die


def page_of(site: Path) -> bytes | None:
    path = site / "index.html"
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(("data", "is_packed"), [(PAGE, True), (OLDER, True), *((each, False) for each in OPERATORS)])
def test_a_bundle_has_a_page_of_an_export_and_no_other(
    exported: Path, tmp_path: Path, data: bytes, is_packed: bool
) -> None:
    (exported / "index.html").write_bytes(data)
    process = wait(start("pack", exported, tmp_path / "bundle.tar"))
    assert (process.returncode, process.stderr) == (0, "")
    content = members_of((tmp_path / "bundle.tar").read_bytes())["content"]
    assert (b"  index.html\n" in content) is is_packed


def test_a_page_is_known_by_its_first_line() -> None:
    assert is_own(PAGE)
    assert is_own(OLDER)
    assert [each for each in (*OPERATORS, PAGE.replace(b"\n", b"\r\n"), PAGE[:-1]) if is_own(each)] == []


def test_the_sums_in_the_page_are_those_of_its_text() -> None:
    """After a change of the page: python3 -m tests.support.index_page."""
    assert sealed(PAGE.decode()).encode() == PAGE


def test_the_page_forbids_itself_everything_but_its_registry() -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', PAGE.decode())
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    hashes = {name: directives.pop(name) for name in ("script-src", "style-src")}
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for value in hashes.values():
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", value)


def test_the_page_makes_no_markup_of_text_and_names_no_other_host() -> None:
    text = PAGE.decode()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in text
    assert re.findall(r"https?://\w[^'\"` )]*", text) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r"\son[a-z]+=", text) == []
    assert re.findall(r"\sid=", text) == []
