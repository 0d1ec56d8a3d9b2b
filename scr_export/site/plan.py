"""Plan a site: what each of its directories must hold. Pure: no file is touched."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

from scr_export.fs.file import SourceFile
from scr_export.oci.repository import KEEP, Catalog, Keep, Repository
from scr_export.site import paths
from scr_export.site.entries import Entry, GeneratedFile, ManifestDirectory, PlannedDirectory, Symlink, walk_order

File = SourceFile | Keep


class Part(NamedTuple):
    """Entries of one directory, made when their turn comes. Several parts of one directory are put together."""

    directory: str
    entries: Callable[[], Mapping[str, Entry]]


Document = Callable[[Catalog[File]], Iterable[Part]]


def plan(catalog: Catalog[File], documents: Sequence[Document]) -> Iterator[PlannedDirectory]:
    """Yield every directory of the site in the order of `walk_order`, with the content and the documents."""
    parts: defaultdict[str, list[Callable[[], Mapping[str, Entry]]]] = defaultdict(list)
    for document in (content, *documents):
        for part in document(catalog):
            parts[part.directory].append(part.entries)
    for directory in sorted(parts, key=walk_order):
        made = [make() for make in parts[directory]]
        yield PlannedDirectory(directory, made[0] if len(made) == 1 else dict(ChainMap(*map(dict, made))))


def content(catalog: Catalog[File]) -> Iterator[Part]:
    """Yield the blobs, manifests, tags and signatures of each repository."""
    for name, repository in catalog:
        if repository.blobs:
            yield Part(paths.blobs(name), partial(_blobs, repository))
        if repository.manifests or repository.tags:
            yield Part(paths.manifests(name), partial(_manifests, repository))
        for subject, signatures in repository.signatures.items():
            yield Part(paths.signatures(name, subject), partial(_signatures, signatures))


def fixed_files(files: Mapping[str, bytes]) -> Document:
    """Make the document of files that are the same bytes in every site. They stand at the top of SITE."""
    entries = {name: GeneratedFile(data) for name, data in files.items()}
    return lambda catalog: [Part("", lambda: entries)]


def kept_file(name: str) -> Document:
    """Make the document of a file at the top of SITE that stays as it is."""
    entries: Mapping[str, Entry] = {name: KEEP}
    return lambda catalog: [Part("", lambda: entries)]


def _blobs(repository: Repository[File]) -> Mapping[str, Entry]:
    return cast("Mapping[str, Entry]", repository.blobs)  # each is planned as its own file


def _signatures(signatures: Iterable[File]) -> Mapping[str, Entry]:
    return {paths.signature(number): file for number, file in enumerate(signatures, 1)}


def _manifests(repository: Repository[File]) -> Mapping[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, file in repository.manifests.items():
        entries[name] = KEEP if isinstance(file, Keep) else ManifestDirectory(file)
    for tag, name in repository.tags.items():
        entries[tag] = Symlink(name)
    return entries
