"""The entry point. Signals and streams come first, so that nothing ends in a traceback; then the command line."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

from scr_export.signals import Terminated, raise_on_sigterm


def main() -> NoReturn:
    """Run `scr-export` with the arguments of the process; end with an exit status of the contract."""
    _open_streams()
    raise_on_sigterm()
    try:
        from scr_export.cli import run

        _exit(run(sys.argv[1:]))
    except Terminated:
        _stop("scr-export: terminated", 143)
    except KeyboardInterrupt:
        _stop("scr-export: interrupted", 130)


def _exit(status: int) -> NoReturn:
    if threading.active_count() > 1:  # requests that did not end in time; the interpreter would not wait well for them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _stop(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    os._exit(status)  # the interpreter was loading something, and cannot end in order


def _open_streams() -> None:
    """Open /dev/null for standard streams that are closed, as some supervisors start programs."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
