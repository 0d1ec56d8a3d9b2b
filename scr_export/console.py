"""How a command prints what it did: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from scr_export import progress
from scr_export.errors import ScrExportError
from scr_export.problems import Problem, Problems, by_place
from scr_export.report import SCHEMA, Result, problems_as_dict
from scr_export.signals import Terminated
from scr_export.text import count, printable

_FEW = 2  # problems that need no count
_MOST_OF_A_KIND = 10  # problems of one code in one image that are printed; --json has all


class Output(NamedTuple):
    """How a command tells what it did."""

    as_json: bool
    quiet: bool
    verbose: bool
    stdout_is_taken: bool = False  # by a bundle; the report goes to standard error then


def run_and_print(
    name: str,
    work: Callable[[], Result],
    output: Output,
    images: str,
    site: str,
    interrupted: str,
    bucket: str = "",
) -> int:
    """Do the work of a command and print its report. Returns the exit status; what stops the work is one line."""
    roots = {"IMAGES": images, "SITE": site, "BUCKET": bucket, "FILE": ""}
    try:
        with progress.shown(quiet=output.quiet):
            report = work()
    except ScrExportError as error:
        _print_problems(error.problems, output, roots)
        if output.as_json:
            document: dict[str, Any] = {"schema": SCHEMA, "site": site, "error": str(error)}
            _print(json.dumps(document | problems_as_dict(error.problems), indent=2), output)
        return stopped(str(error), error.exit_status)
    except Terminated:
        return stopped(f"{name} terminated; {interrupted}", 143)
    except KeyboardInterrupt:
        return stopped(f"{name} interrupted; {interrupted}", 130)
    _print_problems(report.problems, output, roots)
    if not output.quiet and len(report.problems.faults) + len(report.problems.warnings) > _FEW:
        print(report.problems.summary(), file=sys.stderr)
    for note in report.notes if output.verbose else ():
        print(note, file=sys.stderr)
    if output.as_json:
        _print(report.as_json(), output)
    elif text := report.brief if output.quiet else report.text(verbose=output.verbose):
        _print(text, output)
    return report.exit_status


def _print_problems(problems: Problems, output: Output, roots: Mapping[str, str]) -> None:
    """Print faults, then warnings, those of one image together. Each line stands alone, so that it can be searched."""
    for found in (problems.faults, () if output.quiet else problems.warnings):
        for (origin, path), of_one in groupby(by_place(found), lambda problem: (problem.origin, problem.path)):
            _print_some(list(of_one), os.path.join(roots[origin], path))


def _print_some(problems: Sequence[Problem], path: str) -> None:
    """Print the problems of one image or file, of each kind the first ones."""
    printed: Counter[str] = Counter()
    for problem in problems:
        printed[problem.code] += 1
        if printed[problem.code] <= _MOST_OF_A_KIND:
            _print_problem(problem, path)
    for code, number in printed.items():
        if number > _MOST_OF_A_KIND:
            more = count(number - _MOST_OF_A_KIND, "problem")
            print(f"{printable(path)}: {more} more of this kind ({code}); --json has all", file=sys.stderr)


def _print_problem(problem: Problem, path: str) -> None:
    word = "error" if problem.severity == "fault" else "warning"
    print(f"{word}: {printable(path)}: {printable(problem.what)}; {printable(problem.remedy)}", file=sys.stderr)


def _print(text: str, output: Output) -> None:
    try:
        print(text, flush=True, file=sys.stderr if output.stdout_is_taken else sys.stdout)
    except BrokenPipeError:  # the reader went away; so that Python does not try again at its end:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def stopped(message: str, status: int) -> int:
    """Print what ended the program, in one line, and return the exit status."""
    print(f"scr-export: {message}", file=sys.stderr)
    return status
