"""Modes: everybody can read a site, and only its owner the state."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.builders import write_image, write_index
from tests.support.runner import export, start, wait


def test_a_site_is_readable_under_any_umask(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    for path in images.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    export(images, site / "deeper", umask=0o077)
    state = site / "deeper/.scr-export"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state, state / "lock", state / "verified")} == {0o700, 0o600}
    for path in [site, *site.rglob("*")]:
        if not path.is_symlink() and ".scr-export" not in path.parts:
            assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize(
    "which", ["v2", "v2/app/blobs", "v2/app/manifests", "v2/app/tags", "manifest", "pages", "list"]
)
def test_an_export_makes_directories_and_files_readable_again(images: Path, site: Path, which: str) -> None:
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


def test_other_users_cannot_read_the_state(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    (site / ".scr-export").mkdir(parents=True, mode=0o755)
    (site / ".scr-export/lock").touch(mode=0o644)
    export(images, site)
    assert stat.S_IMODE((site / ".scr-export").stat().st_mode) == 0o700
    assert stat.S_IMODE((site / ".scr-export/lock").stat().st_mode) == 0o600
