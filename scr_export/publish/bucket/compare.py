"""Compare what a bucket must have with what is in it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scr_export.publish.bucket.keys import BYTES, MARKER, Step, is_named_by_content, step_of
from scr_export.publish.bucket.objects import DIGEST, Object
from scr_export.site.roles import Role

Steps = list[tuple[Step, list[Object]]]


@dataclass(slots=True)
class Listing:
    """What a store tells of the objects in a bucket: sizes in bytes, and of names the ETags.

    An ETag is the MD5 of what was sent in one request. That of content decides nothing, and there is much of it.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, size: int, etag: str) -> None:
        """Note an object."""
        self.sizes[key] = size
        if not is_named_by_content(key):
            self.etags[key] = etag.strip('"')


class Gone(NamedTuple):
    """A key that nothing needs any more."""

    key: str
    step: Step


@dataclass(slots=True)
class Differences:
    """How a bucket differs from what it must have.

    `send` must be sent. `ask` has objects of which the listing does not tell whether they are right. `replaced` are the
    keys of both that are there. `right` has objects that are right, if their bytes are to be checked. `gone` is what
    nothing needs, `foreign` what no push has put there.
    """

    send: list[Object] = field(default_factory=list)
    ask: list[Object] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    right: list[Object] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    wanted: int = 0
    unchanged: int = 0


def compare(objects: Iterable[Object], listing: Listing, *, keep_right: bool) -> Differences:
    """Compare objects with a listing, which is used up. `keep_right`: note every object that is there."""
    found = Differences()
    ambiguous = {_directory(key) for key in listing.sizes if "/manifests/sha384:" in key or "/manifests/sha512:" in key}
    for each in objects:
        found.wanted += 1
        size = listing.sizes.pop(each.key, None)
        if size is None or (each.size is not None and size != each.size):
            found.send.append(each)
        elif _is_told_right(each, listing.etags.get(each.key, ""), ambiguous):
            found.unchanged += 1
            if keep_right:
                found.right.append(each)
            continue
        else:
            found.ask.append(each)
        if size is not None:
            found.replaced.add(each.key)
    for key in listing.sizes:
        step = step_of(key)
        found.gone.append(Gone(key, step)) if step else found.foreign.append(key)
    return found


def _is_told_right(wanted: Object, etag: str, ambiguous: set[str]) -> bool:
    """Tell whether the listing shows that an object has the wanted bytes and metadata.

    Where a manifest can have digests of two algorithms, a tag's bytes do not tell which of them it leads to.
    """
    if wanted.md5 is None:
        return True
    if wanted.step.role is Role.TAG and (
        _directory(wanted.key) in ambiguous or not wanted.metadata[DIGEST].startswith("sha256:")
    ):
        return False
    return etag == wanted.md5.hex()


def in_order(send: Iterable[Object], replaced: Container[str]) -> Steps:
    """Return what is sent, step by step. `replaced` are the keys that are there.

    Signatures that others were put before move up from the last one, so that none is missing meanwhile.
    """
    send = list(send)
    growing = {_directory(each.key) for each in send if each.step.role is Role.SIGNATURE and each.key not in replaced}
    steps: defaultdict[Step, list[Object]] = defaultdict(list)
    for each in send:
        step = each.step
        if step.role is Role.SIGNATURE and _directory(each.key) in growing:
            step = Step(step.role, -step.number)
        steps[step].append(each)
    return sorted(steps.items())


def _directory(key: str) -> str:
    return key.rpartition("/")[0]


@dataclass(slots=True)
class Removals:
    """What is removed in this run: keys that stand where new ones need a directory, names, and content that is due.

    Each is in the order of removal, a list a step. `unreferenced` has the content that stays for the grace period, with
    the time since when nothing refers to it, in seconds since 1970. `new` are those of it that are noted now.
    """

    clashing: list[list[str]]
    names: list[list[str]]
    due: list[list[str]]
    unreferenced: dict[str, float]
    new: list[str]

    @property
    def is_due(self) -> set[str]:
        """All content that is removed now."""
        return {key for step in self.due for key in step}


def removals(
    gone: Iterable[Gone], send: Iterable[Object], noted: Mapping[str, float], now: float, grace: float
) -> Removals:
    """Divide what nothing needs. `noted` is what earlier runs found unreferenced; only that can be due."""
    gone = list(gone)
    clashing = set(_clashes((each.key for each in gone), (each.key for each in send)))
    rest = [each for each in gone if each.key not in clashing]
    content = {each.key: each.step for each in rest if each.step.is_content}
    due = {key for key in content if key in noted and min(noted[key], now) + grace <= now}
    due -= set(_bytes_with_markers(due, content))
    stays = {key: min(noted.get(key, now), now) for key in content if key not in due}
    return Removals(
        clashing=_last_first(each for each in gone if each.key in clashing),
        names=_last_first(each for each in rest if not each.step.is_content),
        due=_last_first(Gone(key, content[key]) for key in due),
        unreferenced=stays,
        new=[key for key in stays if key not in noted],
    )


def _clashes(gone: Iterable[str], send: Iterable[str]) -> Iterator[str]:
    """Yield keys of `gone` that are a directory of a key to send, or lie below one: a tag is a repository now."""
    gone, send = set(gone), set(send)
    for key in gone:
        if any(above in send for above in _above(key)):
            yield key
    for key in send:
        yield from (above for above in _above(key) if above in gone)


def _above(key: str) -> Iterator[str]:
    while key := key.rpartition("/")[0]:
        yield key


def _bytes_with_markers(due: set[str], content: Mapping[str, Step]) -> Iterator[str]:
    """Yield the bytes among `due` of which a repository still says that it has them."""
    marked = {key.rpartition("/")[2] for key, step in content.items() if step == MARKER and key not in due}
    yield from (key for key in due if content[key] == BYTES and key.rpartition("/")[2] in marked)


def _last_first(gone: Iterable[Gone]) -> list[list[str]]:
    """Return keys by their steps, the last step first."""
    steps: defaultdict[Step, list[str]] = defaultdict(list)
    for key, step in gone:
        steps[step].append(key)
    return [sorted(keys) for _, keys in sorted(steps.items(), reverse=True)]
