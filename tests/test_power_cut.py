"""Power cuts: the disk before each change of an export, where names were written before bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scr_export.publish.directory import tree as site_tree
from tests.support.disks import FSYNC, KINDS, Disk
from tests.support.forked import Exporter, run
from tests.support.mounts import needs_root
from tests.support.runner import assert_pullable, assert_whole, registry
from tests.support.scenarios import SCENARIOS, Scenario, tag_targets

pytestmark = [needs_root, pytest.mark.usefixtures("warm_exporter")]

Flush = Callable[[site_tree.Tree], None]

FLUSH: Flush = site_tree.Tree.sync


class Stage:
    """A site on a disk, new images that were not flushed, and an export with a power cut before each change."""

    def __init__(self, name: str, disk: Disk, tmp_path: Path, memory: Path) -> None:
        self.disk, self.site = disk, disk.path / "site"
        self._images = (tmp_path if "copies" in name else disk.path) / "images"
        self._kept = memory / "images"
        self._memory = memory
        scenario: Scenario = SCENARIOS[name]
        self._arguments = [*scenario.options, str(self._images), str(self.site)]
        self._images.mkdir()
        if scenario.old:
            scenario.old(self._images)
            assert self._export() == (0, "")
        self.before = tag_targets(self.site)
        disk.flush()
        scenario.new(self._images)
        shutil.copytree(self._images, self._kept)

    def _export(self, before_change: Callable[[], None] = lambda: None, settle: Flush = FLUSH) -> tuple[int, str]:
        def prepared() -> None:
            pytest.MonkeyPatch().setattr(os, "fsync", FSYNC)
            before_change()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(site_tree, "before_change", prepared)
            patch.setattr(site_tree.Tree, "sync", settle)
            ended = run(*self._arguments)
        return ended.status, ended.stderr

    def export_and_die(self, flush: int) -> None:
        """Export, and kill the export before the n-th flush, as an impatient operator does."""
        flushes = 0

        def settle(tree: site_tree.Tree) -> None:
            nonlocal flushes
            flushes += 1
            if flushes == flush:
                os.kill(os.getpid(), signal.SIGKILL)
            FLUSH(tree)

        assert self._export(settle=settle) == (-signal.SIGKILL, "")

    def export(self, commit: Callable[[], None], flush: Flush = FLUSH) -> None:
        """Export, with a power cut before each change; a cut is named by its number and that of flushes before."""
        number = flushes = 0

        def before_change() -> None:
            nonlocal number
            number += 1
            commit()
            self.disk.cut(self._memory / f"{number:03}-{flushes}.cut")

        def settle(tree: site_tree.Tree) -> None:
            nonlocal flushes
            flush(tree)
            flushes += 1

        assert self._export(before_change, settle) == (0, "")
        assert_whole(self.site)
        self.after, self.outcome = tag_targets(self.site), registry(self.site)

    def cuts(self) -> list[Path]:
        """The disks after the power cuts, in their order."""
        return sorted(self._memory.glob("*.cut"))

    def assert_as_before_or_after(self) -> None:
        """Every tag is whole and is the old or the new one, and no page was cut short."""
        found = tag_targets(self.site)
        for key, target in found.items():
            assert target in (self.before.get(key), self.after.get(key))
        assert self.before.keys() & self.after.keys() <= found.keys()
        assert_pullable(self.site)
        for path in self.site.rglob("_pages/**/*"):
            assert path.is_dir() or json.loads(path.read_bytes())

    def assert_healed(self, cut: Path, exporter: Exporter) -> None:
        """The next export makes the same site as an export that was not interrupted."""
        if cut.stem.endswith("-0"):  # the images were not flushed: they are copied again
            shutil.rmtree(self._images, ignore_errors=True)
            shutil.copytree(self._kept, self._images)
        ended = exporter.run(*self._arguments)
        assert (ended.status, ended.stderr) == (0, "")
        assert registry(self.site) == self.outcome
        assert_whole(self.site)
        assert exporter.run("verify", str(self.site)).status == 0


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.close()


@pytest.fixture
def disk(request: pytest.FixtureRequest, memory: Path, tmp_path: Path) -> Disk:
    return Disk(request.param, memory / "disk.image", tmp_path / "disk")


@pytest.mark.parametrize(
    ("name", "disk"),
    [
        ("first", "btrfs"),
        ("re-export", "ext4"),
        ("re-export of copies", "ext4"),
        ("index", "xfs"),
        ("replaced", "xfs"),
    ],
    indirect=["disk"],
)
def test_the_power_may_fail_before_any_change(
    name: str, disk: Disk, tmp_path: Path, memory: Path, exporter: Exporter
) -> None:
    with disk.mounted():
        stage = Stage(name, disk, tmp_path, memory)
        stage.export(disk.commit)
    assert len(stage.cuts()) > 10
    for number, cut in enumerate(stage.cuts()):
        with disk.mounted(cut):
            stage.assert_as_before_or_after()
            if number % 5 == 0:
                stage.assert_healed(cut, exporter)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_the_power_may_fail_after_an_export_that_died_before_its_sync(disk: Disk, tmp_path: Path, memory: Path) -> None:
    """Its files have their names, and are not on the disk yet."""
    with disk.mounted():
        stage = Stage("index", disk, tmp_path, memory)
        stage.export_and_die(1)
        stage.export(disk.commit)
    for cut in stage.cuts():
        with disk.mounted(cut):
            stage.assert_as_before_or_after()


@pytest.mark.parametrize("disk", ["btrfs"], indirect=True)
@pytest.mark.parametrize("has_died", [False, True])
def test_content_stays_on_the_disk_while_a_tag_there_needs_it(
    disk: Disk, tmp_path: Path, memory: Path, has_died: bool
) -> None:
    with disk.mounted():
        stage = Stage("index", disk, tmp_path, memory)
        if has_died:
            stage.export_and_die(2)
        stage.export(disk.commit_blobs)
    for cut in stage.cuts():
        with disk.mounted(cut):
            stage.assert_as_before_or_after()


@pytest.mark.parametrize("disk", KINDS, indirect=True)
def test_an_export_without_sync_fails_these_tests(disk: Disk, tmp_path: Path, memory: Path) -> None:
    """So these tests can fail: without a flush, a tag leads to an empty manifest."""
    with disk.mounted():
        stage = Stage("index", disk, tmp_path, memory)
        stage.export(disk.commit, flush=lambda _: site_tree.before_change())
    with disk.mounted(stage.cuts()[-1]), pytest.raises(AssertionError):
        assert_pullable(stage.site)
