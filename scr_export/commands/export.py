"""`scr-export IMAGES SITE`: discover, load, verify, merge, plan, compare, publish, report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from scr_export.commands.arguments import open_destination, open_images, refuse_overlap
from scr_export.commands.checks import (
    report_empty_directories,
    report_removals,
    report_untagged,
    warn_of_long_lists,
)
from scr_export.commands.documents import documents
from scr_export.commands.options import ExportOptions
from scr_export.commands.seal import Seal
from scr_export.errors import ImagesError
from scr_export.fs.file import SourceFile
from scr_export.images import remedies
from scr_export.images.discover import discover
from scr_export.images.image import Image
from scr_export.images.indexes import find_incomplete_indexes
from scr_export.images.loader import load, resolve_referrers
from scr_export.images.merge import find_clashes, merge
from scr_export.images.naming import FaultyReferences
from scr_export.images.place import Arguments, Place
from scr_export.images.signatures import Signatures
from scr_export.images.sources import SourceVerifier, choose_sources
from scr_export.oci.digest import Digest
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problems
from scr_export.progress import Progress, counted
from scr_export.publish.directory.destination import Destination
from scr_export.publish.directory.files import KnownFiles, device_of
from scr_export.publish.directory.images_txt import ImagesTxt, read_images_txt
from scr_export.publish.directory.index_page import ObservedIndexPage, read_index_page
from scr_export.publish.directory.mirrors import warn_of_snapshots
from scr_export.publish.directory.observe import observe
from scr_export.publish.directory.read import (
    content_of_catalog,
    content_of_site,
    read_all,
    read_closures,
    read_names,
    sum_of_sizes,
)
from scr_export.publish.directory.state import State
from scr_export.report import Report
from scr_export.site import paths
from scr_export.site.compare import Changes, Removal, apply_grace_period, compare
from scr_export.site.plan import File, plan
from scr_export.site.roles import Role


def export(options: ExportOptions) -> Report:
    """Make the site what IMAGES says, and report what was done.

    ImagesError: IMAGES has faults; it carries all problems, and nothing that is served was written.
    UsageError, SiteError, SiteLockedError: the text says what the operator has to know.
    """
    started = time.monotonic()
    refuse_overlap(options)
    with open_images(options) as images, open_destination(options) as site:
        seal = Seal(options, images, site)
        report = seal.report() or _export(options, images, site, seal)
        warn_of_snapshots(options.site, report.problems)
        report.seconds = time.monotonic() - started
        return report


def _export(options: ExportOptions, images: int, site: int | None, seal: Seal) -> Report:
    run = _Run(options, images, site, State.load(site) if site is not None else State())
    with run.noting_verified_files():
        found = _load(run)
        sources = _verify(run, found)
        catalog = _merge(run, found, sources)
        del found  # of 100,000 images, each step would hold 100 MB that it does not need
        changes = _compare(run, catalog)
        del catalog
        _limit_removals(run, changes)
    if run.destination:
        _publish(run, run.destination, changes, sources)
        if seal.is_broken:
            run.destination.break_seal()
        elif not run.report.has_changes and not changes.unreferenced and not run.before.copied:  # these are tried again
            run.destination.save_seal(seal.seal(run.report))
    return run.report


@dataclass(slots=True)
class _Run:
    """What the steps of one export share.

    In a dry run there is no `destination`, and `site` is None where SITE does not exist.
    """

    options: ExportOptions
    images: int
    site: int | None
    before: State
    report: Report = field(init=False)
    verifier: SourceVerifier = field(init=False)
    files: KnownFiles = field(init=False)
    images_txt: ImagesTxt = field(init=False)
    index_page: ObservedIndexPage = field(init=False)
    destination: Destination | None = None
    empty_directories: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        options, before = self.options, self.before
        self.images_txt = ImagesTxt() if self.site is None else read_images_txt(self.site)
        self.index_page = ObservedIndexPage() if self.site is None else read_index_page(self.site)
        self.report = Report(site=options.site, dry_run=options.dry_run)
        self.verifier = SourceVerifier(self.images, options.jobs, before.verified, self.arguments)
        self.files = KnownFiles(
            site=-1 if self.site is None else self.site,
            device=device_of(options.site),
            verified=before.verified,
            link_refused=set(before.link_refused),
            hash_unknown=options.verify_digests,
            looked_at=before.noted_at,
        )
        self.report.is_first = self.site is None or paths.REGISTRY not in os.listdir(self.site)
        if self.site is not None and not options.dry_run:
            self.destination = Destination(self.site, self.images, options.site, options.images)

    @property
    def arguments(self) -> Arguments:
        """What commands call the two directories."""
        return Arguments(self.options.images, self.options.site)

    def refuse_faults(self, good: Sequence[Image]) -> None:
        """Stop at faults, unless the good images are to be published all the same.

        Where no image is good, a disk is rather not mounted than the site to be emptied.
        """
        if self.report.problems.faults and not (self.options.keep_going and good):
            raise ImagesError(self.report.problems)

    @contextmanager
    def noting_verified_files(self) -> Iterator[None]:
        """Where the run ends early, note what was verified, so that the next one hashes only what is new."""
        try:
            yield
        except BaseException:
            if self.destination:
                self.destination.note_verified(self.before.verified | self.verifier.result.verified, self.before)
            raise


def _load(run: _Run) -> list[Image]:
    """Read every image; those with faults are left out."""
    problems, prefix = run.report.problems, run.options.prefix
    found = discover(run.images, problems, run.empty_directories, run.arguments)
    loaded = [load(each, prefix, problems) for each in counted(found, "reading images", "image")]
    if not loaded and not problems.faults:
        problems.fault("", "empty", "holds no image", remedies.fill(Place("", run.arguments)))
    report_untagged(problems, len(loaded), run.arguments)
    if run.site is not None and run.empty_directories and run.options.prune:
        report_empty_directories(run.empty_directories, read_names(observe(run.site)), prefix, problems)
    return resolve_referrers([image for image in loaded if image], run.images)


def _verify(run: _Run, images: Sequence[Image]) -> dict[Digest, SourceFile]:
    """Choose one file for each digest, and hash those that were not verified before."""
    sources = choose_sources(images, run.before.verified | run.before.linked)
    if run.options.verify_digests:
        unverified = run.verifier.unverified(images, sources)
        with Progress("hashing", sum(file.size for file in unverified)) as progress:
            run.verifier.verify(images, sources, unverified, run.report.problems, progress.advance)
        run.report.hashed = run.verifier.result.hashed
    return sources


def _merge(run: _Run, images: Sequence[Image], sources: dict[Digest, SourceFile]) -> Catalog[File]:
    """Return what the site must hold: the good images, and what it must retain for the others.

    A clash with what is retained drops the images that claim the path; what the site serves for them is retained too.
    """
    problems = run.report.problems
    while True:
        faulty = problems.faulty_images()
        good = [image for image in images if image.path not in faulty]
        of_site = Problems()
        retained = _retained(run, of_site)
        clashes = find_clashes(good, retained)
        empty, incomplete = find_incomplete_indexes(good, retained, run.arguments)
        problems.extend([*clashes, *empty])
        run.refuse_faults(good)
        if not clashes and not empty:
            break
    problems.extend([*incomplete, *of_site.faults])
    run.report.images = len(good)
    _look_for_signatures(run, good)
    catalog = merge(good, retained, sources)
    warn_of_long_lists(catalog, good, run.arguments, problems)
    run.report.repositories, run.report.tags = len(catalog.repositories), catalog.tag_count
    return catalog


def _content(run: _Run, catalog: Catalog[File]) -> Iterator[tuple[Digest, int]]:
    """Yield digest and size of all content that clients can pull after the export."""
    yield from content_of_catalog(catalog, run.site)
    if run.site is not None and not run.options.prune:
        yield from content_of_site(run.site, run.before.unreferenced)


def _look_for_signatures(run: _Run, images: Sequence[Image]) -> None:
    signatures = Signatures(images, run.arguments)
    run.report.signed = signatures.count()
    if not run.report.problems.faults:  # else what a signature belongs to may be among the faulty images
        run.report.problems.extend(signatures.problems())


def _retained(run: _Run, problems: Problems) -> Catalog[Keep]:
    """Return what the site must keep as it is: everything without pruning, else what faulty images stand for."""
    if run.site is None:
        return Catalog()
    if not run.options.prune:
        catalog = read_all(run.site, run.before.unreferenced)
        run.images_txt.mark_untagged(catalog)
        return catalog
    faulty = FaultyReferences(run.report.problems.faulty_images(), run.options.prefix)
    if not run.options.keep_going or not faulty:
        return Catalog()
    catalog = read_closures(run.site, faulty.has, problems)
    run.images_txt.mark_untagged(catalog, faulty.has)
    return catalog


def _compare(run: _Run, catalog: Catalog[File]) -> Changes:
    """Compare what the site must hold with what it holds."""
    run.report.size = sum_of_sizes(_content(run, catalog))
    index_page = run.index_page.planned(is_wanted=run.options.index_page)
    has_foreign_images_txt = bool(run.images_txt.foreign)
    planned = plan(catalog, documents(has_foreign_images_txt=has_foreign_images_txt, index_page=index_page))
    if run.destination and run.before.copied:
        run.files.can_link_at_all = _can_link(run.destination, run.files, catalog)
    with Progress("hashing files of the site") as progress:  # those that no export noted
        run.files.advance = progress.advance
        changes = compare(planned, observe(run.site) if run.site is not None else (), run.files)
    grace = run.options.grace if run.options.prune else math.inf
    damaged = apply_grace_period(changes, run.before.unreferenced, time.time(), grace)
    if not run.options.prune:
        _keep_everything(changes, damaged, run.before.unreferenced)
    for removal in damaged:
        what = "has other bytes than its name says, and is removed: its file in IMAGES was edited in place"
        remedy = "update IMAGES by skopeo, rsync or cp --remove-destination, which make new files"
        run.report.problems.warning(removal.path, "edited", what, remedy, "SITE")
    run.images_txt.warn_if_foreign(run.report.problems)
    if run.options.index_page:
        run.index_page.warn_if_foreign(run.report.problems)
    if any(change.role is Role.IMAGES_TXT for change in changes.make):
        run.images_txt.warn_of_stale(run.report.problems)
    run.report.describe(changes, run.options.grace)
    return changes


def _keep_everything(changes: Changes, damaged: Iterable[Removal], unreferenced: Mapping[str, float]) -> None:
    """Remove only pages of lists that changed, the index page, and content with other bytes than its digest says."""
    bad = set(damaged)

    def is_removed(removal: Removal) -> bool:
        return removal in bad or paths.is_pages(removal.name) or removal.role is Role.INDEX_PAGE

    changes.remove = list(filter(is_removed, changes.remove))
    changes.unreferenced = {path: since for path, since in unreferenced.items() if path in changes.unreferenced}


def _can_link(destination: Destination, known: KnownFiles, catalog: Catalog[File]) -> bool:
    """Try whether files that had to be copied before can be linked now."""
    files = (file for _, repository in catalog for file in repository.blobs.values() if not isinstance(file, Keep))
    source = next(filter(known.can_link, files), None)
    return source is None or destination.can_link(source)


def _limit_removals(run: _Run, changes: Changes) -> None:
    """Stop if more tags would go than the operator allows, whatever else is published."""
    limit, report = run.options.max_remove, run.report
    if limit and run.options.prune and report_removals(report.tag_changes, changes.tags_before, limit, report.problems):
        raise ImagesError(report.problems)


def _publish(run: _Run, destination: Destination, changes: Changes, sources: Mapping[Digest, SourceFile]) -> None:
    """Apply the changes, and note what the next export has to know."""
    with Progress("publishing", changes.content_size) as progress:
        run.report.transfer = destination.apply(changes, run.files, progress.advance)
    changes.make.clear()  # the report has counted them, and a first export has many
    destination.save(_state_after(run, changes, sources), run.before, is_changed=run.report.has_changes)


def _state_after(run: _Run, changes: Changes, sources: Mapping[Digest, SourceFile]) -> State:
    before, transfer = run.before, run.report.transfer
    removed = {removal.path for removal in changes.remove}
    kept = {identity for path, identity in run.files.kept.items() if path not in removed}
    refused = before.link_refused and before.link_refused & _identities(sources)  # those that IMAGES has still
    if run.options.verify_digests:
        verified, linked = run.verifier.result.verified | kept | transfer.verified, set()
    else:
        verified, linked = before.verified | transfer.verified, _identities(sources)
    return State(
        verified=verified,
        unreferenced=changes.unreferenced,
        link_refused=refused | transfer.link_refused,
        copied=(before.copied & kept) | transfer.copied,
        linked=linked,
    )


def _identities(sources: Mapping[Digest, SourceFile]) -> set[bytes]:
    return {file.identity for file in sources.values()}
