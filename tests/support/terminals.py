"""The exporter on a pseudo-terminal, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.forked import TIMEOUT
from tests.support.runner import ENVIRONMENT

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)|(.)", re.DOTALL)

# Shows every step from its first moment, and each piece of it.
AT_ONCE = "from scr_export import progress; " + "; ".join(
    f"progress.{name} = 0" for name in ("BAR_AFTER", "BAR_EVERY", "LINE_AFTER", "LINE_EVERY")
)


class Screen(NamedTuple):
    """What a terminal shows: its lines, and whether the cursor is seen."""

    lines: list[str]
    has_cursor: bool


def screen(output: str) -> Screen:
    """What a terminal shows after this output. It knows what rich sends; anything else is an error."""
    lines, row, column, has_cursor = [""], 0, 0, True
    for number, letter, carriage, feed, text, other in _CONTROL.findall(output):
        match letter or carriage or feed or ("text" if text else ""):
            case "m":
                continue
            case "h" | "l" if number == "?25":
                has_cursor = letter == "h"
            case "A":
                row -= int(number or 1)
            case "K" if number == "2":
                lines[row] = ""
            case "\r":
                column = 0
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "text":
                lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                column += len(text)
            case _:
                raise AssertionError(f"not known: {number!r} {letter!r} {other!r}")
    return Screen([line.rstrip() for line in lines if line.strip()], has_cursor)


class OnTerminal:
    """`scr-export` with standard error on a terminal of its own. `output` has all that came there so far."""

    def __init__(
        self,
        *arguments: str | Path,
        width: int = 100,
        first: str = "",
        term: str = "xterm-256color",
        **environment: str,
    ) -> None:
        self.output = ""
        self._terminal, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        code = f"import sys; {first or 'pass'}; from scr_export.entry import main; main()"
        known = {
            name: value for name, value in ENVIRONMENT.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=known | {"TERM": term} | environment,
        )
        os.close(theirs)
        self._something = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        data = b""
        try:
            while piece := os.read(self._terminal, 65536):
                data += piece
                self.output = data.decode(errors="replace")
                self._something.set()
        except OSError:  # the last process has closed it
            pass

    def wait_for_output(self) -> None:
        """Wait until anything came."""
        assert self._something.wait(TIMEOUT)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> str:
        """Wait for the end, and for all that came to the terminal; standard output."""
        stdout, _ = self.process.communicate(timeout=TIMEOUT)
        self._reader.join(TIMEOUT)
        return stdout.decode()

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._reader.join(TIMEOUT)
        os.close(self._terminal)


def run_on_terminal(*arguments: str | Path, **options: Any) -> tuple[str, OnTerminal]:
    """Run `scr-export` to its end; standard output, and the terminal."""
    with OnTerminal(*arguments, **options) as terminal:
        return terminal.wait(), terminal
