"""`scr-export IMAGES SITE`: discover, load, verify, merge, plan, compare, publish, report."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from scr_export.commands.documents import documents
from scr_export.errors import ImagesError, SiteError, UsageError, reason, reraise_oserror
from scr_export.fs.file import SourceFile
from scr_export.fs.safe import DIRECTORY_FLAGS, open_untouched
from scr_export.images import remedies
from scr_export.images.discover import discover
from scr_export.images.image import Image
from scr_export.images.indexes import find_incomplete_indexes
from scr_export.images.loader import load, resolve_referrers
from scr_export.images.merge import find_clashes, merge
from scr_export.images.naming import FaultyReferences, names_no_tag
from scr_export.images.other_kinds import is_site
from scr_export.images.place import Arguments, Place, quoted
from scr_export.images.sources import SourceVerifier, choose_sources
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problems
from scr_export.progress import Progress
from scr_export.publish.directory.files import KnownFiles, device_of
from scr_export.publish.directory.lock import is_marked, lock_site, mark, open_site
from scr_export.publish.directory.mirrors import warn_of_snapshots
from scr_export.publish.directory.observe import observe
from scr_export.publish.directory.publish import Transfer, publish
from scr_export.publish.directory.read import read_all, read_closures, read_names
from scr_export.publish.directory.state import State
from scr_export.publish.directory.tree import SourceChangedError, Tree
from scr_export.report import Report
from scr_export.site import paths
from scr_export.site.compare import Changes, Removal, apply_grace_period, compare
from scr_export.site.documents.referrers import long_lists
from scr_export.site.plan import File, plan
from scr_export.text import count, printable

_NAMED = 10  # so many tags are named in one message


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """How many tags an export may remove: a number, or percent of those that the site served before."""

    number: float
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str) -> RemovalLimit:
        """Read `N` or `N%`. ValueError: it is neither."""
        digits = text.removesuffix("%")
        if not digits.isascii() or not digits.isdigit():
            raise ValueError(f"{text!r} is neither a number of tags nor a percentage like 5%")
        limit = cls(int(digits), is_percent=digits != text)
        if limit.is_percent and limit.number > 100:
            raise ValueError(f"{text!r} is more than 100%")
        return limit

    def allows(self, removed: int, served: int) -> bool:
        """Tell whether `removed` tags of `served` may go."""
        return removed <= (self.number * served / 100 if self.is_percent else self.number)

    def __str__(self) -> str:
        return f"{self.number:g}{'%' * self.is_percent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What an export is asked to do.

    `images` and `site` are directories, `prefix` is put before every repository name. Without `verify_digests` only the
    sizes of blobs are checked. `keep_going` publishes the good images in spite of faults. `prune` removes what IMAGES
    lacks, content only when nothing has referred to it for `grace` seconds.
    """

    images: str
    site: str
    prefix: str = ""
    dry_run: bool = False
    jobs: int = 1
    verify_digests: bool = True
    keep_going: bool = False
    prune: bool = True
    grace: float = 900
    max_remove: RemovalLimit | None = None


def export(options: ExportOptions) -> Report:
    """Make the site what IMAGES says, and report what was done.

    ImagesError: IMAGES has faults; it carries all problems, and nothing that is served was written.
    UsageError, SiteError, SiteLockedError: the text says what the operator has to know.
    """
    started = time.monotonic()
    _refuse_overlap(options)
    with _open_images(options) as images, _open_site(options) as site:
        run = _Run(options, images, site, State.load(site) if site is not None else State())
        with run.noting_verified_files():
            found = _load(run)
            sources = _verify(run, found)
            catalog = _merge(run, found, sources)
            changes = _compare(run, catalog)
            _limit_removal(run, changes)
        if site is not None and not options.dry_run:
            run.report.transfer = _publish(run, site, changes, sources)
        warn_of_snapshots(options.site, run.report.problems)
        run.report.seconds = time.monotonic() - started
        return run.report


@dataclass(slots=True)
class _Run:
    """What the steps of one export share. `site` is None where SITE does not exist in a dry run."""

    options: ExportOptions
    images: int
    site: int | None
    before: State
    report: Report = field(init=False)
    verifier: SourceVerifier = field(init=False)
    files: KnownFiles = field(init=False)
    empty_directories: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        options, before = self.options, self.before
        self.report = Report(site=options.site, dry_run=options.dry_run)
        self.verifier = SourceVerifier(self.images, options.jobs, before.verified, self.arguments)
        self.files = KnownFiles(
            site=-1 if self.site is None else self.site,
            device=device_of(options.site),
            verified=before.verified,
            link_refused=set(before.link_refused),
            hash_unknown=options.verify_digests,
        )

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
            verified = self.before.verified | self.verifier.result.verified
            if self.site is not None and not self.options.dry_run and verified != self.before.verified:
                with suppress(OSError), Tree(self.site, self.images) as tree:
                    if not is_marked(self.site):
                        mark(tree)
                    replace(self.before, verified=verified).save_verified(tree, self.before)
            raise


def _load(run: _Run) -> list[Image]:
    """Read every image; those with faults are left out."""
    problems, prefix = run.report.problems, run.options.prefix
    found = discover(run.images, problems, run.empty_directories, run.arguments)
    loaded = [load(each, prefix, problems) for each in found]
    if not loaded and not problems.faults:
        problems.fault("", "empty", "holds no image", remedies.fill(Place("", run.arguments)))
    _report_untagged(run, len(loaded))
    sound = [image for image in loaded if image]
    _report_empty_directories(run)
    return resolve_referrers(sound, run.images)


def _report_untagged(run: _Run, image_count: int) -> None:
    """Say once that every image lies directly in IMAGES. One that hides others has that fault alone."""
    problems = run.report.problems
    nested = {fault.path for fault in problems.faults if fault.code == "nested"}
    found = {fault for fault in problems.faults if fault.code == "name" and names_no_tag(fault.path)}
    untagged = [fault for fault in problems.faults if fault in found and fault.path not in nested]
    problems.faults = [fault for fault in problems.faults if fault not in found or fault.path not in nested]
    if not untagged or len(untagged) < image_count:
        return
    problems.faults = [fault for fault in problems.faults if fault not in found]
    what = f"holds images without a tag, {untagged[0].path!r:.160} for one: is it the directory of one repository?"
    parent = remedies.give_parent(Place("", run.arguments), 1)
    problems.fault("", "name", what, f"{parent}, or name the tag: {untagged[0].remedy}")


def _report_empty_directories(run: _Run) -> None:
    """An empty directory from which the site serves tags is rather a disk that is not mounted."""
    if run.site is None or not run.empty_directories or not run.options.prune:
        return
    served = read_names(observe(run.site))
    for path in run.empty_directories:
        below = FaultyReferences([path], run.options.prefix)
        tags = sum(
            below.has(name, tag, manifest.digest)
            for name, repository in served
            for tag, manifest in repository.tags.items()
        )
        if tags:
            what = f"is empty, but SITE serves {count(tags, 'tag')} from it: is a disk not mounted?"
            run.report.problems.fault(path, "empty", what, "mount it; to remove these tags, remove the directory")


def _verify(run: _Run, images: Sequence[Image]) -> dict[Digest, SourceFile]:
    """Choose one file for each digest, and hash those that were not verified before."""
    sources = choose_sources(images, run.before.verified | run.before.linked)
    if run.options.verify_digests:
        unverified = run.verifier.unverified(images, sources)
        with Progress("verifying", sum(file.size for file in unverified)) as progress:
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
        retained = _retained(run)
        clashes = find_clashes(good, retained)
        empty, incomplete = find_incomplete_indexes(good, retained, run.arguments)
        problems.extend([*clashes, *empty])
        run.refuse_faults(good)
        if not clashes and not empty:
            break
    problems.extend(incomplete)
    run.report.images = len(good)
    catalog = merge(good, retained, sources)
    _warn_of_long_lists(run, catalog, good)
    run.report.repositories, run.report.tags = len(catalog.repositories), catalog.tag_count
    return catalog


def _warn_of_long_lists(run: _Run, catalog: Catalog[File], images: Sequence[Image]) -> None:
    """Warn of lists of referrers of which clients read only the start."""
    for name, subject, size in long_lists(catalog):
        candidates = [
            (referrer.descriptor_size, image.path)
            for image in images
            if image.reference.repository == name
            for each, referrer in image.referrers
            if each == subject
        ]
        largest = max(candidates, default=(0, ""))[1]
        what = f"the list of what refers to {name}@{subject} has {size:,} bytes, and clients read {SIZE_LIMIT:,} of it"
        remedy = f"take away the largest of its entries: {remedies.move_out(Place(largest, run.arguments))}"
        run.report.problems.warning(largest, "referrers", what, remedy)


def _retained(run: _Run) -> Catalog[Keep]:
    """Return what the site must keep as it is: everything without pruning, else what faulty images stand for."""
    if run.site is None:
        return Catalog()
    if not run.options.prune:
        return read_all(run.site, run.before.unreferenced)
    if not run.options.keep_going:
        return Catalog()
    faulty = FaultyReferences(run.report.problems.faulty_images(), run.options.prefix)
    return read_closures(run.site, faulty.has, run.report.problems) if faulty else Catalog()


def _compare(run: _Run, catalog: Catalog[File]) -> Changes:
    planned = plan(catalog, documents())
    if run.site is not None and not run.options.dry_run and run.before.copied:
        run.files.can_link_at_all = _can_link(run, catalog)
    changes = compare(planned, observe(run.site) if run.site is not None else (), run.files)
    grace = run.options.grace if run.options.prune else math.inf
    damaged = apply_grace_period(changes, run.before.unreferenced, time.time(), grace)
    if not run.options.prune:
        _keep_everything(changes, damaged, run.before.unreferenced)
    for removal in damaged:
        what = "has other bytes than its name says, and is removed: its file in IMAGES was edited in place"
        remedy = "update IMAGES by skopeo, rsync or cp --remove-destination, which make new files"
        run.report.problems.warning(removal.path, "edited", what, remedy, "SITE")
    run.report.describe(changes, run.options.grace)
    return changes


def _keep_everything(changes: Changes, damaged: Iterable[Removal], unreferenced: Mapping[str, float]) -> None:
    """Remove only the pages of lists that changed, and content with other bytes than its digest says."""
    bad = set(damaged)
    changes.remove = [removal for removal in changes.remove if removal in bad or paths.is_pages(removal.name)]
    changes.unreferenced = {path: since for path, since in unreferenced.items() if path in changes.unreferenced}


def _can_link(run: _Run, catalog: Catalog[File]) -> bool:
    """Try whether files that had to be copied before can be linked now."""
    files = (file for _, repository in catalog for file in repository.blobs.values() if not isinstance(file, Keep))
    source = next(filter(run.files.can_link, files), None)
    if source is None or run.site is None:
        return True
    with _reporting_write_errors(run.options), Tree(run.site, run.images) as tree:
        return tree.can_link(source)


def _limit_removal(run: _Run, changes: Changes) -> None:
    """Refuse to remove more tags than the operator allows, whatever else is published."""
    limit = run.options.max_remove
    removed = [f"{each.repository}:{each.tag}" for each in run.report.tag_changes if each.after is None]
    if limit is None or not run.options.prune or limit.allows(len(removed), changes.tags_before):
        return
    more = f" and {len(removed) - _NAMED:,} more" if len(removed) > _NAMED else ""
    what = (
        f"{count(len(removed), 'tag')} of {changes.tags_before:,} would be removed, more than --max-remove {limit}: "
        f"{', '.join(removed[:_NAMED])}{more}"
    )
    remedy = "if IMAGES is complete, run once with a larger --max-remove; --dry-run names every tag"
    run.report.problems.fault("", "max-remove", what, remedy, "SITE")
    raise ImagesError(run.report.problems)


def _publish(run: _Run, site: int, changes: Changes, sources: Mapping[Digest, SourceFile]) -> Transfer:
    """Apply the changes, and note what the next export has to know."""
    before = run.before
    with _reporting_write_errors(run.options), Tree(site, run.images) as tree:
        if paths.REGISTRY not in os.listdir(site):
            _refuse_poor_filesystem(tree, run.options.site)
        if not is_marked(site):
            mark(tree)
        transfer = publish(tree, changes, run.files)
        removed = {removal.path for removal in changes.remove}
        kept = {identity for path, identity in run.files.kept.items() if path not in removed}
        verified = run.verifier.result.verified | kept | transfer.verified
        state = State(
            verified=verified if run.options.verify_digests else before.verified | transfer.verified,
            unreferenced=changes.unreferenced,
            link_refused=_still_refused(before, sources) | transfer.link_refused,
            copied=(before.copied & kept) | transfer.copied,
            linked=set() if run.options.verify_digests else _identities(sources),
        )
        state.save(tree, before)
    return transfer


def _still_refused(before: State, sources: Mapping[Digest, SourceFile]) -> set[bytes]:
    """Forget the files that IMAGES no longer has."""
    return before.link_refused & _identities(sources) if before.link_refused else set()


def _identities(sources: Mapping[Digest, SourceFile]) -> set[bytes]:
    return {file.identity for file in sources.values()}


@contextmanager
def _reporting_write_errors(options: ExportOptions) -> Iterator[None]:
    """Turn what can go wrong while the site is written into one line."""
    try:
        yield
    except SourceChangedError as error:
        raise SiteError(
            f"{printable(options.images)}/{printable(str(error))}: changed while it was exported; run again"
        ) from None
    except OSError as error:
        raise SiteError(f"{printable(options.site)}: cannot be written: {reason(error)}") from error


def _refuse_poor_filesystem(tree: Tree, site: str) -> None:
    try:
        tree.try_names()
    except FileExistsError:
        raise SiteError(
            f"{printable(site)}: its file system takes upper and lower case for the same; tags need both"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise SiteError(
            f"{printable(site)}: its file system lacks symbolic links or ':' in names ({error.strerror})"
        ) from error


def _refuse_overlap(options: ExportOptions) -> None:
    if not options.images or not options.site:
        raise UsageError("IMAGES and SITE must not be empty")
    images, site = os.path.realpath(options.images), os.path.realpath(options.site)
    if images == site:
        raise UsageError("IMAGES and SITE are the same directory")
    for inner, outer, what in ((site, images, "SITE lies inside IMAGES"), (images, site, "IMAGES lies inside SITE")):
        if inner.startswith(outer.rstrip("/") + "/"):
            raise UsageError(f"{what}; keep them side by side")


@contextmanager
def _open_images(options: ExportOptions) -> Iterator[int]:
    path = options.images
    try:
        with reraise_oserror(UsageError, f"open IMAGES {printable(path)}"):
            descriptor = open_untouched(path, DIRECTORY_FLAGS)
    except UsageError:
        _refuse_swapped(options)
        raise
    try:
        if is_site(descriptor):
            _refuse_swapped(options)
            copy = printable(f"cp -a {quoted(path)} {quoted(options.site)}")
            raise UsageError(f"IMAGES {printable(path)} is a site of scr-export; to have another like it: {copy}")
        if not os.listdir(descriptor):
            _refuse_swapped(options)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_swapped(options: ExportOptions) -> None:
    """Say so if SITE holds images, as it does where the two arguments are swapped."""
    try:
        site = open_untouched(options.site, DIRECTORY_FLAGS)
    except OSError:
        return
    try:
        holds_images = not is_site(site) and next(discover(site, Problems(), []), None) is not None
    finally:
        os.close(site)
    if holds_images:
        command = printable(f"scr-export {quoted(options.site)} {quoted(options.images)}")
        raise UsageError(f"SITE {printable(options.site)} holds images: are the arguments swapped? {command}")


@contextmanager
def _open_site(options: ExportOptions) -> Iterator[int | None]:
    if options.dry_run:
        with open_site(options.site) as site:
            yield site
    else:
        with lock_site(options.site) as site:
            yield site
