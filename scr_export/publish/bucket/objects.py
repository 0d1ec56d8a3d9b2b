"""The objects that a bucket must have, planned from the catalog of a site. Pure: no file is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from scr_export.oci import mediatype
from scr_export.oci.digest import Digest
from scr_export.oci.listing import Listing, Page, pages
from scr_export.oci.name import RepositoryName
from scr_export.oci.repository import Catalog, Repository
from scr_export.publish.bucket import keys
from scr_export.publish.bucket.keys import Step
from scr_export.site import paths
from scr_export.site.documents.listing import EMPTY, token
from scr_export.site.documents.referrers import referrers_lists
from scr_export.site.roles import Role

# Counts up when the same list gets other pages.
LAYOUT = 1

_NAME_LENGTH = 255  # of a component of a key, where a store is a file system

_BYTES, _JSON, _TEXT = "application/octet-stream", "application/json", "text/plain"

# Metadata: what an object's digest is, the sha256 of its bytes, where the next page begins, the hash of a list's pages,
# and beside the page of one entry, which sizes of pages begin where it does.
DIGEST, SUM, NEXT, PAGES, SIZES = "digest", "sum", "next", "pages", "sizes"


class Stored(NamedTuple):
    """A file of the site that goes into the bucket as it is.

    `md5` is that of the bytes, where a name can lead to other bytes tomorrow. `level` is 0 for a manifest that lists no
    other, and for an index one more than the highest of what it lists.
    """

    digest: Digest
    path: str
    size: int
    md5: bytes = b""
    level: int = 0


class Object(NamedTuple):
    """An object that the bucket must have. Without `md5`, its key names its content: what is there is right.

    `body` is a file of the site, or makes the bytes. `size` is in bytes; None: nobody has to know it before.
    """

    key: str
    step: Step
    content_type: str
    metadata: Mapping[str, str]
    body: Stored | Callable[[], bytes]
    size: int | None
    md5: bytes | None = None


def objects(catalog: Catalog[Stored], images_txt: bytes | None) -> Iterator[Object]:
    """Yield every object of a bucket, in no order that matters."""
    seen: set[Digest] = set()
    for name, repository in catalog:
        yield from _blobs(name, repository, seen)
        yield from _manifests(name, repository)
        yield from _referrers(name, repository)
        yield from _signatures(name, repository)
        yield from _list(Listing(name, tuple(sorted(repository.tags))), Step(Role.LIST))
    names = tuple(name for name, _ in catalog)
    yield from _list(Listing(None, names), Step(Role.CATALOG))
    for component in dict.fromkeys(name.partition("/")[0] for name in names):
        yield _empty(keys.upstream(component), keys.UPSTREAM, {})
    if images_txt is not None:
        yield _document(keys.IMAGES_TXT, Step(Role.IMAGES_TXT), _TEXT, images_txt)


def _blobs(name: RepositoryName, repository: Repository[Stored], seen: set[Digest]) -> Iterator[Object]:
    for digest, file in repository.blobs.items():
        metadata = {DIGEST: digest}
        if digest not in seen:
            seen.add(digest)
            yield Object(keys.blob(digest), keys.BYTES, _BYTES, metadata, file, file.size)
        yield _empty(keys.marker(name, digest), keys.MARKER, metadata)


def _manifests(name: RepositoryName, repository: Repository[Stored]) -> Iterator[Object]:
    for each, file in repository.manifests.items():
        step = Step(Role.INDEX, file.level) if each.is_index else Step(Role.MANIFEST)
        yield Object(keys.manifest(name, each.digest), step, each.media_type, {DIGEST: each.digest}, file, file.size)
    for tag, each in repository.tags.items():
        file = repository.manifests[each]
        metadata = {DIGEST: each.digest}
        yield Object(keys.manifest(name, tag), Step(Role.TAG), each.media_type, metadata, file, file.size, file.md5)


def _referrers(name: RepositoryName, repository: Repository[Stored]) -> Iterator[Object]:
    for subject, referrers in repository.referrers.items():
        directory = paths.referrers(name, subject)
        for list_name, data in referrers_lists(referrers.values()).items():
            yield _document(f"{directory}/{list_name}", Step(Role.REFERRERS), mediatype.OCI_INDEX, data)


def _signatures(name: RepositoryName, repository: Repository[Stored]) -> Iterator[Object]:
    for subject, signatures in repository.signatures.items():
        directory = paths.signatures(name, subject)
        for number, file in enumerate(signatures, 1):
            key, metadata = f"{directory}/{paths.signature(number)}", {SUM: file.digest.encoded}
            yield Object(key, Step(Role.SIGNATURE, number), _BYTES, metadata, file, file.size, file.md5)


def _list(listing: Listing, step: Step) -> Iterator[Object]:
    """Yield a list and its pages. The list leads to the pages by its metadata, so that all change in one instant."""
    body = listing.body()
    content_hash = hashlib.sha256(b"%d\n%s" % (LAYOUT, body)).hexdigest()[:32]
    directory = keys.pages(listing.name, content_hash)
    yield _page(f"{directory}/{EMPTY}", {}, partial(listing.body, ()))
    for _, same_start in groupby(pages(listing.entries), key=attrgetter("after")):
        yield from _pages(directory, listing, tuple(same_start))
    whole = f"{keys.listing(listing.name)}/{paths.TAG_LIST}"
    yield _document(whole, step, _JSON, body, {PAGES: content_hash})


def _pages(directory: str, listing: Listing, same_start: Sequence[Page]) -> Iterator[Object]:
    """Yield the pages of all sizes that begin at one place. That of one entry tells which sizes there are."""
    for page in same_start:
        metadata = {NEXT: token(page.next)} if page.next else {}
        for last in _ways_to_write(page):
            sizes = [str(each.size) for each in same_start if page.size == 1 and last in _ways_to_write(each)]
            more = {SIZES: " ".join(sizes)} if sizes else {}
            yield _page(f"{directory}/{last}@{page.size}", metadata | more, partial(listing.body, page.entries))


def _ways_to_write(page: Page) -> Iterable[str]:
    """Return what a client writes for `last`: the entry itself, or what stands for a long one in `next`."""
    short = token(page.after)
    written = (page.after, short) if short.startswith("~") else (page.after,)
    return [last for last in written if len(f"{last.rpartition('/')[2]}@{page.size}") <= _NAME_LENGTH]


def _page(key: str, metadata: Mapping[str, str], body: Callable[[], bytes]) -> Object:
    return Object(key, Step(Role.LIST_PAGE), _JSON, metadata, body, None)


def _document(key: str, step: Step, content_type: str, data: bytes, more: Mapping[str, str] | None = None) -> Object:
    metadata = {SUM: hashlib.sha256(data).hexdigest()} | dict(more or {})
    return Object(key, step, content_type, metadata, lambda: data, len(data), md5(data))


def _empty(key: str, step: Step, metadata: Mapping[str, str]) -> Object:
    return Object(key, step, _BYTES, metadata, bytes, 0)


def md5(data: bytes) -> bytes:
    """Return the MD5 of these bytes, by which a store tells one object from another."""
    return hashlib.md5(data, usedforsecurity=False).digest()
