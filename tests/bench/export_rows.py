"""Rows about the exporter."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench import trees
from tests.bench.measure import (
    Command,
    Cost,
    Line,
    NotMeasured,
    Spread,
    bounded,
    by_clock,
    compared,
    cost,
    in_turns,
    megabytes,
    milliseconds,
    seconds,
    verdict,
)
from tests.bench.work import SCR_EXPORT, Work, export, need, processors

_MORE_AT_START = 0.150  # seconds of CPU that a small export may need beyond Python itself
_PEAKS = {10_000: 100e6, 100_000: 700e6}  # bytes of memory, by the number of images
_BLOB_OPENED = re.compile(r'openat\([^"]*"(?:[^"]*/)?(?:sha\d+[-:])?[0-9a-f]{64,128}"')


def first(work: Work) -> list[Line]:
    """First export, --verify size, against `cp -al`."""
    exported = work.anew(lambda site: export(work.standard, site, "--verify", "size"))
    return [_paired("first export, --verify size", exported, "cp -al", work.linked(), work.size.pairs, 1.3)]


def again(work: Work) -> list[Line]:
    """Export of what has not changed, against `cp -al`."""
    lines = []
    for how, goal in (("size", 0.4), ("digest", None)):
        site = work.site(work.standard, "--verify", how)
        exported = partial(work.timed, export(work.standard, site, "--verify", how))
        row = f"nothing changed, --verify {how}"
        lines.append(_paired(row, exported, "cp -al", work.linked(), work.size.pairs, goal))
    return lines


def changed(work: Work) -> list[Line]:
    """Export after 1 % of the tags changed, against `cp -al`."""
    site = work.site(work.standard, "--verify", "size")
    generation = iter(range(1, 1_000))

    def exported() -> Cost:
        cost(export(work.standard, site, "--verify", "size", "--grace", "0"))  # removes unreferenced content
        label = f"generation {next(generation)}"
        for number in range(0, work.size.images, 100):
            trees.write_image(trees.path_of(work.standard, number), f"{number}, {label}")
        return work.timed(export(work.standard, site, "--verify", "size"))

    return [_paired("1 % of the tags changed", exported, "cp -al", work.linked(), work.size.pairs, 0.5)]


def bare(work: Work) -> list[Line]:
    """What an export asks of the system, and nothing else, against `cp -al`."""
    site, linked = work.site(work.standard, "--verify", "size"), work.linked()

    def row(what: str, asked: Callable[[], float]) -> Line:
        ours, theirs = in_turns(asked, lambda: linked().wall, work.size.pairs)
        return compared(f"bare system calls of an export, to {what}", ours, "cp -al", theirs, unit=seconds)

    return [
        row("look", lambda: _bare(work, "look", work.standard, site)),
        row("make", lambda: _bare(work, "make", site, work.fresh())),
    ]


def digest(work: Work) -> list[Line]:
    """First export of large blobs, --verify digest, against sha256sum."""
    exported = work.anew(lambda site: export(work.large, site))
    return _hashing(work, f"first export, --verify digest, {_amount(work)}", exported)


def verify(work: Work) -> list[Line]:
    """`scr-export verify` of large blobs, against sha256sum."""
    site = work.site(work.large)
    verified = partial(work.timed, [*SCR_EXPORT, "verify", site])
    return _hashing(work, f"scr-export verify, {_amount(work)}", verified)


def reread(work: Work) -> list[Line]:
    """How many blobs the second export with --verify digest opens."""
    need("strace")
    images = work.images(max(trees.TAGS, work.size.images // 10))
    site = work.fresh()
    opened = [_blobs_opened(work, export(images, site)) for _ in range(2)]
    if opened[0] == 0:
        raise NotMeasured("strace saw the first export open no blob")
    missed = verdict(opened[1], 0, "{:.0f}".format)
    row = "blobs opened when nothing changed, --verify digest"
    return [Line(row, str(opened[1]), f"by the first export: {opened[0]}", goal="0", verdict=missed)]


def linear(work: Work) -> list[Line]:
    """First export of ten times as many images, against ten times the time; and memory."""
    few, many = work.size.many // 10, work.size.many
    small = work.anew(lambda site: export(work.images(few), site, "--verify", "size"))
    big = work.anew(lambda site: export(work.images(many), site, "--verify", "size"))
    of_many, of_few = in_turns(big, small, min(3, work.size.pairs))
    time = by_clock(f"{many:,} images", of_many, f"{few:,}", of_few, 10.5)
    return [time, _peak(few, of_few), _peak(many, of_many)]


def start(work: Work) -> list[Line]:
    """CPU of an export of two images that changes nothing, beyond that of Python itself."""
    images = work.images(2)
    command = export(images, work.site(images))
    ours, bare = in_turns(partial(cost, command), partial(cost, [sys.executable, "-c", "pass"]), work.size.short)
    more = Spread.of([one.cpu - other.cpu for one, other in zip(ours, bare, strict=True)])
    values = milliseconds(median(c.cpu for c in ours)), f"python -c pass: {milliseconds(median(c.cpu for c in bare))}"
    ratio = f"+{milliseconds(more.median)} ({milliseconds(more.least)} .. {milliseconds(more.most)})"
    goal = f"<= +{milliseconds(_MORE_AT_START)}"
    missed = verdict(more.median, _MORE_AT_START, milliseconds)
    return [Line("export of 2 images, nothing changed, CPU", *values, ratio, goal, missed)]


def tree(work: Work) -> list[Line]:
    """What a site takes of the disk beyond its images."""
    site = work.site(work.standard, "--verify", "size")
    # du counts a file with several names once, where it first meets it
    inodes, size = (_du(option, work.standard, site) for option in ("--inodes", "--block-size=1"))
    each = work.size.images
    return [
        Line("the site's own inodes, an image", f"{inodes[1] / each:.2f}", f"IMAGES: {inodes[0] / each:.2f}"),
        Line("the site's own blocks, an image", f"{size[1] / each:.0f} bytes", f"IMAGES: {size[0] / each:.0f}"),
    ]


def rsync(work: Work) -> list[Line]:
    """`rsync -aH` of the site, first and again, against that of the images."""
    need("rsync")
    site = work.site(work.standard, "--verify", "size")

    def copied(source: Path) -> Callable[[Path], Command]:
        return lambda copy: ["rsync", "-aH", "--exclude=/.scr-export", f"{source}/", copy]

    def again(source: Path) -> Callable[[], Cost]:
        copy = work.fresh()
        cost(copied(source)(copy))
        return partial(work.timed, copied(source)(copy))

    first = work.anew(copied(site)), work.anew(copied(work.standard))
    second = again(site), again(work.standard)
    return [
        _paired("rsync -aH of the site, first", first[0], "of IMAGES", first[1], _few(work)),
        _paired("rsync -aH of the site, again", second[0], "of IMAGES", second[1], _few(work)),
    ]


def _paired(
    row: str,
    measured: Callable[[], Cost],
    other: str,
    against: Callable[[], Cost],
    pairs: int,
    goal: float | None = None,
) -> Line:
    ours, theirs = in_turns(measured, against, pairs)
    return by_clock(row, ours, other, theirs, goal)


def _bare(work: Work, *arguments: str | Path) -> float:
    """Seconds, as the program itself reports them."""
    work.settle()
    command = [sys.executable, "-m", "tests.bench.bare", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _few(work: Work) -> int:
    """Pairs for rows whose runs are long."""
    return min(5, work.size.pairs)


def _amount(work: Work) -> str:
    return megabytes(sum(blob.stat().st_size for blob in _blobs(work.large)))


def _hashing(work: Work, row: str, measured: Callable[[], Cost]) -> list[Line]:
    """Against sha256sum; and against openssl, since many a sha256sum makes no use of what the CPU has for it."""
    beside = f"{processors()} at a time"
    lines = [_paired(row, measured, f"sha256sum, {beside}", _sums(work, "sha256sum"), _few(work), 1.05)]
    if shutil.which("openssl"):
        sums = _sums(work, "openssl", "dgst", "-sha256")
        lines.append(_paired(row, measured, f"openssl dgst, {beside}", sums, _few(work)))
    return lines


def _sums(work: Work, *command: str) -> Callable[[], Cost]:
    """A run of a command for each of the large blobs, the largest first: its quickest order."""
    names = work.directory / "large-blobs"
    largest_first = sorted(_blobs(work.large), key=lambda blob: -blob.stat().st_size)
    names.write_text("".join(f"{blob}\n" for blob in largest_first))
    return lambda: work.timed(["xargs", "-a", names, "-d", "\\n", "-n1", f"-P{processors()}", *command])


def _blobs(images: Path) -> list[Path]:
    return [path for path in images.rglob("*") if len(path.name) == 64]


def _blobs_opened(work: Work, command: Command) -> int:
    log = work.directory / "strace"
    cost(["strace", "-f", "-qq", "-e", "trace=openat", "-o", log, *command])
    return sum(1 for line in log.read_text(errors="replace").splitlines() if _BLOB_OPENED.search(line))


def _peak(images: int, costs: Sequence[Cost]) -> Line:
    row, peak = f"memory at {images:,} images", max(c.peak for c in costs)
    goal = _PEAKS.get(images)
    return bounded(row, peak, goal, megabytes) if goal else Line(row, megabytes(peak))


def _du(option: str, *directories: Path) -> list[int]:
    output = subprocess.run(["du", "-s", option, *directories], check=True, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in output.splitlines()]
