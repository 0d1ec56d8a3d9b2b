"""Wait for a condition instead of for a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.support.forked import TIMEOUT


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = TIMEOUT
) -> None:
    """Return as soon as the condition is true. Fail after so many seconds, or when the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the process ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"not so after {seconds} seconds"
        time.sleep(0.005)
