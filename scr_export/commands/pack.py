"""`scr-export pack SITE BUNDLE`: read the site, take a snapshot of it, write what the receiver lacks as one tar."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import BinaryIO

from scr_export.errors import BundleError, DamagedSiteError, SiteError, UsageError, reraise_oserror
from scr_export.oci.digest import Digest
from scr_export.problems import Problems
from scr_export.progress import Progress
from scr_export.publish.bundle import form
from scr_export.publish.bundle.assemble import Bundle, assemble
from scr_export.publish.bundle.have import Have
from scr_export.publish.bundle.names import Names
from scr_export.publish.bundle.output import STDOUT, Output, open_output
from scr_export.publish.bundle.read import Contents, read_contents
from scr_export.publish.bundle.write import write_bundle
from scr_export.publish.directory.lock import read_site
from scr_export.publish.directory.prove import Blob, ProvenContent
from scr_export.publish.directory.settled import read_settled
from scr_export.publish.directory.snapshot import open_in_site, open_in_snapshot, snapshot_directory, take_snapshot
from scr_export.report import Result
from scr_export.site import paths
from scr_export.text import count, duration, printable, size

_OUTCOME = "no bundle was made"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """What to pack: `have` is a file that lists what the receiver has, `bundle` a path, or `-` for standard output."""

    site: str
    bundle: str
    have: str = ""
    dry_run: bool = False


@dataclass(slots=True)
class PackReport(Result):
    """The facts of one bundle.

    `full`, `size`, `saved` and `room` are in bytes: a bundle without `have`, this bundle, their difference, and what it
    takes on the receiver's disk when it is unpacked and received. `sha256` is the bundle's, `images_txt` that of the
    list in it, `parent` that of the receiver's list.
    """

    site: str
    bundle: str
    dry_run: bool = False
    repositories: int = 0
    tags: int = 0
    new_tags: int = 0
    blobs: int = 0
    blobs_sent: int = 0
    full: int = 0
    size: int = 0
    saved: int = 0
    room: int = 0
    parent: str = form.NO_PARENT
    images_txt: str = ""
    signatures: list[str] = field(default_factory=list)
    sha256: str = ""
    seconds: float = 0
    details: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    def __str__(self) -> str:
        sent = f"{count(self.blobs_sent, 'blob')}, new images under {count(self.new_tags, 'tag')}"
        held = f"{count(self.repositories, 'repository')}, {count(self.tags, 'tag')}, {count(self.blobs, 'blob')}"
        lines = [
            f"{printable(self.site)}: {held}" + (" (dry run: nothing is written)" if self.dry_run else ""),
            f"  full     {size(self.full)}",
            f"  bundle   {size(self.size)}: {sent}",
            f"  saved    {size(self.saved)}",
            f"  room     {size(self.room)} that the bundle takes where it is received",
        ]
        if self.images_txt:
            signed = f"signed by {', '.join(self.signatures)}" if self.signatures else "unsigned"
            lines.append(f"  list     {paths.IMAGES_TXT}, {signed}, sha256 {self.images_txt}")
        if self.sha256:
            lines.append(f"  written  {printable(self.bundle)}, sha256 {self.sha256}")
        return "\n".join([*lines, f"  {duration(self.seconds)} in all"])


def pack(options: PackOptions) -> PackReport:
    """Write a bundle of a site, or with `dry_run` only tell its size.

    DamagedSiteError: the site is damaged; it carries all problems. BundleError: the bundle cannot be written.
    UsageError, SiteError, SiteLockedError: the text says what the operator has to know. No bundle is left then.
    """
    started = time.monotonic()
    report = PackReport(options.site, options.bundle, options.dry_run)
    have = _read_have(options.have)
    _refuse_overlap(options)
    with ExitStack() as stack:
        output = None if options.dry_run else stack.enter_context(open_output(options.bundle))
        parts = stack.enter_context(_reading(options, have, report))
        _write(output, parts, have, report)
    report.seconds = time.monotonic() - started
    return report


@dataclass(slots=True)
class _Parts:
    """What a bundle is made of. `spool` has names.tar; there is none in a dry run."""

    contents: Contents
    names: Names
    spool: BinaryIO | None
    content: ProvenContent


@contextmanager
def _reading(options: PackOptions, have: Have, report: PackReport) -> Iterator[_Parts]:
    """Read the site, and release its lock as soon as a snapshot stands in for it.

    Where no snapshot can be made, as on a disk that is read-only, the site itself is read to the end, under its lock.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(ExitStack())
        site, state = lock.enter_context(read_site(options.site))
        snapshot = None if options.dry_run else stack.enter_context(snapshot_directory(site, "pack"))
        spool = None if options.dry_run else stack.enter_context(_spool(snapshot))
        with reraise_oserror(SiteError, f"read {printable(options.site)}"):
            contents, names = _read(site, state is not None, have, spool, report, options)
        open_blob = partial(open_in_site, site)
        if snapshot is not None and take_snapshot(site, snapshot, _needed(contents, have)):
            open_blob = partial(open_in_snapshot, snapshot)
            if state is not None:
                lock.close()
        yield _Parts(contents, names, spool, ProvenContent(open_blob, report.problems, _OUTCOME))


def _spool(snapshot: int | None) -> BinaryIO:
    """Open a temporary file, in SITE if that can be written."""
    with reraise_oserror(BundleError, "make a temporary file"):
        return tempfile.TemporaryFile(dir=None if snapshot is None else f"/proc/self/fd/{snapshot}")


def _needed(contents: Contents, have: Have) -> Iterator[tuple[Digest, Blob]]:
    """Yield the blobs that have to be read."""
    for digest, blob in contents.blobs.items():
        if digest.algorithm != "sha256" or not have.has_blob(digest, digest.encoded):
            yield digest, blob


def _read(
    site: int, is_locked: bool, have: Have, spool: BinaryIO | None, report: PackReport, options: PackOptions
) -> tuple[Contents, Names]:
    """Read the site, and report what is wrong with it."""

    def read() -> tuple[Contents, Names, Problems]:
        if spool:
            spool.seek(0)
            spool.truncate()
        problems, names = Problems(), Names(spool)
        with Progress("reading the site", unit="directory") as progress:
            return read_contents(site, have, names, problems, progress.advance), names, problems

    contents, names, problems = read_settled(options.site, site, is_locked, read)
    contents.images_txt.warn_if_foreign(problems)
    contents.images_txt.warn_if_unsigned(problems)
    report.problems = problems
    if problems.faults:
        raise DamagedSiteError(problems, _OUTCOME)
    return contents, names


def _write(output: Output | None, parts: _Parts, have: Have, report: PackReport) -> None:
    receive = (resources.files("scr_export.publish") / form.RECEIVE).read_bytes()
    bundle = assemble(parts.contents, have, parts.names, parts.spool, receive, parts.content)
    _describe(report, parts.contents, bundle)
    report.room = bundle.room + parts.names.room
    if output:
        with Progress("packing", sum(each.blob.size for each in bundle.blobs)) as progress:
            write_bundle(output, bundle, parts.content, progress.advance)
        report.sha256 = output.hasher.hexdigest()


def _describe(report: PackReport, contents: Contents, bundle: Bundle) -> None:
    report.repositories, report.tags, report.details = contents.repositories, contents.tags, sorted(contents.new_tags)
    report.new_tags, report.blobs_sent, report.blobs = len(report.details), len(bundle.blobs), bundle.blobs_in_all
    report.size, report.full, report.parent = bundle.size, bundle.full, bundle.parent
    report.saved = report.full - report.size
    if contents.has_images_txt:
        report.images_txt = contents.sums[paths.IMAGES_TXT][0]
        report.signatures = list(contents.images_txt.signatures)


def _read_have(path: str) -> Have:
    if not path:
        return Have()
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return Have.parse(file)
    except OSError as error:
        raise UsageError(f"--have: cannot read {printable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--have: {printable(path)}: {error}") from None


def _refuse_overlap(options: PackOptions) -> None:
    if not options.site or not options.bundle:
        raise UsageError("SITE and BUNDLE must not be empty")
    site, bundle = os.path.realpath(options.site), os.path.realpath(options.bundle)
    if options.bundle != STDOUT and f"{bundle}/".startswith(f"{site.rstrip('/')}/"):
        raise UsageError("BUNDLE lies inside SITE, which is served; write it elsewhere")
