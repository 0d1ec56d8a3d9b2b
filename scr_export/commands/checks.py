"""What only all images together, or IMAGES and SITE together, can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scr_export.commands.options import RemovalLimit
from scr_export.images import remedies
from scr_export.images.image import Image
from scr_export.images.naming import FaultyReferences, names_no_tag
from scr_export.images.place import Arguments, Place
from scr_export.oci.manifest import SIZE_LIMIT
from scr_export.oci.repository import Catalog, Keep
from scr_export.problems import Problems
from scr_export.site.compare import TagChange
from scr_export.site.documents.referrers import long_lists
from scr_export.site.plan import File
from scr_export.text import count

_NAMED = 10  # so many tags are named in one message


def report_untagged(problems: Problems, image_count: int, arguments: Arguments) -> None:
    """Say once that every image lies directly in IMAGES. One that hides others has that fault alone."""
    nested = {fault.path for fault in problems.faults if fault.code == "nested"}
    found = {fault for fault in problems.faults if fault.code == "name" and names_no_tag(fault.path)}
    untagged = [fault for fault in problems.faults if fault in found and fault.path not in nested]
    problems.faults = [fault for fault in problems.faults if fault not in found or fault.path not in nested]
    if not untagged or len(untagged) < image_count:
        return
    problems.faults = [fault for fault in problems.faults if fault not in found]
    what = f"holds images without a tag, {untagged[0].path!r:.160} for one: is it the directory of one repository?"
    parent = remedies.give_parent(Place("", arguments), 1)
    problems.fault("", "name", what, f"{parent}, or name the tag: {untagged[0].remedy}")


def report_empty_directories(empty: Iterable[str], served: Catalog[Keep], prefix: str, problems: Problems) -> None:
    """An empty directory from which the site serves tags is rather a disk that is not mounted."""
    for path in empty:
        below = FaultyReferences([path], prefix)
        tags = sum(
            below.has(name, tag, manifest.digest)
            for name, repository in served
            for tag, manifest in repository.tags.items()
        )
        if tags:
            what = f"is empty, but SITE serves {count(tags, 'tag')} from it: is a disk not mounted?"
            problems.fault(path, "empty", what, "mount it; to remove these tags, remove the directory")


def warn_of_long_lists(
    catalog: Catalog[File], images: Sequence[Image], arguments: Arguments, problems: Problems
) -> None:
    """Warn of lists of referrers of which clients read only the start."""
    for name, subject, size in long_lists(catalog):
        candidates = [
            (referrer.descriptor_size, image.path)
            for image in images
            if image.reference.repository == name
            for each, referrer in image.referrers
            if each == subject
        ]
        largest = max(candidates, default=(0, ""))[1]
        what = f"the list of what refers to {name}@{subject} has {size:,} bytes, and clients read {SIZE_LIMIT:,} of it"
        remedy = f"take away the largest of its entries: {remedies.move_out(Place(largest, arguments))}"
        problems.warning(largest, "referrers", what, remedy)


def report_removals(changes: Sequence[TagChange], served: int, limit: RemovalLimit, problems: Problems) -> bool:
    """Report a fault if more tags of the `served` ones would go than the operator allows. Returns whether it did."""
    removed = [f"{each.repository}:{each.tag}" for each in changes if each.after is None]
    if limit.allows(len(removed), served):
        return False
    more = f" and {len(removed) - _NAMED:,} more" if len(removed) > _NAMED else ""
    what = (
        f"{count(len(removed), 'tag')} of {served:,} would be removed, more than --max-remove {limit}: "
        f"{', '.join(removed[:_NAMED])}{more}"
    )
    remedy = "if IMAGES is complete, run once with a larger --max-remove; --dry-run names every tag"
    problems.fault("", "max-remove", what, remedy, "SITE")
    return True
