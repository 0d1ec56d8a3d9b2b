"""The benchmark's command line: rows in, one table out."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

import scr_export
from tests.bench import export_rows, registry_rows, served_rows
from tests.bench.measure import Line, NotMeasured
from tests.bench.work import FULL, SMALL, TINY, Work, processors

ROWS: dict[str, Callable[[Work], list[Line]]] = {
    row.__name__: row
    for row in (
        export_rows.first,
        export_rows.again,
        export_rows.changed,
        export_rows.bare,
        export_rows.digest,
        export_rows.reread,
        export_rows.linear,
        export_rows.start,
        export_rows.verify,
        served_rows.manifest,
        served_rows.lists,
        served_rows.blob,
        served_rows.growth,
        export_rows.tree,
        export_rows.rsync,
        registry_rows.registry,
    )
}
_CHECKOUT = Path(__file__).parents[2]
_HEADER = Line("row", "measured", "against", "ratio (spread)", "goal", "")
_NOT_MEASURED = "not measured"


def main() -> int:
    """Measure what was asked for; 1 if a row could not be measured, 130 if interrupted.

    A missed goal is marked in the table.
    """
    options = _options()
    os.umask(0o022)
    lines: list[Line] = []
    with _directory(options.directory) as directory:
        print(_machine(directory), flush=True)
        work = Work(directory, options.size, cold=options.cold)
        try:
            for name in options.rows or ROWS:
                started = time.monotonic()
                lines += _measured(name, work)
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not leave the trees behind
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            print(_table(lines), flush=True)
            if options.size is not FULL:
                print("The goals are for the full size.")
    return int(any(line.verdict == _NOT_MEASURED for line in lines))


def _options() -> argparse.Namespace:
    rows = "\n".join(f"  {name:10}{(row.__doc__ or '').strip()}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measure what an export and its site cost. Ratios count within one run only.",
        epilog=f"rows (default: all):\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []], help="what to measure")
    sizes = parser.add_mutually_exclusive_group()
    sizes.set_defaults(size=FULL)
    for size, value, words in (("small", SMALL, "a tenth of everything"), ("tiny", TINY, "to see that it runs")):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=value, help=words)
    parser.add_argument("--cold", action="store_true", help="empty the file system's caches before each run (root)")
    parser.add_argument("--directory", type=Path, default=_CHECKOUT.parent, help="where to work (default: %(default)s)")
    return parser.parse_args()


@contextmanager
def _directory(parent: Path) -> Iterator[Path]:
    """A directory to work in, open to the user that nginx runs as; gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="scr-export-bench-", dir=parent)).resolve()
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)


def _measured(name: str, work: Work) -> list[Line]:
    try:
        return ROWS[name](work)
    except (NotMeasured, OSError, subprocess.SubprocessError) as error:
        return [Line(name, str(error), verdict=_NOT_MEASURED)]


def _machine(directory: Path) -> str:
    """What the figures depend on."""
    kind = _said("df", "--output=fstype", str(directory)).split()[-1]
    model = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    return "\n".join(
        f"{what:12}{value}"
        for what, value in (
            ("CPUs", f"{processors()} x {model}"),
            ("load", " ".join(f"{each:.2f}" for each in os.getloadavg())),
            ("kernel", f"{platform.system()} {platform.release()}"),
            ("files", f"{kind} at {directory.parent}"),
            ("Python", platform.python_version()),
            ("nginx", _said("nginx", "-v").rpartition("/")[2]),
            ("scr-export", scr_export.__version__),
        )
    )


def _said(*command: str) -> str:
    """What a program says of itself, on either stream."""
    if shutil.which(command[0]) is None:
        return "missing"
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _table(lines: Sequence[Line]) -> str:
    rows = [astuple(line) for line in (_HEADER, *lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


if __name__ == "__main__":
    raise SystemExit(main())
