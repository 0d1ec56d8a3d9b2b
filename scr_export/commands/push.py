"""`scr-export push SITE s3://BUCKET`: read the bucket and the site, send what differs, remove what is not needed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from scr_export.errors import DamagedSiteError, SiteError, UsageError, reraise_oserror
from scr_export.oci.digest import Digest
from scr_export.problems import Problems
from scr_export.progress import Progress, counted
from scr_export.publish.bucket import keys
from scr_export.publish.bucket.check import differing, read_back
from scr_export.publish.bucket.compare import Differences, Listing, Removals, Steps, compare, in_order, removals
from scr_export.publish.bucket.lock import hold_lock
from scr_export.publish.bucket.notes import check_format, mark, read_unreferenced, refuse_others
from scr_export.publish.bucket.objects import Object, Stored, objects
from scr_export.publish.bucket.read import Contents, read_contents
from scr_export.publish.bucket.send import Sender
from scr_export.publish.bucket.settings import Settings, Target
from scr_export.publish.bucket.store import Store, import_obstore
from scr_export.publish.directory.lock import read_site
from scr_export.publish.directory.prove import Blob, ProvenContent
from scr_export.publish.directory.settled import read_settled
from scr_export.publish.directory.snapshot import open_in_site, open_in_snapshot, snapshot_directory, take_snapshot
from scr_export.report import Result
from scr_export.site import paths
from scr_export.site.roles import Role
from scr_export.text import count, printable, size

_OUTCOME = "nothing was published"
_NOUNS = {
    Role.TAG: "tag",
    Role.MANIFEST: "manifest",
    Role.INDEX: "manifest",
    Role.BLOB: "blob",
    Role.LIST: "list",
    Role.CATALOG: "list",
    Role.REFERRERS: "list",
    Role.IMAGES_TXT: "list",
}
_ORDER = ("tag", "manifest", "blob", "list", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """What to push, and where: `bucket` is `s3://BUCKET[/PREFIX]`, `endpoint` a URL, or empty for AWS.

    `jobs` are requests at once, `grace` is in seconds. `verify`: read back what is there.
    """

    site: str
    bucket: str
    endpoint: str = ""
    jobs: int = 16
    grace: float = 900
    verify: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class PushReport(Result):
    """The facts of one push.

    `objects` are all that the bucket must have. `sent` and `removed` count by noun, `bytes` were sent. `checked` are
    objects that were read back, with `checked_bytes`. `unreferenced` has `count` and `until`, in seconds since 1970.
    """

    site: str
    bucket: str
    dry_run: bool = False
    repositories: int = 0
    tags: int = 0
    objects: int = 0
    tag_changes: dict[str, list[str]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    unchanged: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    unreferenced: dict[str, float] = field(default_factory=dict)
    checked: int = 0
    checked_bytes: int = 0
    seconds: float = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def details(self) -> list[str]:
        """A line for each tag that appears (+), moves (~) or goes (-)."""
        signs = (("+", "added"), ("~", "moved"), ("-", "removed"))
        return [f"{sign} {tag}" for sign, word in signs for tag in self.tag_changes.get(word, ())]

    def __str__(self) -> str:
        held = f"{count(self.repositories, 'repository')}, {count(self.tags, 'tag')}, {count(self.objects, 'object')}"
        where = f"{printable(self.site)} to {self.bucket}"
        lines = [f"{where}: {held}" + (" (dry run: nothing is written)" if self.dry_run else "")]
        for word, counts in (("sent", self.sent), ("removed", self.removed)):
            if any(counts.values()):
                lines.append(f"  {word:9}{_named(counts)}" + (f"; {size(self.bytes)}" if word == "sent" else ""))
        if len(lines) == 1:
            lines.append("  nothing changed")
        if self.unreferenced["count"]:
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.unreferenced["until"]))
            waiting = count(int(self.unreferenced["count"]), "unreferenced object")
            lines.append(f"  waiting  {waiting}, kept for running pulls; the first push after {until} removes them")
        if self.checked:
            lines.append(f"  checked  {count(self.checked, 'object')}, {size(self.checked_bytes)}")
        return "\n".join([*lines, f"  {self.seconds:.2f} s in all"])


def push(options: PushOptions) -> PushReport:
    """Make a bucket what a site is, or with `dry_run` only tell what would change.

    DamagedSiteError: the site is damaged; it carries all problems. BucketError, BucketLockedError, UsageError,
    SiteError, SiteLockedError: the text says what the operator has to know. All that the bucket names is whole then.
    """
    started = time.monotonic()
    import_obstore()
    target = _target(options)
    with read_site(options.site):  # so that a mistyped SITE shows at once, and not when a large bucket was read
        pass
    store = Store(target, Settings.find(options.endpoint, os.environ))
    report = PushReport(options.site, str(target), options.dry_run)
    is_marked = check_format(store)
    with ExitStack() as stack:
        lease = None if options.dry_run else stack.enter_context(hold_lock(store))
        bucket = _read_bucket(store, is_marked)
        source = stack.enter_context(_reading(options, bucket, report))
        differences = source.differences
        differences.send += differing(store, differences.ask, options.jobs)
        _check(store, options, differences, report)
        plan = _plan(options, bucket, differences)
        _describe(report, source.contents, differences, bucket, plan, options)
        if lease:
            if not is_marked:
                mark(store)
            _publish(Sender(store, lease, source.content, options.jobs), plan, bucket.noted)
    report.seconds = time.monotonic() - started
    return report


def _target(options: PushOptions) -> Target:
    if not options.site:
        raise UsageError("SITE must not be empty")
    try:
        return Target.parse(options.bucket)
    except ValueError as error:
        raise UsageError(str(error)) from None


class _Bucket(NamedTuple):
    """What is in a bucket: all objects of its registry, and what earlier runs noted."""

    listing: Listing
    noted: Mapping[str, float]


def _read_bucket(store: Store, is_marked: bool) -> _Bucket:
    listing = Listing()
    for directory in (paths.REGISTRY, keys.BLOBS):
        for key, size_, etag in counted(store.list(directory), f"listing {directory}/", "object"):
            listing.add(key, size_, etag)
    if not is_marked:
        refuse_others(store, listing.sizes)
    return _Bucket(listing, read_unreferenced(store) if is_marked else {})


@dataclass(frozen=True, slots=True)
class _Source:
    """What a site has, how the bucket differs from it, and how its files are read."""

    contents: Contents
    differences: Differences
    content: ProvenContent


@contextmanager
def _reading(options: PushOptions, bucket: _Bucket, report: PushReport) -> Iterator[_Source]:
    """Read the site, and release its lock as soon as a snapshot stands in for it.

    Where no snapshot can be made, as on a disk that is read-only, the site itself is read to the end, under its lock.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(ExitStack())
        site, state = lock.enter_context(read_site(options.site))
        snapshot = None if options.dry_run else stack.enter_context(snapshot_directory(site, "push"))
        unreferenced = state.unreferenced if state else {}
        with reraise_oserror(SiteError, f"read {printable(options.site)}"):
            contents = read_settled(options.site, site, state is not None, partial(read_contents, site, unreferenced))
        _report_contents(contents, report)
        differences = compare(_objects(contents), bucket.listing, keep_right=options.verify)
        open_content = partial(open_in_site, site)
        if snapshot is not None and take_snapshot(site, snapshot, _needed(differences)):
            open_content = partial(open_in_snapshot, snapshot)
            if state is not None:
                lock.close()
        yield _Source(contents, differences, ProvenContent(open_content, report.problems, _OUTCOME))


def _report_contents(contents: Contents, report: PushReport) -> None:
    contents.images_txt.warn_if_foreign(contents.problems)
    contents.images_txt.warn_if_unsigned(contents.problems)
    report.problems = contents.problems
    if contents.problems.faults:
        raise DamagedSiteError(contents.problems, _OUTCOME)
    report.repositories, report.tags = len(contents.catalog.repositories), contents.catalog.tag_count


def _objects(contents: Contents) -> Iterator[Object]:
    images_txt = contents.images_txt
    return objects(contents.catalog, None if images_txt.foreign else images_txt.data)


def _needed(differences: Differences) -> Iterable[tuple[Digest, Blob]]:
    """Return the files that are sent, and those that are if a look into the bucket shows that they must be."""
    found: dict[Digest, Blob] = {}
    for each in (*differences.send, *differences.ask, *differences.right):
        if isinstance(each.body, Stored):
            found.setdefault(each.body.digest, Blob(each.body.path, each.body.size))
    return found.items()


def _check(store: Store, options: PushOptions, differences: Differences, report: PushReport) -> None:
    """Read back what is there. What is damaged is a fault, and is sent again."""
    if not options.verify:
        return
    sent = {each.key for each in differences.send}
    there = [*differences.right, *(each for each in differences.ask if each.key not in sent)]
    report.checked = len(there)
    report.checked_bytes = sum(each.size or 0 for each in there)
    with Progress("checking", report.checked_bytes) as progress:
        damaged = read_back(store, there, options.jobs, progress.advance)
    for wanted, what in damaged:
        remedy = "push without --dry-run sends it again" if options.dry_run else "it was sent again; look at the store"
        report.problems.fault(wanted.key, "damaged", what, remedy, "BUCKET")
        differences.send.append(wanted)


class _Plan(NamedTuple):
    """What is sent: the bytes of blobs, which no name leads to yet, then all else step by step. And what is removed."""

    bytes: list[Object]
    names: Steps
    removals: Removals


def _plan(options: PushOptions, bucket: _Bucket, differences: Differences) -> _Plan:
    removed = removals(differences.gone, differences.send, bucket.noted, time.time(), options.grace)
    steps = in_order(differences.send, differences.replaced)
    blobs = [each for step, group in steps if step == keys.BYTES for each in group]
    return _Plan(blobs, [each for each in steps if each[0] != keys.BYTES], removed)


def _describe(
    report: PushReport,
    contents: Contents,
    differences: Differences,
    bucket: _Bucket,
    plan: _Plan,
    options: PushOptions,
) -> None:
    report.objects, report.unchanged = differences.wanted, differences.wanted - len(differences.send)
    report.tag_changes = _tag_changes(differences)
    report.sent = _counts(each.step for each in differences.send)
    report.bytes = sum(each.size or 0 for each in differences.send)
    gone = plan.removals
    removed = {key for steps in (gone.clashing, gone.names, gone.due) for group in steps for key in group}
    report.removed = _counts(each.step for each in differences.gone if each.key in removed)
    until = max(gone.unreferenced.values(), default=-options.grace) + options.grace
    report.unreferenced = {"count": len(gone.unreferenced), "until": until}
    if differences.foreign:
        what = f"is not from scr-export, as {count(len(differences.foreign), 'object')} here; left alone"
        remedy = "keep other objects out of v2/ and blobs/"
        report.problems.warning(min(differences.foreign), "foreign", what, remedy, "BUCKET")


def _tag_changes(differences: Differences) -> dict[str, list[str]]:
    changes: dict[str, list[str]] = {"added": [], "moved": [], "removed": []}
    for each in differences.send:
        if each.step.role is Role.TAG:
            line = f"{_tag(each.key)} {each.metadata['digest']}"
            changes["moved" if each.key in differences.replaced else "added"].append(line)
    changes["removed"] = [_tag(each.key) for each in differences.gone if each.step.role is Role.TAG]
    return {word: sorted(lines) for word, lines in changes.items()}


def _tag(key: str) -> str:
    directory, _, tag = key.rpartition("/")
    return f"{paths.place(directory).name}:{tag}"


def _named(counts: Mapping[str, int]) -> str:
    named = [count(counts[f"{noun}s"], noun) for noun in _ORDER[:-1] if counts[f"{noun}s"]]
    return ", ".join([*named, *([count(counts["other"], "other object")] if counts["other"] else ())])


def _counts(steps: Iterable[keys.Step]) -> dict[str, int]:
    """Count by noun. What says that a repository has a blob is not the blob."""
    found = Counter("other" if step == keys.MARKER else _NOUNS.get(step.role, "other") for step in steps)
    return {f"{noun}s" if noun != "other" else noun: found[noun] for noun in _ORDER}


def _publish(sender: Sender, plan: _Plan, noted: Mapping[str, float]) -> None:
    """Send bytes, then what leads to them; remove names, then content that was not needed for the grace period."""
    removed = plan.removals
    with Progress("sending", sum(each.size or 0 for each in plan.bytes)) as progress:
        sender.send([(keys.BYTES, plan.bytes)], lambda sent, _: progress.advance(sent))
    sender.forget(noted, removed)
    sender.remove(removed.clashing)
    number = sum(len(step) for _, step in plan.names)
    with Progress("publishing", number, "object") as progress:
        sender.send(plan.names, lambda _, done: progress.advance(done))
    sender.remove(removed.names)
    sender.note(noted, removed, time.time())
    sender.remove(removed.due)
