"""A line on standard error that moves while someone watches; nothing at all where nobody does."""

from __future__ import annotations

import sys
import time

from scr_export.report import amount

_INTERVAL = 0.2


class Progress:
    """Counts bytes of a step against its total. Silent unless standard error is a terminal."""

    def __init__(self, step: str, total: int) -> None:
        self._step = step
        self._total = total
        self._done = 0
        self._next = time.monotonic() + _INTERVAL
        self._shown = False

    def advance(self, count: int) -> None:
        """Note that `count` more bytes are done."""
        self._done += count
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._shown = True
            print(
                f"\r\033[K{self._step} {amount(self._done)} of {amount(self._total)}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def finish(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
