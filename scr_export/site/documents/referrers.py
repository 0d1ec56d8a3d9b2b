"""The lists of what refers to a digest: all of it, and for each artifact type what is of that type. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from scr_export.oci.digest import Digest
from scr_export.oci.manifest import SIZE_LIMIT
from scr_export.oci.name import RepositoryName
from scr_export.oci.referrers import Referrer, referrers_index
from scr_export.oci.repository import Catalog
from scr_export.site import paths
from scr_export.site.entries import Entry, GeneratedFile
from scr_export.site.plan import File, Part


def referrers_documents(catalog: Catalog[File]) -> Iterator[Part]:
    """Yield the lists for each subject of each repository (distribution-spec, "Listing Referrers")."""
    for name, repository in catalog:
        for subject, referrers in repository.referrers.items():
            yield Part(paths.referrers(name, subject), partial(_entries, referrers.values()))


def long_lists(catalog: Catalog[File]) -> Iterator[tuple[RepositoryName, Digest, int]]:
    """Yield repository, subject and bytes of each list that is larger than what clients read."""
    for name, repository in catalog:
        for subject, referrers in repository.referrers.items():
            # Most lists are far from it: an annotation takes at most six times what it takes in the manifest.
            if sum(6 * referrer.size for referrer in referrers.values()) < SIZE_LIMIT:
                continue
            size = sum(referrer.descriptor_size for referrer in referrers.values())
            if size > SIZE_LIMIT:
                yield name, subject, size


def _entries(referrers: Iterable[Referrer]) -> Mapping[str, Entry]:
    return {name: GeneratedFile(data) for name, data in referrers_lists(referrers).items()}


def referrers_lists(referrers: Iterable[Referrer]) -> dict[str, bytes]:
    """Return the lists of one subject by their names: of all referrers, and of those of each artifact type."""
    lists: defaultdict[str, list[Referrer]] = defaultdict(list)
    for referrer in referrers:
        lists[paths.ALL].append(referrer)
        if referrer.artifact_type and (name := paths.artifact_type(referrer.artifact_type)):
            lists[name].append(referrer)
    return {name: referrers_index(found) for name, found in lists.items()}
