"""The command line: options in, exit status out."""

from __future__ import annotations

import gc
import io
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, TypeVar

import typer

from scr_export import __version__
from scr_export.clients.mirror import Server, parse_host
from scr_export.commands.clients import ClientsOptions, write_clients
from scr_export.commands.export import export
from scr_export.commands.options import ExportOptions, RemovalLimit
from scr_export.commands.pack import PackOptions, pack
from scr_export.commands.verify import verify
from scr_export.console import Output, run_and_print, stopped
from scr_export.errors import reason
from scr_export.oci.name import parse_repository_name
from scr_export.text import printable

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
_CPUS = len(os.sched_getaffinity(0))
_COMMANDS = {"export", "verify", "list", "pack", "push", "clients"}
_COMMANDS |= {"--help", "--version", "--install-completion", "--show-completion"}
_NOT_ALL_READ = "SITE was not read to the end"
_TRACEBACK = "SCR_EXPORT_TRACEBACK"
_COMPLETE = "_SCR_EXPORT_COMPLETE"

# Options of static-container-registry that have no counterpart.
_ONE_INCLUDE = "is not needed: the server includes one file, SITE/nginx.conf, which is the same for every site"
_OF_THE_PREDECESSOR = {
    "--server-root": "--server-root is not needed: `root`, or `set $scr_root`, in the server's own lines names SITE",
    "--omit-constants": f"--omit-constants {_ONE_INCLUDE}",
    "--only-constants": f"--only-constants {_ONE_INCLUDE}",
}


T = TypeVar("T")


class Verify(StrEnum):
    """How much of a blob is checked before it is published."""

    digest = "digest"
    size = "size"


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


_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
_Jobs = Annotated[int, typer.Option(min=1, max=1024, help="Hashing threads. Default: the CPUs.")]
_Grace = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Keep unreferenced content this long, so that running pulls can finish."
    ),
]
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]


@app.command("export")
def _export(
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="Directory of skopeo dir: images, NAME/TAG below it.")
    ],
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory to make or update. A web server's root.")],
    name_prefix: Annotated[str, typer.Option(metavar="PREFIX", help="Put PREFIX/ before every repository name.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, tag by tag. Write nothing.")
    ] = False,
    as_json: _Json = False,
    jobs: _Jobs = _CPUS,
    verify: Annotated[Verify, typer.Option(help="What is checked of a blob before it is published.")] = Verify.digest,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Publish the good images, report the bad ones, exit 1.")
    ] = False,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Leave in SITE what IMAGES no longer has.")] = False,
    grace: _Grace = 900,
    max_remove: Annotated[
        str,
        typer.Option(
            metavar="N|N%",
            help="Publish nothing if more tags than N, or N% of those served, would go. Default: no limit.",
        ),
    ] = "",
    no_html: Annotated[
        bool, typer.Option("--no-html", help="Write no index.html, the page for people at /. Remove one of an export.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print every tag that is added (+), moved (~) or removed (-).")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Make SITE the registry of the images below IMAGES. Only differences are written; IMAGES is never changed."""
    _check_option("--name-prefix", lambda: name_prefix and parse_repository_name(name_prefix))
    limit = _check_option("--max-remove", lambda: RemovalLimit.parse(max_remove) if max_remove else None)
    _check_grace(grace)
    options = ExportOptions(
        images=images,
        site=site,
        prefix=name_prefix,
        dry_run=dry_run,
        jobs=jobs,
        verify_digests=verify is Verify.digest,
        keep_going=keep_going,
        prune=not no_prune,
        grace=grace,
        max_remove=limit,
        index_page=not no_html,
    )
    output = Output(as_json, quiet, verbose or dry_run)
    interrupted = "every tag of the site can still be pulled"
    raise typer.Exit(run_and_print("export", lambda: export(options), output, images, site, interrupted))


@app.command("verify")
def _verify(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, here or elsewhere.")],
    as_json: _Json = False,
    jobs: _Jobs = _CPUS,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print every tag.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Check that everything that SITE answers for can be pulled completely. IMAGES is not needed."""
    output = Output(as_json, quiet, verbose)
    raise typer.Exit(
        run_and_print("verify", lambda: verify(site, jobs), output, "", site, "the site was not checked to the end")
    )


@app.command("list")
def _list(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, or a mirror of one.")],
    glob: Annotated[
        str,
        typer.Argument(
            metavar="[GLOB]",
            help="Only images whose NAME:TAG or NAME matches, as *alpine* or 'team/*:v1'; * stands for slashes too.",
        ),
    ] = "",
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Print the references in FILE (- is standard input) that SITE does not have; exit 1 if there are any.",
        ),
    ] = None,
    name_prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="With --missing: what the export put before every repository name.")
    ] = "",
    upstream: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="With --missing: registry of the images whose names have none. Default: any that SITE does not name.",
        ),
    ] = "",
    as_json: _Json = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Print whole digests, platforms, referrers, annotations; what was found."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print names only, and errors.")] = False,
) -> None:
    """List what SITE has: names, digests, sizes, signatures, referrers, platforms and types of artifacts.

    SIZE is what pulls fetch: manifests, configs and layers, each digest once; of an image for several platforms, all
    platforms together.

    FILE has one reference a line, as `helm template | grep image:`, `helm images` and oc-mirror write them. A name
    without a registry is Docker Hub's, or the name as SITE has it; a tag must be there; a digest must be that of a
    manifest in the repository, which can be one platform's, and then the tag does not matter. A line that is no
    reference is an error, and the exit status 1.
    """
    from scr_export.commands.list import list_images  # no export needs them
    from scr_export.commands.missing import list_missing

    _check_option("--name-prefix", lambda: name_prefix and parse_repository_name(name_prefix))
    host = _check_option("--upstream", lambda: parse_host(upstream) if upstream else None)
    output = Output(as_json, quiet, verbose)
    if missing is None:
        if name_prefix or upstream:
            raise typer.BadParameter("--name-prefix and --upstream are for --missing")
        raise typer.Exit(run_and_print("list", lambda: list_images(site, glob), output, "", site, _NOT_ALL_READ))
    if glob:
        raise typer.BadParameter("--missing does not take a GLOB")
    look_up = partial(list_missing, site, missing, name_prefix, host)
    raise typer.Exit(run_and_print("list", look_up, output, "", site, _NOT_ALL_READ))


@app.command("pack")
def _pack(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, or a mirror of one.")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Tar archive to write; - is standard output.")],
    have: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Leave out what FILE lists: the output of `receive --have`, or `content` of an earlier bundle.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print sizes. Write nothing.")] = False,
    as_json: _Json = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print every tag whose image is new.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Write SITE, or what is new in it, as one tar for a disk. The script `receive` in it needs no Python."""
    output = Output(as_json, quiet, verbose, stdout_is_taken=bundle == "-" and not dry_run)
    options = PackOptions(site=site, bundle=bundle, have=have, dry_run=dry_run)
    raise typer.Exit(run_and_print("pack", lambda: pack(options), output, "", site, "no bundle was made"))


@app.command("push")
def _push(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, or a mirror of one.")],
    bucket: Annotated[
        str, typer.Argument(metavar="S3URL", help="s3://BUCKET or s3://BUCKET/PREFIX. The bucket must exist.")
    ],
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="Address of the S3 store. Default: AWS_ENDPOINT_URL, else AWS.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 16,
    grace: _Grace = 900,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read back all that is there; send again what is damaged, and exit 1.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, tag by tag. Write nothing.")
    ] = False,
    as_json: _Json = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print every tag that is added (+), moved (~) or removed (-).")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Make a bucket of an S3 store what SITE is. Only differences are sent. Credentials as for other S3 tools."""
    from scr_export.commands.push import PushOptions, push  # no other command shall wait for what it imports

    _check_grace(grace)
    options = PushOptions(
        site=site, bucket=bucket, endpoint=endpoint, jobs=jobs, grace=grace, verify=verify, dry_run=dry_run
    )
    output = Output(as_json, quiet, verbose or dry_run)
    interrupted = "every tag in the bucket can still be pulled; run it again"
    raise typer.Exit(run_and_print("push", lambda: push(options), output, "", site, interrupted, bucket))


@app.command("clients")
def _clients(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Directory that an export made, here or elsewhere.")],
    directory: Annotated[str, typer.Argument(metavar="DIRECTORY", help="Where the files are written.")],
    url: Annotated[str, typer.Option(metavar="URL", help="Where SITE is served: http(s)://HOST[:PORT].")],
    ca_file: Annotated[
        str, typer.Option(metavar="FILE", help="Certificate of the server's authority, if hosts do not know it.")
    ] = "",
    upstream: Annotated[
        str, typer.Option(metavar="HOST", help="Registry of the images whose names have none, such as docker.io.")
    ] = "",
    name_prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="What the export of SITE put before every repository name.")
    ] = "",
    as_json: _Json = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print every file that is written.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Write configuration that makes containerd, podman, CRI-O, k3s, OpenShift and docker pull from SITE."""
    server = _check_option("--url", lambda: Server.parse(url))
    _check_option("--name-prefix", lambda: name_prefix and parse_repository_name(name_prefix))
    options = ClientsOptions(
        site=site,
        directory=directory,
        server=server,
        authority=ca_file or None,
        upstream=_check_option("--upstream", lambda: parse_host(upstream) if upstream else None),
        prefix=name_prefix,
    )
    output = Output(as_json, quiet, verbose)
    interrupted = "files may be missing; run it again"
    raise typer.Exit(run_and_print("clients", lambda: write_clients(options), output, "", site, interrupted))


def _check_grace(seconds: float) -> None:
    if not seconds < math.inf:  # neither is "nan"
        raise typer.BadParameter(f"--grace: {seconds} is no number of seconds")


def _check_option(name: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}") from None


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit status."""
    os.umask(0o022)  # a web server is another user
    gc.disable()  # an export makes many values and no cycles
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for argument in arguments:
        if answer := _OF_THE_PREDECESSOR.get(argument.partition("=")[0]):
            return stopped(answer, 2)
    if arguments and arguments[0] not in _COMMANDS:
        arguments = ["export", *arguments]
    _complete_short_form()
    try:
        return _status_of(arguments)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python does not try again at its end
        return stopped(reason(error), 1)
    except Exception as error:  # a defect of this program: still one line, and every file is complete
        if os.environ.get(_TRACEBACK):
            traceback.print_exc()
        what = f"{type(error).__name__}: {printable(str(error))}"
        return stopped(f"internal error, please report it: {what} ({_TRACEBACK}=1 shows where)", 1)


def _complete_short_form() -> None:
    """Let a shell that asks for completions behind IMAGES have those of `export`.

    bash says in COMP_WORDS what was typed, and in COMP_CWORD where; zsh and fish have it in _TYPER_COMPLETE_ARGS.
    """
    for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS") if _COMPLETE in os.environ else ():
        typed = re.match(r"(\S+)(\s)(\S+)\s", os.environ.get(name, ""))
        if typed and typed[3] not in _COMMANDS:
            os.environ[name] = f"{typed[1]}{typed[2]}export{os.environ[name][typed.end(1) :]}"
            if name == "COMP_WORDS":
                os.environ["COMP_CWORD"] = str(int(os.environ["COMP_CWORD"]) + 1)


def _status_of(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="scr-export")
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
