"""The entry point. Signals and streams come first, so that nothing ends in a traceback; then the command line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM. It differs from SIGINT by the exit status and the message."""


def main() -> NoReturn:
    """Run `scr-export` with the arguments of the process; end with an exit status of the contract."""
    _open_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from scr_export.cli import run

        sys.exit(run(sys.argv[1:]))
    except Terminated:
        _stop("scr-export: terminated", 143)
    except KeyboardInterrupt:
        _stop("scr-export: interrupted", 130)


def _stop(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    os._exit(status)  # whatever was being loaded is not to be ended in order


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _open_streams() -> None:
    """Give a process that was started without standard streams ones that lead nowhere, as some supervisors do it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
