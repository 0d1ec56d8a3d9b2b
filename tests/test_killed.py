"""Exports that are killed or interrupted before any of their changes to the disk."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from scr_export.publish.directory import tree as site_tree
from tests.support.scenarios import SCENARIOS, Stage, outcome

pytestmark = pytest.mark.usefixtures("warm_exporter")


@pytest.fixture
def stage(request: pytest.FixtureRequest, images: Path, memory: Path) -> Stage:
    if "copies" not in request.param:
        images = memory / "images"
        images.mkdir()
    return Stage(SCENARIOS[request.param], images, memory)


@pytest.mark.parametrize("stage", SCENARIOS, indirect=True)
def test_an_export_may_be_killed_before_any_change(stage: Stage) -> None:
    def die(number: int) -> None:
        if number == victim:
            os.kill(os.getpid(), signal.SIGKILL)

    victim = 0
    while True:
        victim += 1
        stage.reset()
        status, messages = stage.export(die)
        if status == 0:
            break
        assert (status, messages) == (-signal.SIGKILL, "")
        stage.assert_as_before_or_after()
        stage.assert_healed()
    assert victim > 10
    assert outcome(stage.site) == stage.outcome


@pytest.mark.parametrize(
    ("stage", "number", "expected", "again"),
    [
        ("first", signal.SIGTERM, 143, False),
        ("first", signal.SIGINT, 130, True),
        ("re-export of copies", signal.SIGTERM, 143, True),
        ("re-export of copies", signal.SIGINT, 130, False),
    ],
    indirect=["stage"],
)
def test_an_export_may_be_interrupted_before_any_change(
    stage: Stage, number: signal.Signals, expected: int, again: bool
) -> None:
    def stop(change: int) -> None:
        if change == victim or (again and change > victim):
            signal.raise_signal(number)

    victim = 0
    while True:
        victim += 1
        stage.reset()
        status, messages = stage.export(stop)
        if status == 0:
            break
        assert status == expected, messages
        assert messages.startswith("scr-export: export ")
        assert messages.count("\n") == 1, messages
        stage.assert_as_before_or_after()
        if victim % 4 == 0:  # what a kill leaves is healed; this leaves less
            stage.assert_healed()
    assert victim > 10


@pytest.mark.parametrize(
    "left",
    [
        "",
        ".scr-export/",
        ".scr-export/lock",
        ".scr-export/lock .scr-export/tmp/",
        ".scr-export/lock .scr-export/tmp/1 .scr-export/tmp/deep/er",
        ".scr-export/tmp/",
        "lost+found/",
    ],
)
def test_leftovers_of_a_first_export_are_taken_as_a_new_site(images: Path, tmp_path: Path, left: str) -> None:
    stage = Stage(SCENARIOS["first"], images, tmp_path)
    shutil.rmtree(stage.site)
    stage.site.mkdir(0o755)
    for name in left.split():
        (stage.site / name).parent.mkdir(parents=True, exist_ok=True)
        (stage.site / name).mkdir() if name.endswith("/") else (stage.site / name).write_text("process 1 on x\n")
    if "tmp" in left and not left.endswith("/"):
        (stage.site / ".scr-export/tmp/a:b").symlink_to("nowhere")
    assert stage.export() == (0, "")
    found = outcome(stage.site)
    found.pop("lost+found", None)  # the file system's own
    assert found == stage.outcome


@pytest.mark.parametrize("stage", SCENARIOS, indirect=True)
def test_every_change_of_the_disk_is_announced(stage: Stage) -> None:
    announced = False

    def announce() -> None:
        nonlocal announced
        announced = True

    def check(_: int) -> None:
        nonlocal announced
        frame = sys._getframe(2)
        if frame.f_code.co_filename == site_tree.__file__:
            if not announced:
                print(f"unannounced: {frame.f_code.co_name}, line {frame.f_lineno}", file=sys.stderr)
            announced = False

    stage.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_tree, "before_change", announce)
        assert stage.export(check) == (0, "")
