"""Checking a site by itself, without IMAGES: whether all that it answers can be pulled whole. Only reads."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scr_export.errors import Findings
from scr_export.images.content import Content, defects, directory_at, read_file
from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT, Manifest
from scr_export.oci.name import RepositoryName, Tag
from scr_export.oci.referrers import referrers_in
from scr_export.oci.taglist import List
from scr_export.site import pages, paths
from scr_export.site.changes import Linking, compare
from scr_export.site.observe import Directory, Kind, observe
from scr_export.site.plan import Pages, Served, plan_site
from scr_export.site.served import digests, repository_of, tags_of

_NO_LINKING = Linking(device=-1)
_LIST_LIMIT = 2**30
_CLOSED = ("unreadable", "cannot be entered by a web server", "chmod 755")
_EXPORT_AGAIN = "export again, or carry the site over again"


@dataclass(slots=True)
class _Found:
    """What a repository's directories hold, and what its manifests say it must hold."""

    is_listed: bool = False
    tags: dict[Tag, str] = field(default_factory=dict)
    heads: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, Content] = field(default_factory=dict)


@dataclass(slots=True)
class Checked:
    """How much was looked at. `bytes` were read and hashed."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0


def verify_site(site: int, waiting: Mapping[str, float] | None, jobs: int, findings: Findings) -> Checked:
    """Look at everything in a site; what is not as it must be goes to `findings`.

    `waiting` may lie there unnamed; None where that is not known.
    """
    found: defaultdict[RepositoryName, _Found] = defaultdict(_Found)
    for directory in observe(site):
        _look(directory, found, findings)
    for name, repository in found.items():
        _check_names(name, repository, findings)
    _check_plan(site, found, waiting, findings)
    contents = {c.identity: c for repository in found.values() for c in repository.blobs.values()}
    for content, what in defects(contents.values(), site, jobs):
        findings.fault(content.path, "digest", what, _EXPORT_AGAIN)
    return Checked(
        repositories=len(found),
        tags=sum(len(repository.tags) for repository in found.values()),
        manifests=sum(len(repository.heads) for repository in found.values()),
        blobs=sum(len(repository.blobs) for repository in found.values()),
        bytes=sum(content.size for content in contents.values()),
    )


def _look(directory: Directory, found: defaultdict[RepositoryName, _Found], findings: Findings) -> None:
    if not os.fstat(directory.descriptor).st_mode & stat.S_IXOTH:
        findings.fault(directory.path, *_CLOSED)
    if name := repository_of(directory, paths.MANIFESTS):
        tags = tags_of(directory)
        heads = [entry for entry in directory.entries if paths.is_head(directory.path, entry)]
        manifests = {head: _manifest(directory, head, findings) for head in heads}
        if tags or heads:  # else it may be on the way to a repository of such a name
            found[name].tags = tags
            found[name].heads = {head: manifest for head, manifest in manifests.items() if manifest}
    elif (name := repository_of(directory, paths.TAGS)) and paths.TAG_LIST in directory.entries:
        found[name].is_listed = True
    elif (name := repository_of(directory, paths.BLOBS)) and (blobs := dict(_blobs(directory, findings))):
        found[name].blobs = blobs


def _manifest(directory: Directory, head: str, findings: Findings) -> Manifest | None:
    path = f"{directory.path}/{head}"
    try:
        with directory_at(head, directory.descriptor) as inner:
            for name in os.listdir(inner):
                if name != head:
                    findings.fault(f"{path}/{name}", "left-over", "does not belong there", _EXPORT_AGAIN)
            raw, status = read_file(head, inner, SIZE_LIMIT)
            open_to_all = status.st_mode & stat.S_IROTH and os.fstat(inner).st_mode & stat.S_IXOTH
        media_type, digest = paths.parse_head(head)
        manifest = Manifest.parse(raw, digest.algorithm)
    except OSError as error:
        findings.fault(path, "unreadable", f"cannot be read: {error.strerror}", _EXPORT_AGAIN)
        return None
    except ValueError as error:
        findings.fault(path, "manifest", str(error), _EXPORT_AGAIN)
        return None
    if not open_to_all:
        findings.fault(path, "unreadable", "cannot be read by a web server", "chmod 755 it, and 644 the file in it")
    if (manifest.media_type, manifest.digest) != (media_type, digest):
        findings.fault(path, "digest", f"holds {manifest.media_type} {manifest.digest}", _EXPORT_AGAIN)
    return manifest


def _blobs(directory: Directory, findings: Findings) -> Iterable[tuple[Digest, Content]]:
    for name, seen in directory.entries.items():
        if seen.kind is Kind.FILE and paths.is_blob(directory.path, name) and (status := directory.status(name)):
            if not status.st_mode & stat.S_IROTH:
                findings.fault(f"{directory.path}/{name}", "unreadable", "cannot be read by a web server", "chmod 644")
            digest = Digest.parse(name)
            yield digest, Content.of(digest, f"{directory.path}/{name}", status)


def _check_names(name: RepositoryName, repository: _Found, findings: Findings) -> None:
    """Every tag leads to a manifest, and every descriptor to a blob of its size."""
    for tag, target in repository.tags.items():
        if target not in repository.heads:
            findings.fault(f"{paths.manifests(name)}/{tag}", "tag", "leads to no sound manifest", _EXPORT_AGAIN)
    for head, manifest in repository.heads.items():
        for descriptor in manifest.blobs:
            blob = repository.blobs.get(descriptor.digest)
            where = f"{paths.manifests(name)}/{head}"
            if blob is None and not descriptor.has_urls:
                findings.fault(where, "missing", f"{descriptor.place} is missing: {descriptor.digest}", _EXPORT_AGAIN)
            elif blob and blob.size != descriptor.size:
                what = f"{descriptor.place} says {descriptor.size} bytes, {descriptor.digest} has {blob.size}"
                findings.fault(where, "size", what, _EXPORT_AGAIN)


def _named(
    site: int, name: RepositoryName, repository: _Found, waiting: Mapping[str, float] | None
) -> dict[Digest, Manifest]:
    """The manifests that are not only left for pulls in flight. Where no notes tell, the lists of referrers do."""
    manifests = {manifest.digest: manifest for manifest in repository.heads.values()}
    if waiting is not None:
        let_go = {path.rpartition("@")[2] for path in waiting if path.startswith(f"{paths.manifests(name)}/")}
        return {digest: manifest for digest, manifest in manifests.items() if digest not in let_go}
    return {
        digest: manifest
        for digest, manifest in manifests.items()
        if not manifest.subject or _holds(site, f"{paths.referrers(name, manifest.subject)}/{paths.ALL}", digest)
    }


def _holds(site: int, path: str, text: str) -> bool:
    directory, _, name = path.rpartition("/")
    try:
        with directory_at(directory, site) as descriptor:
            return text.encode() in read_file(name, descriptor, _LIST_LIMIT)[0]
    except (OSError, ValueError):
        return False


def _check_pages(site: int, path: str, listing: List, findings: Findings) -> None:
    """Every page is there, says what it must, and can be read; one fault tells of all that are not so."""
    expected: dict[str, bytes | pages.Link] = {}
    for name, held in pages.files(listing):
        expected[name] = expected[held.path] if isinstance(held, pages.Same) else held
    found: dict[str, bytes | pages.Link] = {}
    try:
        with directory_at(path, site) as directory:
            for below, _, names, descriptor in os.fwalk(".", dir_fd=directory):
                if not os.fstat(descriptor).st_mode & stat.S_IXOTH:
                    findings.fault(os.path.normpath(f"{path}/{below}"), *_CLOSED)
                found |= {os.path.normpath(f"{below}/{name}"): _held(name, descriptor) for name in names}
    except FileNotFoundError:
        return  # told by the comparison with the plan
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        what = f"{len(wrong)} pages are not what its list asks for, the first: {wrong[0]}"
        findings.fault(path, "list", what, "remove it, then export again or carry the site over again")


def _held(name: str, directory: int) -> bytes | pages.Link:
    """The bytes of a file that all may read, or where a link leads."""
    try:
        return pages.Link(os.readlink(name, dir_fd=directory))
    except OSError:
        pass
    try:
        held, status = read_file(name, directory, _LIST_LIMIT)
    except (OSError, ValueError):
        return b""
    return held if status.st_mode & stat.S_IROTH else b""


def _check_plan(
    site: int, found: Mapping[RepositoryName, _Found], waiting: Mapping[str, float] | None, findings: Findings
) -> None:
    """Lists and snippets are what the rest asks for, and nothing is left over."""
    served = {
        name: Served(
            tags=set(repository.tags),
            heads=set(repository.heads),
            blobs={blob.digest for manifest in repository.heads.values() for blob in manifest.blobs},
            referrers=referrers_in(_named(site, name, repository, waiting), digests(repository.tags)),
        )
        for name, repository in found.items()
        if repository.is_listed or repository.tags
    }
    plan = plan_site([], served)
    changes = compare(plan, observe(site), _NO_LINKING)
    for path, entries in plan.items():
        for entry_name, entry in entries.items():
            if isinstance(entry, Pages):
                _check_pages(site, f"{path}/{entry_name}", entry.of, findings)
    for change in changes.make:
        if change.over and not change.directory:
            what = "is not the one of this version of scr-export"
            findings.warn(change.name, "snippet", what, "an export by this version brings it")
            continue
        what = "does not say what the site has" if change.over else "is missing"
        findings.fault(f"{change.directory}/{change.name}".lstrip("/"), "list", what, _EXPORT_AGAIN)
    for removal in changes.remove:
        if waiting is None and not removal.is_whole:
            continue  # whatever is in it is told of by itself
        if waiting is None and (removal.is_content or paths.is_pages(removal.name)):
            findings.warn(removal.path, "left-over", "is named by nothing", "a later export or transfer removes it")
        elif not any(path == removal.path or path.startswith(f"{removal.path}/") for path in waiting or ()):
            findings.fault(removal.path, "left-over", "is named by nothing", _EXPORT_AGAIN)
