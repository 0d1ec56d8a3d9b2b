"""The two directories that an export is given: refuse what cannot be meant, and open them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from scr_export.commands.options import ExportOptions
from scr_export.errors import UsageError, reraise_oserror
from scr_export.fs.safe import DIRECTORY_FLAGS, open_untouched
from scr_export.images.discover import discover
from scr_export.images.other_kinds import is_site
from scr_export.images.place import quoted
from scr_export.problems import Problems
from scr_export.publish.directory.lock import lock_site, open_site
from scr_export.text import printable


def refuse_overlap(options: ExportOptions) -> None:
    """Refuse directories that are missing words, equal, or inside each other. UsageError says which."""
    if not options.images or not options.site:
        raise UsageError("IMAGES and SITE must not be empty")
    images, site = os.path.realpath(options.images), os.path.realpath(options.site)
    if images == site:
        raise UsageError("IMAGES and SITE are the same directory")
    for inner, outer, what in ((site, images, "SITE lies inside IMAGES"), (images, site, "IMAGES lies inside SITE")):
        if inner.startswith(outer.rstrip("/") + "/"):
            raise UsageError(f"{what}; keep them side by side")


@contextmanager
def open_images(options: ExportOptions) -> Iterator[int]:
    """Open IMAGES for reading. UsageError: it cannot be opened, or it is a site."""
    path = options.images
    try:
        with reraise_oserror(UsageError, f"open IMAGES {printable(path)}"):
            descriptor = open_untouched(path, DIRECTORY_FLAGS)
    except UsageError:
        _refuse_swapped(options)
        raise
    try:
        if is_site(descriptor):
            _refuse_swapped(options)
            copy = printable(f"cp -a {quoted(path)} {quoted(options.site)}")
            raise UsageError(f"IMAGES {printable(path)} is a site of scr-export; to have another like it: {copy}")
        if not os.listdir(descriptor):
            _refuse_swapped(options)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_swapped(options: ExportOptions) -> None:
    """Say so if SITE holds images, as it does where the two arguments are swapped."""
    try:
        site = open_untouched(options.site, DIRECTORY_FLAGS)
    except OSError:
        return
    try:
        holds_images = not is_site(site) and next(discover(site, Problems(), []), None) is not None
    finally:
        os.close(site)
    if holds_images:
        command = printable(f"scr-export {quoted(options.site)} {quoted(options.images)}")
        raise UsageError(f"SITE {printable(options.site)} holds images: are the arguments swapped? {command}")


@contextmanager
def open_destination(options: ExportOptions) -> Iterator[int | None]:
    """Open SITE, locked against other runs; in a dry run only for reading. None: it does not exist."""
    if options.dry_run:
        with open_site(options.site) as site:
            yield site
    else:
        with lock_site(options.site) as site:
            yield site
