"""Power cuts while `receive` works: the disk before each of its changes, where names were written before bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.bundles import change, contents, deliver, differences, fill, pack, receive, unpack
from tests.support.disks import Disk
from tests.support.mounts import needs_root
from tests.support.runner import assert_pullable, assert_whole, export
from tests.support.scenarios import tag_targets

pytestmark = [needs_root, pytest.mark.only_all]  # minutes, for one file system after the other

Commit = Callable[[Disk], None]

CHANGING = ("chmod", "cp", "find", "ln", "mkdir", "mv", "rm", "sync")
# Asks for a power cut, and waits until it was made; only one does so at a time.
SHIM = """#!/bin/sh
[ ! -d {host}/.scr-export/receive/tmp/served ] ||
    flock {cuts}/lock sh -c 'echo {name} >{cuts}/ask && read _ <{cuts}/answer'
{then} {program} "$@"
"""


class State(NamedTuple):
    """Tags with their targets, and paths of manifests and blobs, without the repository that takes a tag's place."""

    names: set[tuple[tuple[str, str], str]]
    content: set[str]

    @classmethod
    def of(cls, site: Path) -> State:
        content = {str(path) for path in site.glob("v2/**/*sha256:*") if "/a/manifests/x" not in str(path)}
        tags = {(key, target) for key, target in tag_targets(site).items() if key[0] != "a" and "@" not in key[0]}
        return cls(tags, content)


class Stage:
    """A host on a disk with one delivery or two, and another run of `receive` with a power cut before each change."""

    def __init__(
        self, disk: Disk, tmp_path: Path, memory: Path, commit: Commit = Disk.commit, *, back: bool = False
    ) -> None:
        self._commit = commit
        self.disk, self.host, self._tmp_path, self._memory = disk, disk.path / "site", tmp_path, memory
        images, self.after = tmp_path / "images", tmp_path / "after"
        self.before = tmp_path / "before"
        fill(images)
        export(images, self.after)
        shutil.copytree(self.after, self.before, symlinks=True)
        shutil.rmtree(deliver(self.before, self.host, "incoming"))
        change(images)
        export(images, self.after, "--grace", "0")
        self._bundle = pack(self.after, tmp_path / "bundle.tar", receive("--have", self.host).stdout)
        self._incoming = self.host / ".scr-export/incoming"
        self._arguments: list[str | Path] = [self._incoming, self.host]
        if back:
            receive(*self._unpacked())
            self.before, self.after = self.after, self.before
            self._arguments = ["--back", self.host]
        self.all_content = contents(self.before) | contents(self.after)
        disk.flush()

    def _unpacked(self) -> list[str | Path]:
        """The arguments of the run, with INCOMING as the bundle has it."""
        if self._incoming in self._arguments:
            shutil.rmtree(self._incoming, ignore_errors=True)
            unpack(self._bundle, self._incoming)
        return self._arguments

    def receive(self, *, sync: bool = True) -> None:
        """Run `receive`; a cut is named by its number and that of syncs before."""
        arguments = self._unpacked()
        with self._cutting(sync) as programs:
            receive(*arguments, shell=["env", f"PATH={programs}:{os.environ['PATH']}", "dash"])
        assert differences(self.after, self.host, before=self.all_content) == {}

    @contextmanager
    def _cutting(self, sync: bool) -> Iterator[Path]:
        programs = self._tmp_path / "bin"
        programs.mkdir()
        for name in CHANGING:
            then = "exec" if sync or name != "sync" else ":"
            program = shutil.which(name)
            shim = SHIM.format(host=self.host, cuts=programs, name=name, then=then, program=program)
            (programs / name).write_text(shim)
            (programs / name).chmod(0o755)
        os.mkfifo(programs / "ask")
        os.mkfifo(programs / "answer")
        thread = threading.Thread(target=self._cut_when_asked, args=(programs,))
        thread.start()
        try:
            yield programs
        finally:
            (programs / "ask").write_text("end\n")
            thread.join()

    def _cut_when_asked(self, programs: Path) -> None:
        number = syncs = 0
        self._states = [[State.of(self.host)]]
        while (name := (programs / "ask").read_text().strip()) != "end":
            number += 1
            self._commit(self.disk)
            self.disk.cut(self._memory / f"{number:03}-{syncs}.cut")
            self._states[-1].append(State.of(self.host))
            if name == "sync":
                syncs += 1
                self._states.append([self._states[-1][-1]])
            (programs / "answer").write_text("go\n")

    def cuts(self) -> list[Path]:
        """The disks after the power cuts, in their order."""
        return sorted(self._memory.glob("*.cut"))

    def assert_as_before_or_after(self) -> None:
        """Every tag is whole and is the old or the new one, and no content has other bytes than its name tells."""
        before, after, found = tag_targets(self.before), tag_targets(self.after), tag_targets(self.host)
        for key, target in found.items():
            assert target in (before.get(key), after.get(key))
        assert before.keys() & after.keys() <= found.keys()
        assert_pullable(self.host)
        for path in (self.host / "v2").rglob("_pages/**/*"):
            assert path.is_dir() or json.loads(path.read_bytes())
        for path in self.host.glob("v2/**/*sha256:*"):
            if path.is_file():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition("sha256:")[2], path

    def assert_one_kind_of_change_between_syncs(self) -> None:
        """Whatever of the changes since a sync is on the disk, each name there leads to what is there."""
        assert len(self._states) == 4
        for states in self._states:
            synced, last = states[0], states[-1]
            if not last.names <= synced.names:  # a tag came or moved
                assert last.content == synced.content
            if not last.content >= synced.content:
                assert last.names == synced.names

    def assert_healed(self, cut: Path) -> None:
        """The same command again ends as if it had not been interrupted."""
        receive(*(self._unpacked() if cut.stem.endswith("-0") else self._arguments))
        assert differences(self.after, self.host, before=self.all_content) == {}
        assert_whole(self.host)
        receive("--check", self.host)


@pytest.fixture
def disk(request: pytest.FixtureRequest, memory: Path, tmp_path: Path) -> Disk:
    return Disk(request.param, memory / "disk.image", tmp_path / "disk")


@pytest.mark.parametrize(
    ("back", "commit", "disk"),
    [
        (False, Disk.commit, "ext4"),
        (False, Disk.commit, "xfs"),
        (False, Disk.commit_manifests, "btrfs"),
        (True, Disk.commit, "ext4"),
        (True, Disk.commit_manifests, "btrfs"),
    ],
    indirect=["disk"],
)
def test_the_power_may_fail_while_a_delivery_is_published(
    disk: Disk, tmp_path: Path, memory: Path, commit: Commit, back: bool
) -> None:
    with disk.mounted():
        stage = Stage(disk, tmp_path, memory, commit, back=back)
        stage.receive()
        stage.assert_one_kind_of_change_between_syncs()
    assert len(stage.cuts()) > 30
    for number, cut in enumerate(stage.cuts()):
        with disk.mounted(cut):
            stage.assert_as_before_or_after()
            if number % 5 == 0:
                stage.assert_healed(cut)


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
def test_a_receive_without_sync_fails_these_tests(disk: Disk, tmp_path: Path, memory: Path) -> None:
    """So these tests can fail: without a sync, a tag leads to an empty manifest."""
    with disk.mounted():
        stage = Stage(disk, tmp_path, memory)
        stage.receive(sync=False)
    with disk.mounted(stage.cuts()[-1]), pytest.raises(AssertionError):
        assert_pullable(stage.host)
