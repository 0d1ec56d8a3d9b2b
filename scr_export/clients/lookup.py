"""Where a site has what a reference names: by the rules that servers follow for `?ns=`, and `clients` with them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from scr_export.clients.mirror import upstream_of
from scr_export.oci.name import RepositoryName
from scr_export.oci.reference import FullReference


class Lookup:
    """The names of a site's repositories, to be looked up by references.

    `prefix` is what the export put before every name. `upstream` is the registry of repositories whose names have none;
    without it they are taken for those of any registry that has no directory of its own in the site.
    """

    def __init__(self, names: Iterable[RepositoryName], prefix: str = "", upstream: str | None = None) -> None:
        self._names = set(names)
        self._start = f"{prefix}/" if prefix else ""
        self._upstream = upstream
        length = len(self._start)
        self._tops = {name[length:].partition("/")[0] for name in self._names if name.startswith(self._start)}

    def repositories(self, reference: FullReference) -> list[RepositoryName]:
        """Return the repositories that can have the image."""
        candidates = [f"{self._start}{name}" for name in self._inside(reference)]
        if reference.written == reference.written.lower():
            candidates.append(reference.written)  # as the site has it
        return [RepositoryName(name) for name in dict.fromkeys(candidates) if name in self._names]

    def _inside(self, reference: FullReference) -> list[str]:
        directory = _directory(reference)
        if directory in self._tops:
            return [f"{directory}/{reference.repository}"]
        if self._upstream not in (None, reference.host):
            return []
        return [reference.repository, *([reference.official] if reference.official else [])]

    def prefix_of(self, references: Iterable[FullReference]) -> tuple[str, int] | None:
        """Return the prefix below which most of these references are, and how many. None: none is below any."""
        by_last: defaultdict[str, list[RepositoryName]] = defaultdict(list)
        for name in self._names:
            by_last[name.rpartition("/")[2]].append(name)
        found: Counter[str] = Counter()
        for reference in references:
            ends = f"/{_directory(reference)}/{reference.repository}", f"/{reference.repository}"
            alike = by_last[reference.repository.rpartition("/")[2]]
            prefixes = {name.removesuffix(end) for name in alike for end in ends if name.endswith(end)}
            found.update(prefix for prefix in prefixes if not any(map(upstream_of, prefix.split("/"))))
        return min(found.items(), key=lambda item: (-item[1], item[0]), default=None)


def _directory(reference: FullReference) -> str:
    """Return the first component of names that belong to the registry: a name cannot hold a colon."""
    return reference.host.replace(":", "_")
