"""Where the rows work: trees that are made when a row first asks for them, and commands that run on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.bench import trees
from tests.bench.measure import Command, Cost, NotMeasured, cost

SCR_EXPORT = (sys.executable, "-m", "scr_export")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured, and in how many pairs; `short` are the pairs of what takes a second or less.

    `large` is the largest blob and `blob` the served one, in bytes; `copied` are images that skopeo copies; `slice` is
    one run of a server, in seconds.
    """

    images: int
    many: int
    large: int
    blob: int
    copied: int
    pairs: int
    short: int
    slice: float


FULL = Size(images=10_000, many=100_000, large=500_000_000, blob=10_000_000, copied=240, pairs=7, short=15, slice=1)
SMALL = Size(images=1_000, many=10_000, large=50_000_000, blob=10_000_000, copied=240, pairs=3, short=9, slice=1)
TINY = Size(images=20, many=40, large=500_000, blob=100_000, copied=4, pairs=1, short=1, slice=0.05)


class Work:
    """A directory of its own. `cold`: every run begins without a cache of the file system, which only root can do."""

    def __init__(self, directory: Path, size: Size, *, cold: bool) -> None:
        self.directory = directory
        self.size = size
        self._cold = cold
        self._serial = 0

    @cached_property
    def standard(self) -> Path:
        """The images that most rows export."""
        return self.images(self.size.images)

    @cached_property
    def large(self) -> Path:
        """Images whose blobs are large."""
        directory = self.directory / "large"
        trees.write_large(directory, self.size.large)
        return directory

    def images(self, count: int) -> Path:
        """So many images of small blobs."""
        directory = self.directory / f"images-{count}"
        if not directory.exists():
            trees.write_images(directory, count)
        return directory

    def fresh(self) -> Path:
        """A path in the directory where nothing was before.

        Nothing is removed between runs: for a minute ext4 passes over each inode that was freed, and whatever makes
        many inodes then is slow.
        """
        self._serial += 1
        return self.directory / str(self._serial)

    def site(self, images: Path, *options: str) -> Path:
        """A site that was just made of these images."""
        site = self.fresh()
        cost(export(images, site, *options))
        return site

    def timed(self, command: Command) -> Cost:
        """Run a command when all that was written before is on the disk."""
        self.settle()
        return cost(command)

    def settle(self) -> None:
        """Wait until all that was written is on the disk; then, if asked for, empty the caches."""
        subprocess.run(["sync", "-f", self.directory], check=True)
        if self._cold:
            Path("/proc/sys/vm/drop_caches").write_text("3")

    def anew(self, command: Callable[[Path], Command]) -> Callable[[], Cost]:
        """A run of a command that makes a directory."""
        return lambda: self.timed(command(self.fresh()))

    def linked(self) -> Callable[[], Cost]:
        """A run of `cp -al` of the standard tree."""
        return self.anew(lambda copy: ["cp", "-al", self.standard, copy])


def export(images: Path, site: Path, *options: str) -> Command:
    """The command of an export."""
    return [*SCR_EXPORT, *options, images, site]


def need(*programs: str) -> None:
    """NotMeasured if one of these programs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            raise NotMeasured(f"{program} is missing")


def processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0))
