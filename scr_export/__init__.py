"""Turn a directory of skopeo images into a pull-only container registry of plain files.

    from scr_export import ExportOptions, export, verify

    report = export(ExportOptions(images="./images", site="./site"))
    print(report.tags, "tags")
    assert not verify("./site").problems.faults

What stops a call is a ScrExportError, whose text is made for the operator; its `problems` are those that were found.
Warnings, and faults that did not stop the call, are in `problems` of a report.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "BucketError",
    "BucketLockedError",
    "BundleError",
    "DamagedSiteError",
    "ExportOptions",
    "ImagesError",
    "PackOptions",
    "PackReport",
    "Problem",
    "Problems",
    "PushOptions",
    "PushReport",
    "RemovalLimit",
    "Report",
    "ScrExportError",
    "SiteError",
    "SiteLockedError",
    "UsageError",
    "VerifyReport",
    "__version__",
    "export",
    "pack",
    "push",
    "verify",
]

if TYPE_CHECKING:
    from scr_export.commands.export import export
    from scr_export.commands.options import ExportOptions, RemovalLimit
    from scr_export.commands.pack import PackOptions, PackReport, pack
    from scr_export.commands.push import PushOptions, PushReport, push
    from scr_export.commands.verify import VerifyReport, verify
    from scr_export.errors import (
        BucketError,
        BucketLockedError,
        BundleError,
        DamagedSiteError,
        ImagesError,
        ScrExportError,
        SiteError,
        SiteLockedError,
        UsageError,
    )
    from scr_export.problems import Problem, Problems
    from scr_export.report import Report


def __getattr__(name: str) -> Any:
    # Imported when first used: the command line must be able to take a signal before it has loaded anything.
    from importlib import import_module

    for module in (
        "commands.export",
        "commands.options",
        "commands.pack",
        "commands.push",
        "commands.verify",
        "errors",
        "problems",
        "report",
    ):
        if name in __all__ and hasattr(found := import_module(f"scr_export.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
