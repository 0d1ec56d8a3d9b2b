"""An export of what has not changed answers from the seal; whatever an export looks at breaks it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import scr_export
from scr_export.commands.list import list_images
from scr_export.commands.options import ExportOptions
from scr_export.commands.seal import Seal
from scr_export.fs.file import COARSEST_CLOCK
from scr_export.report import Report
from tests.support.builders import blob_of, write_image
from tests.support.runner import Report as Document
from tests.support.runner import assert_whole, export, start, wait

Change = Callable[[Path, Path], object]


def blob_in(site: Path) -> Path:
    return next((site / "v2/app/blobs").iterdir())


def manifest_in(site: Path) -> Path:
    return next(path for path in (site / "v2/app/manifests").iterdir() if not path.is_symlink())


def rewrite(path: Path) -> None:
    """Other bytes of the same length in the same inode."""
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def replace(path: Path) -> None:
    """The same bytes in another inode."""
    shutil.copyfile(path, path.with_name("new"))
    path.with_name("new").replace(path)


def move_tag(site: Path) -> None:
    (site / "v2/app/manifests/v1").unlink()
    (site / "v2/app/manifests/v1").symlink_to(os.readlink(site / "v2/app/manifests/v2"))


def lead_to_a_directory(link: Path) -> None:
    target = link.resolve()
    target.unlink()
    target.mkdir()


IN_IMAGES: dict[str, Change] = {
    "a blob is rewritten": lambda images, site: rewrite(blob_of(images, "app/v1")),
    "a blob grows": lambda images, site: append(blob_of(images, "app/v1")),
    "a blob is replaced": lambda images, site: replace(blob_of(images, "app/v1")),
    "a blob is closed to others": lambda images, site: blob_of(images, "app/v1").chmod(0o600),
    "a blob goes": lambda images, site: blob_of(images, "app/v1").unlink(),
    "a blob has a new time": lambda images, site: os.utime(blob_of(images, "app/v1")),
    "a manifest is rewritten": lambda images, site: rewrite(images / "app/v1/manifest.json"),
    "an image comes": lambda images, site: write_image(images / "new/v1", seed=9),
    "an image goes": lambda images, site: shutil.rmtree(images / "app/v2"),
    "an image gets another name": lambda images, site: (images / "app/v2").rename(images / "app/v3"),
    "two images swap names": lambda images, site: [
        (images / "app" / old).rename(images / "app" / new) for old, new in (("v1", "x"), ("v2", "v1"), ("x", "v2"))
    ],
    "a directory is closed": lambda images, site: (images / "app/v1").chmod(0o700),
    "an empty directory comes": lambda images, site: (images / "empty").mkdir(),
    "a signature comes": lambda images, site: (images / "app/v1/signature-1").write_bytes(b"\xa3signature"),
    "a link comes": lambda images, site: (images / "elsewhere").symlink_to("app"),
    "a link leads to a directory now": lambda images, site: lead_to_a_directory(images / "link"),
}
IN_SITE: dict[str, Change] = {
    "a tag goes": lambda images, site: (site / "v2/app/manifests/v1").unlink(),
    "a tag moves": lambda images, site: move_tag(site),
    "the site's name of a blob goes": lambda images, site: blob_in(site).unlink(),
    "the site's name of a blob is replaced": lambda images, site: replace(blob_in(site)),
    "a copy of a blob is rewritten": lambda images, site: rewrite(site / "v2/copied/blobs" / copied_blob(site)),
    "a manifest goes": lambda images, site: shutil.rmtree(manifest_in(site)),
    "a manifest is replaced": lambda images, site: replace(manifest_in(site) / manifest_in(site).name),
    "a stray file comes": lambda images, site: (manifest_in(site) / "stray").touch(),
    "a repository comes": lambda images, site: (site / "v2/new/manifests").mkdir(parents=True),
    "a directory of manifests is closed": lambda images, site: (site / "v2/app/manifests").chmod(0o700),
    "the directory of one manifest is closed": lambda images, site: manifest_in(site).chmod(0o700),
    "pages are closed": lambda images, site: (site / "v2/app/tags/_pages").resolve().chmod(0o700),
    "a list goes": lambda images, site: (site / "v2/app/tags/list").unlink(),
    "the catalog's pages go": lambda images, site: shutil.rmtree((site / "v2/_pages").resolve()),
    "a snippet is rewritten": lambda images, site: rewrite(site / "nginx.conf"),
    "a snippet goes": lambda images, site: (site / "Caddyfile").unlink(),
    "the index page goes": lambda images, site: (site / "index.html").unlink(),
    "the index page is the operator's": lambda images, site: rewrite(site / "index.html"),
    "images.txt goes": lambda images, site: (site / "images.txt").unlink(),
    "images.txt is the operator's": lambda images, site: (site / "images.txt").write_text("mine\n"),
    "the note of verified files goes": lambda images, site: (site / ".scr-export/verified").unlink(),
    "the state goes": lambda images, site: (site / ".scr-export/state.json").unlink(),
    "verify finds damage": lambda images, site: find_damage(images, site),
}


def copied_blob(site: Path) -> str:
    return next(path.name for path in (site / "v2/copied/blobs").iterdir() if path.stat().st_nlink == 1)


def find_damage(images: Path, site: Path) -> None:
    """Damage that keeps the time of modification, which only verify sees."""
    blob = blob_of(images, "app/v1")
    before = blob.stat()
    rewrite(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_sealed(images, site)
    assert wait(start("verify", site)).returncode == 1


class Trees(NamedTuple):
    images: Path
    site: Path


def write(images: Path) -> None:
    write_image(images / "app/v1", layers=1)
    write_image(images / "app/v2", seed=2, layers=1)
    write_image(images / "copied/v1", seed=3, layers=1)
    blob_of(images, "copied/v1").chmod(0o640)  # others cannot read it, so that it is copied
    (images.parent / "README").write_text("not an image")
    (images / "link").symlink_to("../README")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Trees]]:
    """Trees for each test, sealed together: only what has not changed for two seconds is."""
    top = tmp_path_factory.mktemp("sealed")
    trees = {
        name: Trees(top / f"{n}/images", top / f"{n}/site")
        for n, name in enumerate([*IN_IMAGES, *IN_SITE, "unchanged", "changed meanwhile", "changed during"])
    }
    for images, site in trees.values():
        write(images)
        export(images, site)
        assert not (site / ".scr-export/seal").exists()
    await_clock()
    for images, site in trees.values():
        export(images, site)
        assert is_sealed(images, site)
    yield trees
    shutil.rmtree(top)


def await_clock() -> None:
    """Wait until what was changed before can be told by its time from what is changed now."""
    time.sleep(COARSEST_CLOCK / 1e9 + 0.1)  # time itself is the condition


def is_sealed(images: Path, site: Path, **options: Any) -> bool:
    with opened_seal(images, site, **options) as seal:
        return seal.report() is not None


@contextmanager
def opened_seal(images: Path, site: Path, **options: Any) -> Iterator[Seal]:
    directories = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (images, site)]
    try:
        yield Seal(ExportOptions(images=str(images), site=str(site), **options), *directories)
    finally:
        for each in directories:
            os.close(each)


@pytest.mark.parametrize("name", IN_IMAGES)
def test_a_change_of_images_breaks_the_seal(sealed: dict[str, Trees], name: str) -> None:
    images, site = sealed[name]
    IN_IMAGES[name](images, site)
    assert not is_sealed(images, site)


@pytest.mark.parametrize("name", IN_SITE)
def test_a_change_of_the_site_breaks_the_seal_and_is_mended(sealed: dict[str, Trees], name: str) -> None:
    images, site = sealed[name]
    before = paths_of(site)
    IN_SITE[name](images, site)
    assert not is_sealed(images, site)
    export(images, site, "--grace", "0", status=name == "verify finds damage")
    if name != "verify finds damage":
        assert_whole(site)
        assert paths_of(site) == before


def paths_of(site: Path) -> set[Path]:
    return {path.relative_to(site) for path in site.rglob("*") if ".scr-export" not in path.parts}


def test_other_options_and_another_program_break_the_seal(
    sealed: dict[str, Trees], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, site = sealed["unchanged"]
    assert is_sealed(images, site)
    assert not is_sealed(images, site, prefix="prefix")
    assert not is_sealed(images, site, prune=False)
    assert not is_sealed(images, site, verify_digests=False)
    assert not is_sealed(images, site, index_page=False)
    shutil.copytree(Path(scr_export.__file__).parent, tmp_path / "scr_export")
    monkeypatch.setattr(scr_export, "__file__", str(tmp_path / "scr_export/__init__.py"))
    assert not is_sealed(images, site)


def test_a_sealed_report_is_that_of_a_whole_export(images: Path, site: Path) -> None:
    write(images)
    (images / "app/v1/signature-1").write_text("no signature")  # a warning, which is told every time
    export(images, site)
    await_clock()
    whole, answered = (without_time(export(images, site)) for _ in range(2))
    assert is_sealed(images, site)
    assert answered == whole
    assert whole["warnings"]
    assert whole["tags"] == 3
    assert whole["size"] == list_images(str(site)).size > 0


def without_time(report: Document) -> Document:
    return report | {"seconds": 0}


def test_a_sealed_export_writes_nothing(sealed: dict[str, Trees]) -> None:
    images, site = sealed["unchanged"]
    seal = site / ".scr-export/seal"
    before = seal.stat().st_ino, seal.stat().st_mtime_ns
    export(images, site)
    assert (seal.stat().st_ino, seal.stat().st_mtime_ns) == before


def test_what_changed_a_moment_ago_keeps_the_seal_away(sealed: dict[str, Trees]) -> None:
    images, site = sealed["changed meanwhile"]
    (site / ".scr-export/seal").unlink()
    with opened_seal(images, site) as seal:
        assert seal.report() is None
        assert seal.seal(Report("site"))
    with opened_seal(images, site) as seal:
        os.utime(site / "nginx.conf")
        assert seal.report() is None
        assert seal.seal(Report("site")) is None


def test_what_changes_during_an_export_breaks_its_seal(sealed: dict[str, Trees]) -> None:
    images, site = sealed["changed during"]
    (site / ".scr-export/seal").unlink()
    with opened_seal(images, site) as seal:
        seal.report()
        blob = blob_of(images, "app/v1")
        rewrite(blob)
        os.utime(blob, ns=(1, 1))  # as `cp -p` does: its time is not that of the change
        data = seal.seal(Report("site"))
    assert data
    (site / ".scr-export/seal").write_bytes(data)
    assert not is_sealed(images, site)


def test_a_hard_link_of_an_image_breaks_no_seal(sealed: dict[str, Trees], tmp_path: Path) -> None:
    images, site = sealed["unchanged"]
    os.link(blob_of(images, "app/v1"), tmp_path / "elsewhere")
    assert is_sealed(images, site)


def test_a_dry_run_makes_no_seal(images: Path, site: Path) -> None:
    write(images)
    export(images, site)
    await_clock()
    export(images, site, "--dry-run")
    assert not (site / ".scr-export/seal").exists()


def test_unreferenced_content_keeps_the_seal_away(images: Path, site: Path) -> None:
    write(images)
    export(images, site)
    shutil.rmtree(images / "app/v2")
    export(images, site)
    await_clock()
    export(images, site)
    assert not is_sealed(images, site)
    export(images, site, "--grace", "0")
    await_clock()
    export(images, site, "--grace", "0")
    assert is_sealed(images, site)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sums": 1}', '{"sums": [1], "counts": [], "warnings": []}'])
def test_a_damaged_seal_is_ignored(images: Path, site: Path, text: str) -> None:
    write(images)
    export(images, site)
    (site / ".scr-export/seal").write_text(text)
    assert export(images, site)["tags"] == 3


def test_the_seal_is_closed_to_others(sealed: dict[str, Trees]) -> None:
    seal = sealed["unchanged"].site / ".scr-export/seal"
    assert seal.stat().st_mode & 0o777 == 0o600
    assert json.loads(seal.read_text())["counts"]
