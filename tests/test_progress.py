"""Long steps show how far they are: a bar on a terminal, else a line now and then, on standard error alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scr_export.progress import State
from scr_export.text import clock, duration
from tests.support.builders import blob_of, write_image
from tests.support.endless import image_without_end
from tests.support.runner import ENVIRONMENT, export, sound
from tests.support.terminals import AT_ONCE, OnTerminal, run_on_terminal, screen

COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|38;5;[0-9]+|9[0-7])m")
INTERRUPTED = "scr-export: export interrupted; every tag of the site can still be pulled"


def run_at_once(*arguments: str | Path, **redirect: Any) -> subprocess.CompletedProcess[str]:
    """Run `scr-export` without a terminal, so that each step shows from its first moment."""
    code = f"import sys; {AT_ONCE}; from scr_export.entry import main; main()"
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | redirect
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, env=ENVIRONMENT, check=True, **streams)
    return sound(done) if done.stderr is not None else done


def test_a_bar_appears_after_a_second_and_ctrl_c_leaves_a_clean_line(images: Path, site: Path) -> None:
    image_without_end(images)
    began = time.monotonic()
    with OnTerminal(images, site) as terminal:
        terminal.wait_for_output()
        assert time.monotonic() - began >= 1
        terminal.interrupt()
        assert terminal.wait() == ""
    assert terminal.process.returncode == 130
    during, _, _ = terminal.output.partition("\r\x1b[2K")
    assert re.fullmatch(
        r"hashing ━+ [0-9.]+ [kMG]B of 8\.8 TB, [0-9.]+ [kMG]B/s, [0-9:]+ left", screen(during).lines[0]
    )
    assert not screen(during).has_cursor
    assert screen(terminal.output) == ([INTERRUPTED], True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_moment_is_good_for_a_signal(images: Path, site: Path, number: signal.Signals) -> None:
    """Also while rich is loaded, and while it draws."""
    image_without_end(images)
    for delay in (0.0, 0.1, 0.3):
        with OnTerminal(images, site, first=AT_ONCE) as terminal:
            terminal.wait_for_output()
            time.sleep(delay)  # no state to wait for: any moment will do
            terminal.process.send_signal(number)
            terminal.wait()
        assert terminal.process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], terminal.output[-3000:]
        (line,), has_cursor = screen(terminal.output)
        assert line.startswith(f"scr-export: export {'interrupted' if number == signal.SIGINT else 'terminated'}; ")
        assert has_cursor


@pytest.mark.parametrize(
    "work",
    [
        "left = progress.counted(iter([1, 2]), 'reading', 'image'); next(left); next(left)",  # as a signal leaves it
        "left = progress.Progress('hashing', 9); left.__enter__(); left.advance(); left.__exit__(); left.advance()",
        "left = progress.Progress('hashing', 9); left.advance()",  # and a thread that works on for a moment
    ],
)
def test_a_line_goes_although_its_step_is_not_ended_or_goes_on(work: str) -> None:
    begin = "from contextlib import ExitStack; block = ExitStack(); block.enter_context(progress.shown())"
    end = "block.close(); getattr(left, 'advance', int)(); print('the end', file=sys.stderr)"
    code = f"{AT_ONCE}; {begin}; {work}; {end}; import os; os._exit(0)"
    _, terminal = run_on_terminal(first=code)
    assert re.search("reading 1 image|hashing .*1 bytes", terminal.output)
    assert screen(terminal.output) == (["the end"], True)


def test_a_bar_vanishes_at_the_end(images: Path, site: Path) -> None:
    for number in range(3):
        write_image(images / f"app/v{number}", seed=number)
    stdout, terminal = run_on_terminal(images, site, first=AT_ONCE)
    assert stdout.startswith(f"{site}: 3 images in 1 repository, 3 tags\n")
    for words in ("reading images 3 images, ", "hashing ", "publishing "):
        assert words in terminal.output
    assert screen(terminal.output) == ([], True)


def test_standard_output_has_nothing_of_it(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    stdout, terminal = run_on_terminal("--json", images, site, first=AT_ONCE)
    assert json.loads(stdout)["tags"] == 1
    assert terminal.output


def test_no_color_means_no_colour(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    _, coloured = run_on_terminal(images, site, "--dry-run", first=AT_ONCE)
    _, plain = run_on_terminal(images, site, "--dry-run", first=AT_ONCE, NO_COLOR="1")
    assert COLOUR.search(coloured.output)
    assert "hashing ━" in plain.output
    assert not COLOUR.search(plain.output)
    assert screen(plain.output) == ([], True)


def test_a_narrow_terminal_has_one_narrow_line(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    _, terminal = run_on_terminal(images, site, first=AT_ONCE, width=40)
    texts = re.split(r"[\r\n]+", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.output))
    assert any(re.fullmatch(r"hashing [0-9]+%, .*", text) for text in texts), texts
    assert max(map(len, texts)) <= 40
    assert screen(terminal.output) == ([], True)


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_dumb_terminal_gets_plain_lines(images: Path, site: Path, term: str) -> None:
    write_image(images / "app/v1")
    _, terminal = run_on_terminal(images, site, first=AT_ONCE, term=term)
    assert "\x1b" not in terminal.output
    assert terminal.output.startswith("reading images: 1 image, ")


def test_a_dumb_terminal_shows_nothing_in_the_first_seconds(images: Path, site: Path) -> None:
    image_without_end(images)
    with OnTerminal(
        images, site, term="dumb", first="from scr_export import progress; progress.LINE_AFTER = 2"
    ) as terminal:
        terminal.wait_for_output()
        terminal.interrupt()
        terminal.wait()
    first, *_, last = terminal.output.splitlines()
    assert re.fullmatch(r"hashing: [0-9.]+ [kMG]B of 8\.8 TB, [0-9.]+ [kMG]B/s, [0-9:]+ left", first)
    assert last == INTERRUPTED


def test_quiet_silences_it(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    stdout, terminal = run_on_terminal("-q", images, site, first=AT_ONCE)
    assert stdout == ""
    assert terminal.output == ""


def test_a_library_shows_nothing(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    options = f"ExportOptions(images={str(images)!r}, site={str(site)!r})"
    _, terminal = run_on_terminal(first=f"{AT_ONCE}; from scr_export import *; export({options}); sys.exit()")
    assert (terminal.process.returncode, terminal.output) == (0, "")


def test_a_terminal_that_goes_away_ends_no_export(images: Path, site: Path) -> None:
    for number in range(3):
        write_image(images / f"app/v{number}", seed=number)
    ours, theirs = os.openpty()
    code = f"import sys, os; {AT_ONCE}; os.close({ours}); from scr_export.entry import main; main()"
    environment = ENVIRONMENT | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, images, site],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        pass_fds=[ours],
        env=environment,
    )
    os.close(ours)
    os.close(theirs)
    stdout, _ = process.communicate(timeout=20)
    assert (process.returncode, stdout.decode().splitlines()[0]) == (0, f"{site}: 3 images in 1 repository, 3 tags")


def test_without_a_terminal_there_are_plain_lines(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    done = run_at_once(images, site)
    assert done.stdout.startswith(f"{site}: ")
    last = {line.partition(":")[0]: line for line in done.stderr.splitlines()}
    assert list(last) == ["reading images", "hashing", "publishing"]
    assert re.fullmatch(r"reading images: 1 image, [0-9,]+/s", last["reading images"])
    assert re.fullmatch(r"hashing: (20\.8 kB) of \1, [0-9.]+ [kMG]B/s, 0:00 left", last["hashing"])
    assert re.fullmatch(r"publishing: (21\.5 kB) of \1, .*", last["publishing"])
    log = tmp_path / "log"
    with log.open("w") as file:
        run_at_once("verify", site, stdout=file, stderr=file)
    assert "hashing: " in log.read_text()
    assert log.read_text().endswith(" s in all\n")


def test_a_copy_counts_while_it_is_made(images: Path, site: Path) -> None:
    write_image(images / "app/v1", layer_size=1_000_000, compression="none")
    blob_of(images, "app/v1").chmod(0o600)
    lines = [line for line in run_at_once(images, site).stderr.splitlines() if line.startswith("publishing: ")]
    assert len(lines) > 4  # there are four files, of which one comes in pieces
    assert re.fullmatch(r"publishing: (2\.0 MB) of \1, .*", lines[-1])


def test_a_pipe_whose_reader_went_away_ends_no_export(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    ours, theirs = os.pipe()
    os.close(ours)
    run_at_once(images, site, stderr=theirs)
    os.close(theirs)


def test_cron_gets_no_lines_where_standard_output_is_thrown_away(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    assert run_at_once(images, site, stdout=subprocess.DEVNULL).stderr == ""


def test_every_long_step_is_shown(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    blob_of(images, "app/v1").chmod(0o600)  # so it is copied
    export(images, site)
    for path in (site / ".scr-export/verified", site / ".scr-export/state.json"):
        path.unlink()
    steps: dict[tuple[str | Path, ...], set[str]] = {
        (images, site): {"looking for changes", "reading images", "hashing", "hashing files of the site"},
        ("verify", site): {"reading the site", "hashing"},
        ("list", site): {"reading the site"},
        ("pack", site, tmp_path / "bundle"): {"reading the site", "packing"},
    }
    for arguments, names in steps.items():
        lines = run_at_once(*arguments).stderr.splitlines()
        assert {line.partition(":")[0] for line in lines} == names


def test_a_short_run_does_not_load_what_draws(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    loaded = "[name for name in sys.modules if name.startswith(('rich', 'scr_export.progress_'))]"
    stdout, _ = run_on_terminal(images, site, first=f"import atexit; atexit.register(lambda: print({loaded}))")
    assert stdout.endswith("\n[]\n")


def test_the_rate_is_that_of_the_last_seconds_and_gives_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    state = State("hashing", 1_000_000_000, "byte")
    for second in range(1, 41):
        state.done += 1_000_000 if second <= 20 else 2_000_000
        state.take_sample(float(second))
    assert state.pace == "2.0 MB/s, 7:50 left"
    assert (state.amount, state.share) == ("60.0 MB of 1.0 GB", "6%")


def test_what_is_unknown_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    state = State("reading", None, "directory")
    state.done = 3_000
    assert (state.amount, state.share, state.pace) == ("3,000 directories", "3,000 directories", "0/s")
    state.take_sample(2.0)
    assert state.pace == "1,500/s"
    late = State("hashing", 10, "byte")
    late.done = 20  # more than was thought
    late.take_sample(1.0)
    assert (late.share, late.pace) == ("100%", "20 bytes/s, 0:00 left")


@pytest.mark.parametrize(
    ("seconds", "on_a_clock", "in_words"),
    [
        (0, "0:00", "0.00 s"),
        (0.126, "0:00", "0.13 s"),
        (59.4, "0:59", "59.40 s"),
        (59.6, "1:00", "1 min 0 s"),
        (725, "12:05", "12 min 5 s"),
        (3723, "1:02:03", "1 h 2 min"),
        (400000, "111:06:40", "111 h 6 min"),
    ],
)
def test_durations_are_short(seconds: float, on_a_clock: str, in_words: str) -> None:
    assert (clock(seconds), duration(seconds)) == (on_a_clock, in_words)
