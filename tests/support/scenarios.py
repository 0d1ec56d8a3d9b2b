"""Exports that tests interrupt: what IMAGES holds before and after, and what SITE must be in between."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.builders import write_image, write_index
from tests.support.forked import Hook, run
from tests.support.runner import assert_manifest_pullable, assert_whole

TagTargets = dict[tuple[str, str], str]


class Scenario(NamedTuple):
    """What fills IMAGES before the first export (None: no such export), what changes it then, and the export's options.

    Where a path changes hands between a tag and a repository, an interruption may leave a list that names what is gone.
    """

    old: Callable[[Path], object] | None
    new: Callable[[Path], object]
    options: tuple[str, ...] = ("--grace", "0")
    lists_are_right: bool = True


def two_images(images: Path) -> None:
    write_image(images / "app/v1", layers=1)
    write_image(images / "app/v2", seed=2, layers=1)


def three_images(images: Path) -> None:
    for seed, path in enumerate(("app/goes", "app/moves", "app/stays")):
        write_image(images / path, seed=seed, layers=1)


def one_moves_one_goes_one_comes(images: Path) -> None:
    shutil.rmtree(images / "app/goes")
    write_image(images / "app/moves", seed=3, layers=1)
    write_image(images / "new/comes", seed=4, layers=1, share_layers_of=2)


def an_index(images: Path) -> None:
    write_index(images / "app/moves", seed=5, layers=1)


def two_repositories(images: Path) -> None:
    write_image(images / "app/v1", layers=1)
    write_image(images / "gone/deep/v1", seed=2, layers=1)
    write_image(images / "gone/deep/v2", seed=3, layers=1)


def one_repository(images: Path) -> None:
    shutil.rmtree(images / "gone")


def equal_copies(images: Path) -> None:
    copy = images.with_name("copy")
    shutil.copytree(images, copy)
    shutil.rmtree(images)
    copy.rename(images)
    (images / "app/v1/manifest.json").chmod(0o600)


def a_repository_where_a_tag_may_be(images: Path) -> None:
    write_image(images / "a/v1", layers=1)
    write_image(images / "a/manifests/x/v1", seed=2, layers=1)


def a_tag_there(images: Path) -> None:
    shutil.rmtree(images / "a/manifests")
    write_image(images / "a/x", seed=3, layers=1)


def a_tag_where_a_repository_may_be(images: Path) -> None:
    write_image(images / "a/v1", layers=1)
    write_image(images / "a/x", seed=2, layers=1)


def a_repository_there(images: Path) -> None:
    shutil.rmtree(images / "a/x")
    write_image(images / "a/manifests/x/v1", seed=3, layers=1)


RE_EXPORT = Scenario(three_images, one_moves_one_goes_one_comes)
SCENARIOS = {
    "first": Scenario(None, two_images),
    "re-export": RE_EXPORT,
    "grace": RE_EXPORT._replace(options=()),
    "index": Scenario(three_images, an_index),
    "gone": Scenario(two_repositories, one_repository),
    "replaced": Scenario(two_images, equal_copies),
    "tag over repository": Scenario(a_repository_where_a_tag_may_be, a_tag_there, lists_are_right=False),
    "repository over tag": Scenario(a_tag_where_a_repository_may_be, a_repository_there, lists_are_right=False),
    "copies": Scenario(None, two_images),
    "re-export of copies": RE_EXPORT,
}


class Stage:
    """A scenario with its files. `reset` makes `site` again as it was before the export."""

    def __init__(self, scenario: Scenario, images: Path, directory: Path) -> None:
        self.site = directory / "site"
        self._lists_are_right = scenario.lists_are_right
        self._kept = directory / "before"
        self._arguments = [*scenario.options, str(images), str(self.site)]
        if scenario.old:
            scenario.old(images)
            assert self.export() == (0, "")
            self.site.rename(self._kept)
        self.before = tag_targets(self._kept)
        scenario.new(images)
        self.reset()
        assert self.export() == (0, "")
        assert_whole(self.site)
        self.after = tag_targets(self.site)
        self.outcome = outcome(self.site)

    def reset(self) -> None:
        shutil.rmtree(self.site, ignore_errors=True)
        if self._kept.exists():
            shutil.copytree(self._kept, self.site, symlinks=True, copy_function=os.link)

    def export(self, before_change: Hook | None = None) -> tuple[int, str]:
        """Export in a process of its own. Returns its status and its messages."""
        ended = run(*self._arguments, before_change=before_change)
        return ended.status, ended.stderr

    def assert_as_before_or_after(self) -> None:
        """Every tag of the site is whole and is the old or the new one; lists name only tags that exist."""
        found = tag_targets(self.site)
        for (name, tag), target in found.items():
            assert target in (self.before.get((name, tag)), self.after.get((name, tag)))
            assert_manifest_pullable(self.site / "v2" / name, target)
        assert self.before.keys() & self.after.keys() <= found.keys()
        if self._lists_are_right:
            self._assert_lists_name_what_is_there(found)

    def _assert_lists_name_what_is_there(self, found: TagTargets) -> None:
        for path in self.site.glob("v2/**/tags/list"):
            document = json.loads(path.read_bytes())
            assert {(document["name"], tag) for tag in document["tags"]} <= found.keys()
        if (catalog := self.site / "v2/_catalog").exists():
            for name in json.loads(catalog.read_bytes())["repositories"]:
                assert (self.site / "v2" / name / "tags/list").exists()

    def assert_healed(self) -> None:
        """The next export makes the same site as an export that was not interrupted."""
        assert self.export() == (0, "")
        assert outcome(self.site) == self.outcome


def tag_targets(site: Path) -> TagTargets:
    """The manifest name of each tag of a site, by repository and tag."""
    return {
        (str(path.parents[1].relative_to(site / "v2")), path.name): os.readlink(path)
        for path in site.glob("v2/**/manifests/*")
        if path.is_symlink()
    }


def outcome(site: Path) -> dict[str, tuple[object, ...]]:
    """What must be equal in two sites of the same images: names, modes, targets, bytes and hard links."""
    found: dict[str, tuple[object, ...]] = {}
    first_names: dict[int, str] = {}
    for path in [site, *sorted(site.rglob("*"))]:
        name, status = str(path.relative_to(site)), path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[name] = (os.readlink(path),)
        elif stat.S_ISDIR(status.st_mode):
            found[name] = (status.st_mode,)
        elif name not in (".scr-export/lock", ".scr-export/verified"):  # the site's own copies are new files each time
            first_name = first_names.setdefault(status.st_ino, name)
            found[name] = (status.st_mode, first_name, _data(path))
    return found


def _data(path: Path) -> object:
    if path.name != "state.json":
        return path.read_bytes()
    noted = json.loads(path.read_bytes())
    return noted["unreferenced"].keys(), noted["link_refused"]  # the times differ
