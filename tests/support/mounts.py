"""File systems that tests mount, as root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and be another user")


def mount(*arguments: str | Path) -> None:
    """Run `mount`, which must succeed."""
    process = subprocess.run(["mount", *arguments], capture_output=True, encoding="utf-8")
    assert process.returncode == 0, f"this machine cannot mount what the test needs: {process.stderr}"


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[Path]:
    """Mount with these arguments, the last of which is the mount point; unmount at the end."""
    mount(*arguments)
    point = Path(arguments[-1])
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
