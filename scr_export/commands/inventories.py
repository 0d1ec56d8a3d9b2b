"""A site that is read repository by repository, for `list`."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager

from scr_export.errors import SiteError, reraise_oserror
from scr_export.oci.digest import Digest
from scr_export.oci.inventory import Absent, Inventory
from scr_export.oci.name import RepositoryName
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problems
from scr_export.publish.directory.images_txt import read_images_txt
from scr_export.publish.directory.inventory import AGAIN, read_inventory
from scr_export.publish.directory.lock import read_site
from scr_export.publish.directory.observe import observe
from scr_export.publish.directory.read import read_names
from scr_export.publish.directory.state import State
from scr_export.site import paths
from scr_export.text import printable


class Inventories:
    """An open site. `catalog` has the names in it; defects that show while it is read go to `problems`.

    `state` is None where the site has no notes of an export.
    """

    def __init__(self, site: int, state: State | None, catalog: Catalog[Keep], problems: Problems) -> None:
        self.catalog = catalog
        self._site = site
        self._unreferenced = state.unreferenced if state else {}
        self._problems = problems
        self._images_txt = read_images_txt(site)
        self._reported: set[Absent] = set()

    def of(self, name: RepositoryName) -> Inventory:
        """Read a repository."""
        signed = self.catalog.repository(name).signatures
        return read_inventory(self._site, name, signed, self._unreferenced, self._problems)

    def untagged(self, inventory: Inventory) -> Set[Digest]:
        """Return the images without a tag: by images.txt; without one, all to which no tag and no index leads."""
        if self._images_txt.data is None or self._images_txt.foreign:
            return set(inventory.untagged())
        return set(self._images_txt.untagged.get(inventory.name, ()))

    def is_whole(self, inventory: Inventory, digest: Digest) -> bool:
        """Tell whether all that pulls of a manifest need is there, by name; report each blob that is not."""
        absent = list(inventory.absent(digest))
        for each in absent:
            if each not in self._reported:
                self._reported.add(each)
                path = f"{paths.manifests(inventory.name)}/{inventory.names[each.manifest]}"
                self._problems.fault(path, "missing", f"{each.place} is missing: {each.blob}", AGAIN, "SITE")
        return digest in inventory.manifests and not absent


@contextmanager
def reading_inventories(site: str, problems: Problems) -> Iterator[Inventories]:
    """Open a site. SiteError, SiteLockedError: the text says what the operator has to know."""
    with read_site(site) as (opened, state), reraise_oserror(SiteError, f"read {printable(site)}"):
        yield Inventories(opened, state, read_names(observe(opened)), problems)
