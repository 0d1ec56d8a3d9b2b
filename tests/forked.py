"""The exporter in a forked process: quicker than a new one, and it can be disturbed, or be another user."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import pytest
from typer.testing import CliRunner

from scr_export import cli
from scr_export.site import paths

# What the interpreter announces before it asks the system for a change, whoever in the program wants it.
_CHANGES = {"os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.rename", "os.truncate"}

Hook = Callable[[int], None]


class Ended(NamedTuple):
    """How a process ended; a negative status is the signal that killed it."""

    status: int
    stdout: str
    stderr: str


def warm() -> None:
    """Load what the command line loads when it is first used, so that no fork has to, nor a user who may not."""
    assert CliRunner().invoke(cli.app, ["export", "/nowhere", "/nowhere"]).exit_code == 2


def run(*arguments: str, before_change: Hook | None = None, user: int | None = None) -> Ended:
    """Run `scr-export`, as another user if need be. The hook is called before each change, with its number."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            _be_the_exporter(arguments, (stdout.fileno(), stderr.fileno()), before_change, user)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for stream in (stdout, stderr):
            stream.seek(0)
        return Ended(status, stdout.read().decode(), stderr.read().decode())


def _be_the_exporter(
    arguments: tuple[str, ...], streams: tuple[int, int], before_change: Hook | None, user: int | None
) -> NoReturn:
    status: object = 99
    try:
        sys.dont_write_bytecode = True
        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in streams)  # noqa: SIM115
        sys.argv = ["scr-export", *arguments]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The system outlives the program here: syncing would change nothing but the time.
        pytest.MonkeyPatch().setattr(os, "fsync", lambda _: None)
        if user is not None:
            _become(user)
        if before_change:
            _announce(before_change)
        cli.main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 98)


def _become(user: int) -> None:
    # The package may lie where only its owner can read.
    snippets = {name: paths.snippet(name) for name in paths.SNIPPETS}
    pytest.MonkeyPatch().setattr(paths, "snippet", snippets.__getitem__)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def _announce(before_change: Hook) -> None:
    count = 0

    def audit(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        creates = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
        if event in _CHANGES or creates:
            count += 1
            before_change(count)

    sys.addaudithook(audit)
