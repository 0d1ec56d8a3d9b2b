"""What a process costs, and how two of them compare that were run in turns: A B A B …

A machine's speed drifts, so only the ratio within one pair counts; of the ratios, the median, and the spread beside it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

Command = Sequence[str | Path]
T = TypeVar("T")


class NotMeasured(Exception):
    """Why a row has no figures."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process and those it waited for: seconds by the clock, seconds of CPU, bytes of the largest one."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the least and the greatest of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.least:.3f} .. {self.most:.3f})"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    row: str
    measured: str
    against: str = ""
    ratio: str = ""
    goal: str = ""
    verdict: str = "measured"


def cost(command: Command) -> Cost:
    """Run a command to its end; NotMeasured if that is not 0."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split())
            raise NotMeasured(f"{command[0]} ended with {process.returncode}: {words[-300:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turns(measured: Callable[[], T], against: Callable[[], T], pairs: int) -> tuple[list[T], list[T]]:
    """What either gave, pair by pair, after one of each that does not count."""
    taken = [(measured(), against()) for _ in range(pairs + 1)][1:]
    return [one for one, _ in taken], [other for _, other in taken]


def compared(
    row: str,
    measured: Sequence[float],
    other: str,
    against: Sequence[float],
    goal: float | None = None,
    *,
    unit: Callable[[float], str],
) -> Line:
    """The line of a ratio, pair by pair, that shall not be above `goal`."""
    ratio = Spread.of([one / two for one, two in zip(measured, against, strict=True)])
    values = unit(median(measured)), f"{other}: {unit(median(against))}"
    if goal is None:
        return Line(row, *values, str(ratio))
    return Line(row, *values, str(ratio), f"<= {goal}", verdict(ratio.median, goal))


def by_clock(
    row: str, measured: Sequence[Cost], other: str, against: Sequence[Cost], goal: float | None = None
) -> Line:
    """The line of a ratio by the clock; the CPU time of either stands beside it."""
    walls, cpus = [c.wall for c in measured], f" (CPU {median(c.cpu for c in measured):.2f})"
    line = compared(row, walls, other, [c.wall for c in against], goal, unit=seconds)
    of_other = f" (CPU {median(c.cpu for c in against):.2f})"
    return replace(line, measured=line.measured + cpus, against=line.against + of_other)


def bounded(row: str, value: float, goal: float, unit: Callable[[float], str]) -> Line:
    """The line of a value that shall not be above `goal`."""
    return Line(row, unit(value), goal=f"<= {unit(goal)}", verdict=verdict(value, goal, unit))


def verdict(value: float, goal: float, unit: Callable[[float], str] = "{:.3f}".format) -> str:
    """Whether a value is within its goal, or how far above."""
    return "met" if value <= goal else f"missed by {unit(value - goal)}"


def seconds(value: float) -> str:
    """A duration."""
    return f"{value:.3f} s"


def milliseconds(value: float) -> str:
    """A short duration."""
    return f"{value * 1e3:.1f} ms"


def microseconds(value: float) -> str:
    """A very short duration."""
    return f"{value * 1e6:.1f} us"


def megabytes(value: float) -> str:
    """An amount of memory or disk; `value` is in bytes."""
    return f"{value / 1e6:,.1f} MB"
