"""What SITE has of images.txt: the file, whose it is, and the signatures beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scr_export.fs.safe import directory_at, read_file
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problems
from scr_export.publish.directory.read import IsWanted
from scr_export.site import paths
from scr_export.site.documents.images_txt import is_own, untagged_in
from scr_export.site.plan import File

_LIMIT = 2**30


@dataclass(frozen=True, slots=True)
class ImagesTxt:
    """The images.txt of a site. `foreign` says why it is none of this program's; it is left alone then.

    `signatures` are the names of the files beside it that sign it, `stale` of those that an export has set aside.
    """

    data: bytes | None = None
    foreign: str = ""
    signatures: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    untagged: Mapping[RepositoryName, Iterable[Digest]] = field(default_factory=dict)

    def mark_untagged(
        self, catalog: Catalog[Keep] | Catalog[File], is_wanted: IsWanted = lambda name, tag, digest: True
    ) -> None:
        """Note in the catalog which of its manifests are images without a tag, as far as they are wanted."""
        for name, digests in self.untagged.items():
            if name in catalog:
                repository = catalog.repository(name)
                present = {manifest.digest for manifest in repository.manifests}
                wanted = (each for each in digests if each in present and is_wanted(name, None, each))
                repository.untagged |= dict.fromkeys(wanted)

    def warn_if_foreign(self, problems: Problems) -> None:
        """Warn of a file that is not this program's."""
        if self.foreign:
            what = f"{self.foreign}, so scr-export did not write it: it is left alone, and the site has no list to sign"
            problems.warning(paths.IMAGES_TXT, "foreign", what, "rename it, then export again", "SITE")

    def warn_if_unsigned(self, problems: Problems) -> None:
        """Warn of a list that was signed before it changed."""
        if self.stale and not self.signatures and self.data is not None and not self.foreign:
            what = f"is unsigned: it has changed since {self.stale[0]} was made, which is in {paths.STATE} now"
            remedy = f"sign it again, or remove {paths.STATE}/{self.stale[0]}"
            problems.warning(paths.IMAGES_TXT, "unsigned", what, remedy, "SITE")

    def warn_of_stale(self, problems: Problems) -> None:
        """Warn that a change of the file makes the signatures beside it stale."""
        for name in self.signatures:
            what = (
                f"signs the {paths.IMAGES_TXT} before this export, and moves to {paths.STATE}: the new one is unsigned"
            )
            problems.warning(name, "unsigned", what, f"sign {paths.IMAGES_TXT} again", "SITE")


def read_images_txt(site: int) -> ImagesTxt:
    """Read the file of a site. A file that cannot be read counts as the operator's."""
    signatures = _files(site)
    stale: tuple[str, ...] = ()
    try:
        with directory_at(paths.STATE, site) as state:
            stale = _files(state)
    except OSError:
        pass  # there is none, or this user may not look into it
    try:
        data, _ = read_file(paths.IMAGES_TXT, site, _LIMIT)
    except FileNotFoundError:
        return ImagesTxt(signatures=signatures, stale=stale)
    except OSError as error:
        return ImagesTxt(foreign=f"cannot be read ({error.strerror})", signatures=signatures, stale=stale)
    except ValueError as error:
        return ImagesTxt(foreign=str(error), signatures=signatures, stale=stale)
    if not is_own(data):
        return ImagesTxt(data, "has lines that are not `DIGEST  NAME:TAG`", signatures, stale)
    return ImagesTxt(data, "", signatures, stale, untagged_in(data))


def _files(directory: int) -> tuple[str, ...]:
    found = []
    for name in paths.IMAGES_TXT_SIGNATURES:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            found.append(name)
    return tuple(found)
