"""The command line: options in, exit status out."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from types import FrameType
from typing import Annotated, NoReturn

import typer

from scr_export import __version__
from scr_export.errors import BadImages, Findings, ScrExportError, printable, reason
from scr_export.export import Order, export, verify
from scr_export.oci.name import repository_name
from scr_export.report import findings_as_dict

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_CPUS = len(os.sched_getaffinity(0))
_COMMANDS = {"export", "verify", "--help", "--version"}


class Verify(StrEnum):
    """How much of a blob is checked before it is published."""

    digest = "digest"
    size = "size"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, told apart from SIGINT by the exit status alone."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _top(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Turn a directory of skopeo images into a container registry of plain files.

    scr-export IMAGES SITE is short for scr-export export IMAGES SITE.
    """


@app.command("export")
def _export(
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="Directory of skopeo dir: images, NAME/TAG below it.")
    ],
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory to make or update. A web server's root.")],
    name_prefix: Annotated[str, typer.Option(metavar="PREFIX", help="Put PREFIX/ before every repository name.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Hashing threads. Default: the CPUs.")] = _CPUS,
    verify: Annotated[Verify, typer.Option(help="What is checked of a blob before it is published.")] = Verify.digest,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Publish the good images, report the bad ones, exit 1.")
    ] = False,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Leave in SITE what IMAGES no longer has.")] = False,
    grace: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long content that nothing names stays for pulls in flight."),
    ] = 900,
) -> None:
    """Make SITE the registry of the images below IMAGES. Only differences are written; IMAGES is never changed."""
    if name_prefix:
        try:
            repository_name(name_prefix)
        except ValueError as error:
            raise typer.BadParameter(f"--name-prefix: {error}") from None
    if not grace < math.inf:  # neither is "nan"
        raise typer.BadParameter(f"--grace: {grace} is no number of seconds")
    order = Order(
        images=images,
        site=site,
        prefix=name_prefix,
        dry_run=dry_run,
        jobs=jobs,
        verify_digests=verify is Verify.digest,
        keep_going=keep_going,
        prune=not no_prune,
        grace=grace,
    )
    raise typer.Exit(_status_of(lambda: _run_export(order, as_json), "export"))


def _run_export(order: Order, as_json: bool) -> int:
    try:
        report = export(order)
    except ScrExportError as error:
        findings = error.findings if isinstance(error, BadImages) else Findings()
        _tell(findings, order.images)
        if as_json:
            print(json.dumps({"site": order.site, "error": str(error), **findings_as_dict(findings)}, indent=2))
        raise
    _tell(report.findings, order.images)
    print(report.as_json() if as_json else report)
    return 1 if report.findings.faults else 0


def _status_of(work: Callable[[], int], name: str) -> int:
    """The exit status of a piece of work; whatever stops it is told in one line."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except ScrExportError as error:
        return _stopped(str(error), error.exit_status)
    except _Terminated:
        return _stopped(f"{name} terminated; the site is whole", 143)
    except KeyboardInterrupt:
        return _stopped(f"{name} interrupted; the site is whole", 130)
    except BrokenPipeError:  # nobody reads the report any more, nor what is still in the buffer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _stopped(reason(error), 1)
    except Exception as error:  # a defect of this program: still one line, and no file was left half made
        return _stopped(f"internal error, please report it: {type(error).__name__}: {printable(str(error))}", 1)


def _stopped(message: str, status: int) -> int:
    print(f"scr-export: {message}", file=sys.stderr)
    return status


@app.command("verify")
def _verify(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, here or elsewhere.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Hashing threads. Default: the CPUs.")] = _CPUS,
) -> None:
    """Check that all that SITE answers can be pulled whole. Nothing is changed, and IMAGES is not needed."""
    raise typer.Exit(_status_of(lambda: _run_verify(site, jobs, as_json), "verify"))


def _run_verify(site: str, jobs: int, as_json: bool) -> int:
    report = verify(site, jobs)
    _tell(report.findings, site)
    print(report.as_json() if as_json else report)
    return 1 if report.findings.faults else 0


def _tell(findings: Findings, root: str) -> None:
    for word, faults in (("warning", findings.warnings), ("error", findings.faults)):
        for fault in faults:
            where = printable(os.path.join(root, fault.path))
            print(f"{word}: {where}: {printable(fault.what)}; {printable(fault.remedy)}", file=sys.stderr)


def main() -> NoReturn:
    """Run the command line; every way out ends in an exit status of the contract."""
    os.umask(0o022)  # a web server is another user
    gc.disable()  # an export makes many values and no cycles
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in _COMMANDS:
        arguments = ["export", *arguments]
    app(arguments, prog_name="scr-export")
    sys.exit(0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
