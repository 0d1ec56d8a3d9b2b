"""SITE as a destination: what can go wrong while it is written, and what the next run has to know."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from scr_export.errors import SiteError, reason
from scr_export.fs.file import SourceFile
from scr_export.fs.hashing import ignore
from scr_export.publish.directory.files import KnownFiles
from scr_export.publish.directory.lock import is_marked, mark
from scr_export.publish.directory.publish import Transfer, publish
from scr_export.publish.directory.seal import SEAL
from scr_export.publish.directory.state import PRIVATE_MODE, State
from scr_export.publish.directory.tree import SourceChangedError, Tree
from scr_export.site import paths
from scr_export.site.compare import Changes
from scr_export.text import printable


class Destination:
    """SITE, open and locked; `images` is IMAGES, open for reading. The two paths are for messages."""

    def __init__(self, site: int, images: int, site_path: str, images_path: str) -> None:
        self._site = site
        self._images = images
        self._site_path = printable(site_path)
        self._images_path = printable(images_path)

    def apply(self, changes: Changes, files: KnownFiles, advance: Callable[[int], None] = ignore) -> Transfer:
        """Apply changes; `advance` is called with the bytes of content that is placed.

        SiteError: SITE cannot be written, or a file of IMAGES changed since it was verified.
        """
        with self._writing() as tree:
            if paths.REGISTRY not in os.listdir(self._site):
                self._refuse_poor_filesystem(tree)
            if not is_marked(self._site):
                mark(tree)
            return publish(tree, changes, files, advance)

    def save(self, state: State, before: State, *, is_changed: bool) -> None:
        """Note what the next run has to know, as far as it differs from `before` or the site `is_changed`."""
        with self._writing() as tree:
            state.save(tree, before, is_changed=is_changed)

    def save_seal(self, seal: bytes | None) -> None:
        """Write the seal of a site to which nothing was done; what cannot be written is lost."""
        if seal:
            with suppress(OSError), Tree(self._site, self._images) as tree:
                tree.write(seal, paths.STATE, SEAL, overwrite=False, mode=PRIVATE_MODE)

    def break_seal(self) -> None:
        """Remove the seal of a site that has changed, so that the next export takes all stamps."""
        with suppress(OSError), Tree(self._site, self._images) as tree:
            tree.remove(paths.STATE, SEAL)

    def note_verified(self, verified: set[bytes], before: State) -> None:
        """Note which files were verified by a run that ends early; what cannot be written is lost."""
        if verified == before.verified:
            return
        with suppress(OSError), Tree(self._site, self._images) as tree:
            if not is_marked(self._site):
                mark(tree)
            replace(before, verified=verified).save_verified(tree, before)

    def can_link(self, source: SourceFile) -> bool:
        """Try whether a file of IMAGES can have another name in SITE now."""
        with self._writing() as tree:
            return tree.can_link(source)

    @contextmanager
    def _writing(self) -> Iterator[Tree]:
        try:
            with Tree(self._site, self._images) as tree:
                yield tree
        except SourceChangedError as error:
            path = f"{self._images_path}/{printable(str(error))}"
            raise SiteError(f"{path}: changed while it was exported; run again") from None
        except OSError as error:
            raise SiteError(f"{self._site_path}: cannot be written: {reason(error)}") from error

    def _refuse_poor_filesystem(self, tree: Tree) -> None:
        try:
            tree.try_names()
        except FileExistsError:
            raise SiteError(
                f"{self._site_path}: its file system takes upper and lower case for the same; tags need both"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            raise SiteError(
                f"{self._site_path}: its file system lacks symbolic links or ':' in names ({error.strerror})"
            ) from error
