"""The exporter in a forked process: quicker than a new one, and it can be disturbed, or be another user."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple, NoReturn

import pytest
from typer.testing import CliRunner

from scr_export import cli, entry
from scr_export.commands.documents import documents
from scr_export.text import printable

# The audit events of the interpreter before each change of the file system.
_CHANGES = {"os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.rename", "os.truncate"}

TIMEOUT = 20  # seconds after which a process hangs; a test never waits this long for one that does not

Hook = Callable[[int], None]


class Ended(NamedTuple):
    """How a process ended; a negative status is the signal that killed it."""

    status: int
    stdout: str
    stderr: str


@functools.cache
def warm() -> None:
    """Import all that the command line imports on its first use, so that no forked process, or user, has to."""
    importlib.import_module("concurrent.futures.thread")
    assert CliRunner().invoke(cli.app, ["export", "/nowhere", "/nowhere"]).exit_code == 2
    assert printable("\n") == r"\n"


def run(
    *arguments: str, before_change: Hook | None = None, before_read: Hook | None = None, user: int | None = None
) -> Ended:
    """Run `scr-export`, as another user if need be.

    A hook is called with a number: before each change, or before anything is opened that is only read.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            _be_the_exporter(arguments, (stdout.fileno(), stderr.fileno()), (before_change, before_read), user)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for stream in (stdout, stderr):
            stream.seek(0)
        return Ended(status, stdout.read().decode(), stderr.read().decode())


class Exporter:
    """`run` in one process that stays: quicker still, for many runs that nothing disturbs."""

    def __init__(self, user: int | None = None) -> None:
        self._user = user
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_run_what_comes, args=(theirs, self._pipe, self._user))
        self._process.start()
        theirs.close()

    def run(self, *arguments: str) -> Ended:
        """Run `scr-export`."""
        self._pipe.send(arguments)
        try:
            return Ended(*self._pipe.recv())
        except EOFError:
            self.close()
            status = self._process.exitcode
            self._start()
            return Ended(97 if status is None else status, "", "")

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _run_what_comes(pipe: Connection, theirs: Connection, user: int | None) -> None:
    theirs.close()
    _prepare(user)
    with contextlib.suppress(EOFError):
        while True:
            arguments = pipe.recv()
            with io.TextIOWrapper(io.BytesIO()) as sys.stdout, io.TextIOWrapper(io.BytesIO()) as sys.stderr:
                status = _status_of(arguments)
                streams = sys.stdout, sys.stderr
                pipe.send((status, *(_written(stream) for stream in streams)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _be_the_exporter(
    arguments: tuple[str, ...], streams: tuple[int, int], hooks: tuple[Hook | None, Hook | None], user: int | None
) -> NoReturn:
    status = 99
    try:
        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in streams)  # noqa: SIM115
        _prepare(user)
        with _announced(*hooks):
            status = _status_of(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _prepare(user: int | None) -> None:
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The system outlives the program here: syncing would change nothing but the time.
    pytest.MonkeyPatch().setattr(os, "fsync", lambda _: None)
    if user is not None:
        _become(user)


def _status_of(arguments: tuple[str, ...]) -> int:
    sys.argv = ["scr-export", *arguments]
    signal.alarm(TIMEOUT)  # nothing handles it: what hangs dies of it
    try:
        entry.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 98
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        signal.alarm(0)


def _become(user: int) -> None:
    documents()  # the package may lie where only its owner can read
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


@contextlib.contextmanager
def _announced(before_change: Hook | None, before_read: Hook | None) -> Iterator[None]:
    """Call the hooks in this block only, so not for files that coverage writes at the end."""
    over = False
    counts = {before_change: 0, before_read: 0}

    def audit(event: str, args: tuple[object, ...]) -> None:
        creates = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
        hook = before_change if creates or event in _CHANGES else before_read if event == "open" else None
        if hook and not over:
            counts[hook] += 1
            hook(counts[hook])

    if before_change or before_read:
        sys.addaudithook(audit)
    try:
        yield
    finally:
        over = True
