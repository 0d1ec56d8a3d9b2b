"""The whole of an export, in the order in which data goes: discover, load, plan, verify, compare, publish, report."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from scr_export.errors import BadImages, BadSite, BadUsage, Fault, Findings, printable, reason, told_as
from scr_export.images.content import DIRECTORY_FLAGS, Content, defects, open_untouched
from scr_export.images.discover import discover
from scr_export.images.skopeo_dir import Image, find_elsewhere, load_image
from scr_export.oci.name import RepositoryName
from scr_export.progress import Progress
from scr_export.report import Report, VerifyReport
from scr_export.site import paths, served
from scr_export.site.changes import Changes, Linking, compare, hold_back
from scr_export.site.files import ChangedMeanwhile, Tree
from scr_export.site.observe import observe
from scr_export.site.plan import Plan, Served, clashes, plan_site
from scr_export.site.publish import Publisher
from scr_export.site.state import State, hold_site, mark, open_site, read_site
from scr_export.site.verify import verify_site


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user asked for. `grace` is in seconds."""

    images: str
    site: str
    prefix: str = ""
    dry_run: bool = False
    jobs: int = 1
    verify_digests: bool = True
    keep_going: bool = False
    prune: bool = True
    grace: float = 900


def export(order: Order) -> Report:
    """Make the site what IMAGES says. A ScrExportError carries what a user must be told."""
    _refuse_overlap(order)
    with _open_images(order.images) as images, _site(order) as (site, is_new):
        started = time.monotonic()
        before = State.load(site) if site is not None else State()
        state = replace(before, unlinkable=set(before.unlinkable))
        report = Report(site=order.site, dry_run=order.dry_run)
        sound = _read(order, images, state, report)
        linking = Linking(_device(order.site), state.unlinkable)
        kept = _served(order, site, before, report.findings)
        sound = _without_clashes(order, sound, kept, report.findings)
        plan = plan_site(sound, kept)
        changes = compare(plan, observe(site) if site is not None else (), linking)
        _settle_removals(order, changes, state)
        _describe(report, plan, sound, changes, order.grace)
        if site is not None and not order.dry_run:
            with _writing(order), Tree(site, images) as tree:
                if is_new:
                    _refuse_poor_filesystem(tree, order.site)
                    mark(tree)
                publisher = Publisher(tree, linking, changes.copies)
                publisher.publish(changes)
                state.save(tree, before)
            report.files, report.bytes = publisher.how, publisher.bytes
        report.seconds = time.monotonic() - started
        return report


def verify(site: str, jobs: int) -> VerifyReport:
    """Check a site by itself. A ScrExportError carries what a user must be told."""
    started = time.monotonic()
    with read_site(site) as (opened, state):
        findings = Findings()
        waiting = state.released if state else None
        checked = verify_site(opened, waiting, jobs, findings)
    return VerifyReport(site, checked, findings, time.monotonic() - started)


def _read(order: Order, images: int, state: State, report: Report) -> list[Image]:
    """Every sound image; BadImages if there is a fault and the order is not to keep going."""
    findings = report.findings
    loaded = [load_image(found, order.prefix, findings) for found in discover(images, findings)]
    sound = [image for image in loaded if image]
    if not loaded and not findings.faults:
        findings.fault("", "empty", "holds no image", "fill it: skopeo copy docker://… dir:IMAGES/NAME/TAG")
    findings.faults += clashes(sound, {})
    findings.faults += _verify(order, images, sound, state, report)
    bad = {fault.path for fault in findings.faults}
    good = [image for image in sound if image.path not in bad]
    # An IMAGES without one good image is rather a disk that is not mounted than an order to empty the site.
    if findings.faults and not (order.keep_going and good):
        raise BadImages(findings)
    find_elsewhere(good, images)
    return good


def _verify(order: Order, images: int, sound: list[Image], state: State, report: Report) -> Iterable[Fault]:
    """Hash what was not found right before. Manifests were hashed when they were read."""
    if not order.verify_digests:
        return []
    distinct = {blob.identity: blob for image in sound for blob in image.blobs}
    unproven = [blob for identity, blob in distinct.items() if identity not in state.verified]
    report.hashed = sum(blob.size for blob in unproven)
    progress = Progress("verifying", report.hashed)
    wrong = {blob.identity: what for blob, what in defects(unproven, images, order.jobs, progress.advance)}
    progress.finish()
    state.verified = distinct.keys() - wrong.keys()  # what no image has any more is forgotten
    if not wrong:
        return []
    return [
        Fault(image.path, "digest", f"{_file(blob)} {wrong[blob.identity]}", "copy the image again")
        for image in sound
        for blob in image.blobs
        if blob.identity in wrong
    ]


def _served(order: Order, site: int | None, before: State, findings: Findings) -> dict[RepositoryName, Served]:
    """What must stay as it is: everything where nothing is pruned, else what the faulty images stood for."""
    if site is None:
        return {}
    if not order.prune:
        return served.repositories(observe(site), before.released)
    faulty = [fault.path for fault in findings.faults]
    return served.closures(site, served.Unread(faulty, order.prefix)) if faulty else {}


def _without_clashes(
    order: Order, images: list[Image], kept: dict[RepositoryName, Served], findings: Findings
) -> list[Image]:
    """The images that need no path which something else keeps."""
    faults = clashes(images, kept) if kept else []
    findings.faults += faults
    if faults and not order.keep_going:
        raise BadImages(findings)
    bad = {fault.path for fault in faults}
    return [image for image in images if image.path not in bad]


def _settle_removals(order: Order, changes: Changes, state: State) -> None:
    if order.prune:
        hold_back(changes, state.released, time.time(), order.grace)
        state.released = changes.waiting
        return
    unnamed = {removal.path for removal in changes.remove}
    state.released = {path: since for path, since in state.released.items() if path in unnamed}
    # A list that has changed still leaves its old pages.
    changes.remove = [removal for removal in changes.remove if paths.is_pages(removal.name)]


@contextmanager
def _writing(order: Order) -> Iterator[None]:
    """What can go wrong while the site is written, in words."""
    try:
        yield
    except ChangedMeanwhile as error:
        raise BadSite(
            f"{printable(order.images)}/{printable(str(error))}: changed while it was exported; run again"
        ) from None
    except OSError as error:
        raise BadSite(f"{printable(order.site)}: cannot be written: {reason(error)}") from error


def _refuse_poor_filesystem(tree: Tree, site: str) -> None:
    try:
        tree.try_names()
    except FileExistsError:
        raise BadSite(
            f"{printable(site)}: its file system takes upper and lower case for the same; tags need both"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise BadSite(
            f"{printable(site)}: its file system lacks symbolic links or ':' in names ({error.strerror})"
        ) from error


def _describe(report: Report, plan: Plan, sound: list[Image], changes: Changes, grace: float) -> None:
    report.images = len(sound)
    report.repositories = sum(1 for directory in plan if directory.endswith("/tags"))
    report.tags = len({(i.reference.repository, i.reference.tag) for i in sound if i.reference.tag})
    report.count(changes, grace)


def _file(content: Content) -> str:
    return content.path.rpartition("/")[2]


def _refuse_overlap(order: Order) -> None:
    if not order.images or not order.site:
        raise BadUsage("IMAGES and SITE must not be empty")
    images, site = os.path.realpath(order.images), os.path.realpath(order.site)
    if images == site:
        raise BadUsage("IMAGES and SITE are the same directory")
    for inner, outer, what in ((site, images, "SITE lies inside IMAGES"), (images, site, "IMAGES lies inside SITE")):
        if inner.startswith(outer.rstrip("/") + "/"):
            raise BadUsage(f"{what}; keep them side by side")


@contextmanager
def _open_images(path: str) -> Iterator[int]:
    with told_as(BadUsage, f"open IMAGES {printable(path)}"):
        descriptor = open_untouched(path, DIRECTORY_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _site(order: Order) -> Iterator[tuple[int | None, bool]]:
    if order.dry_run:
        with open_site(order.site) as site:
            yield site, False
    else:
        with hold_site(order.site) as held:
            yield held


def _device(site: str) -> int:
    """The file system that SITE is on, or will be on."""
    path = os.path.abspath(site)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev
