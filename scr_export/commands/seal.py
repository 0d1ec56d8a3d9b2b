"""Answer an export from the seal of the site, where nothing has changed since an export that had nothing to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import zip_longest

import scr_export
from scr_export.commands.options import ExportOptions
from scr_export.fs.file import COARSEST_CLOCK
from scr_export.fs.safe import DIRECTORY_FLAGS, open_untouched
from scr_export.fs.stamps import Stamps, sums
from scr_export.images.discover import is_of_the_system
from scr_export.images.signatures import Signed
from scr_export.problems import Problem
from scr_export.progress import counted
from scr_export.publish.directory.seal import Facts, read_seal, seal_of, stamps_of_site
from scr_export.report import Report
from scr_export.site import paths


class Seal:
    """The seal that fits these options and trees. `images` and `site` are open; None: there is no site."""

    def __init__(self, options: ExportOptions, images: int, site: int | None) -> None:
        self._options = options
        self._images = images
        self._site = site
        self._began = time.time_ns()
        self._sums: list[str] | None = None  # of both trees, where no seal was there to compare them with
        self._newest = 0
        self.is_broken = False

    def report(self) -> Report | None:
        """Return what an export would report. None: something has changed, or the site is not sealed.

        Stamps are taken before an export reads anything: what changes later differs from them. They are taken up to the
        first difference from a seal, since an export that finds one has most likely something to do.
        """
        if self._site is None:
            return None
        noted, stamps = read_seal(self._site), Stamps()
        found = sums(counted(self._texts(self._site, stamps), "looking for changes", "directory"))
        with suppress(OSError):
            os.stat(paths.REGISTRY, dir_fd=self._site)  # a first export has nothing to compare
            if noted is None:
                self._sums, self._newest = list(found), stamps.newest
                return None
            if all(one == other for one, other in zip_longest(found, noted[0])):
                return self._report_of(noted[1])
        self.is_broken = noted is not None
        return None

    def _report_of(self, facts: Facts) -> Report:
        report = Report(site=self._options.site, dry_run=self._options.dry_run)
        report.images, report.repositories, report.tags, report.size, report.unchanged, cosign, simple = facts["counts"]
        report.signed = Signed(cosign, simple)
        report.problems.extend(Problem(**each) for each in facts["warnings"])
        return report

    def seal(self, report: Report) -> bytes | None:
        """Seal what an export has reported that had nothing to do. None: it may have missed a change."""
        # What changes within one tick of the clock keeps its stamp.
        if self._sums is None or report.problems.faults or self._newest + COARSEST_CLOCK >= self._began:
            return None
        counts = [report.images, report.repositories, report.tags, report.size, report.unchanged]
        counts += [report.signed.cosign, report.signed.simple]
        warnings = [asdict(each) for each in report.problems.warnings]
        return seal_of(self._sums, {"counts": counts, "warnings": warnings})

    def _texts(self, site: int, stamps: Stamps) -> Iterator[str]:
        """Yield a text for everything that an export follows from, IMAGES first, where most changes are."""
        options = self._options
        user = os.geteuid(), os.getegid(), os.getgroups()
        asked = options.prefix, options.verify_digests, options.prune, options.index_page
        yield repr((user, options.images, options.site, *asked))
        yield from stamps.of_tree(self._images, lambda name: not is_of_the_system(name), follow=True)
        yield from stamps_of_site(site, stamps)
        yield from _stamps_of_program(stamps)


def _stamps_of_program(stamps: Stamps) -> Iterator[str]:
    """Yield the stamps of this program's own files: another version may know more rules."""
    package = os.path.dirname(scr_export.__file__)
    try:
        directory = open_untouched(package, DIRECTORY_FLAGS)
    except NotADirectoryError:  # it runs from one archive
        directory = open_untouched(os.path.dirname(os.path.dirname(package)), DIRECTORY_FLAGS)
        try:
            yield from stamps.of_files(directory, [os.path.basename(os.path.dirname(package))])
        finally:
            os.close(directory)
        return
    try:
        yield from stamps.of_tree(directory, lambda name: name != "__pycache__", follow=False)
    finally:
        os.close(directory)
