"""A line on standard error that shows how far a long step is. Silent where standard error is no terminal."""

from __future__ import annotations

import sys
import time

from scr_export.text import size

_INTERVAL = 0.2


class Progress:
    """Counts the bytes of a step against its total, in bytes."""

    def __init__(self, step: str, total: int) -> None:
        self._step = step
        self._total = total
        self._done = 0
        self._next = time.monotonic() + _INTERVAL
        self._is_shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        """Note that `count` more bytes are done."""
        self._done += count
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._is_shown = True
            line = f"\r\033[K{self._step} {size(self._done)} of {size(self._total)}"
            print(line, end="", file=sys.stderr, flush=True)
