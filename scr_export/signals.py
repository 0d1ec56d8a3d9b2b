"""What SIGTERM does. Imports nothing of this package, so that a signal can be taken before anything is loaded."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM. It differs from SIGINT by the exit status and the message."""


def raise_on_sigterm() -> None:
    """Let SIGTERM raise Terminated, as SIGINT raises KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
