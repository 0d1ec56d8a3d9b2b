"""How far a long step is, on standard error: a bar on a terminal, else a line every 30 seconds.

Nothing is shown unless a command is run inside `shown`, as the command line does and a library does not.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO, TypeVar

from scr_export.text import clock, count, size

BYTES = "byte"

# In seconds. A step that is over before the first of them is never shown, and costs nothing.
BAR_AFTER, BAR_EVERY = 1.0, 0.1
LINE_AFTER, LINE_EVERY = 30.0, 30.0
_RATE_OVER = 10.0

_NO_BARS = {"", "dumb", "unknown"}  # values of TERM

T = TypeVar("T")


class View(Protocol):
    """What shows a step. OSError: the terminal or the file is gone."""

    def show(self, state: State) -> None:
        """Show the state of the step in place of the last one."""

    def close(self) -> None:
        """Leave a clean line."""


class State:
    """How far a step is. `total` is None where it is not known, `unit` is `byte` or the noun of what is counted."""

    def __init__(self, step: str, total: int | None, unit: str) -> None:
        self.step = step
        self.total = total
        self.unit = unit
        self.done = 0
        self._samples = deque([(time.monotonic(), 0)])

    def take_sample(self, now: float) -> None:
        """Note how much is done at this time, for the rate of the last seconds."""
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and self._samples[1][0] < now - _RATE_OVER:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """How much was done in each of the last seconds."""
        (began, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - began) if now > began else 0

    @property
    def share(self) -> str:
        """How much of the total is done, in percent; without a total, how much is done."""
        if not self.total:
            return self._amount(self.done)
        return f"{min(self.done, self.total) / self.total:.0%}"

    @property
    def amount(self) -> str:
        """How much is done, and of what total."""
        return self._amount(self.done) + (f" of {self._amount(self.total)}" if self.total else "")

    @property
    def pace(self) -> str:
        """The rate and the time left, as far as they are known."""
        rate = self.rate
        speed = f"{size(int(rate)) if self.unit == BYTES else f'{rate:,.0f}'}/s"
        if not self.total or rate <= 0:
            return speed
        return f"{speed}, {clock(max(self.total - self.done, 0) / rate)} left"

    def _amount(self, number: int) -> str:
        return size(number) if self.unit == BYTES else count(number, self.unit)


class Progress:
    """Shows a step while it lasts. `total` is in bytes, or counts what `unit` names; None: it is not known."""

    def __init__(self, step: str, total: int | None = None, unit: str = BYTES) -> None:
        self._state = State(step, total, unit)
        self._kind = _kind
        self._view: View | None = None
        self._next = time.monotonic() + (_kind.after if _kind else 0)
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._kind = None
        if self._view:
            _close(self._view)

    def advance(self, count: int = 1) -> None:
        """Note that `count` more are done. Threads may share a step."""
        with self._lock:
            self._state.done += count
            if self._kind and (now := time.monotonic()) >= self._next:
                self._next = now + self._kind.every
                self._state.take_sample(now)
                self._show(self._kind)

    def _show(self, kind: _Kind) -> None:
        with _drawing:
            if self._kind is None or _kind is not kind:
                return  # the step has ended meanwhile; a signal can leave a thread at work for a moment
            try:
                if self._view is None:
                    self._view = kind.open()
                    _views.append(self._view)
                self._view.show(self._state)
            except OSError:  # nobody can see it, which is no reason to stop
                self._kind = None
                _discard_stderr()


def counted(items: Iterable[T], step: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield these items while a step shows how many of them came."""
    with Progress(step, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


class _Kind:
    """A way to show steps: when first, how often, and by what."""

    def __init__(self, after: float, every: float) -> None:
        self.after = after
        self.every = every

    def open(self) -> View:
        return _Lines()


class _Bars(_Kind):
    def open(self) -> View:
        try:
            from scr_export.progress_bar import Bar  # its import takes 0.1 s
        except ImportError:  # typer can be installed without rich
            self.after, self.every = LINE_AFTER, LINE_EVERY
            return _Lines()
        return Bar(sys.stderr)


class _Lines:
    def show(self, state: State) -> None:
        print(f"{state.step}: {state.amount}, {state.pace}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


_kind: _Kind | None = None
_drawing = threading.Lock()
_views: list[View] = []  # those that are shown; more than one only where a signal came just before the end of a step


def _close(view: View) -> None:
    with _drawing:
        if view in _views:
            with suppress(OSError):
                view.close()
            _views.remove(view)


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[None]:
    """Show the steps in this block on standard error, unless `quiet`."""
    global _kind
    before, _kind = _kind, None if quiet else _kind_for_stderr()
    try:
        yield
    finally:
        _kind = before
        while _views:  # a signal ended what they show, and nothing has closed them yet
            _close(_views[-1])


def _kind_for_stderr() -> _Kind | None:
    if sys.stderr.isatty():
        if os.environ.get("TERM", "").lower() not in _NO_BARS:
            return _Bars(BAR_AFTER, BAR_EVERY)
    elif _is_null(sys.stdout):  # as from cron, which mails all that comes on standard error
        return None
    return _Kind(LINE_AFTER, LINE_EVERY)


def _discard_stderr() -> None:
    """Let standard error go nowhere, so that Python does not fail at its end to write what it has kept of it."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stderr.fileno())
        os.close(null)


def _is_null(stream: TextIO) -> bool:
    try:
        status, null = os.fstat(stream.fileno()), os.stat(os.devnull)
    except (OSError, ValueError):  # it is no file at all
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == null.st_rdev
