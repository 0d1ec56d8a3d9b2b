"""Read what one repository of a site holds. Of blobs only the configs of images are opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from contextlib import suppress

from scr_export.fs.safe import read_file
from scr_export.oci.digest import Digest
from scr_export.oci.inventory import Inventory
from scr_export.oci.name import ManifestName, RepositoryName
from scr_export.oci.platform import SIZE_LIMIT, platform_of_config, platforms_of_index
from scr_export.oci.signature import SIZE_LIMIT as SIGNATURE_LIMIT
from scr_export.oci.signature import SignatureFormat
from scr_export.problems import Problems
from scr_export.publish.directory.observe import Directory, observe_one
from scr_export.publish.directory.read import manifests_in, parse_manifest, signatures_in, tags_in
from scr_export.site import paths
from scr_export.site.entries import Kind

AGAIN = "export again, or carry the site over again"


def read_inventory(
    site: int, name: RepositoryName, signed: Iterable[Digest], unreferenced: Container[str], problems: Problems
) -> Inventory:
    """Read a repository of a site. A manifest that cannot be read is a fault, and left out.

    `signed` are the manifests with signatures in files of their own, `unreferenced` the paths of content in its grace
    period. OSError: a directory cannot be listed.
    """
    inventory = Inventory(name)
    with suppress(FileNotFoundError), observe_one(site, paths.manifests(name)) as directory:
        inventory.tags = tags_in(directory)
        for each in manifests_in(directory):
            if f"{directory.path}/{each}" not in unreferenced:
                inventory.names[each.digest] = each
                _read_manifest(directory, each, inventory, problems)
        _report_dangling(inventory, directory.path, problems)
    with suppress(FileNotFoundError), observe_one(site, paths.blobs(name)) as directory:
        files = (entry for entry, observed in directory.entries.items() if observed.kind is Kind.FILE)
        inventory.blobs = {Digest(entry) for entry in files if paths.is_digest(entry)}
        _read_configs(directory, inventory)
    inventory.signatures = {subject: _formats(site, name, subject) for subject in signed}
    return inventory


def _read_manifest(directory: Directory, name: ManifestName, inventory: Inventory, problems: Problems) -> None:
    path = f"{directory.path}/{name}"
    try:
        raw = directory.manifest(name)
        manifest = parse_manifest(raw, name)
    except OSError as error:
        problems.fault(path, "unreadable", f"cannot be read: {error.strerror}", AGAIN, "SITE")
        return
    except ValueError as error:
        problems.fault(path, "manifest", str(error), AGAIN, "SITE")
        return
    inventory.manifests[name.digest] = manifest
    if name.is_index:
        for child, platform in platforms_of_index(raw):
            inventory.add_platform(child, platform)


def _report_dangling(inventory: Inventory, path: str, problems: Problems) -> None:
    for tag, name in inventory.tags.items():
        if name.digest not in inventory.names:
            problems.fault(f"{path}/{tag}", "tag", "leads to no manifest", AGAIN, "SITE")


def _read_configs(blobs: Directory, inventory: Inventory) -> None:
    for manifest, config in list(inventory.needs_config()):
        with suppress(OSError, ValueError):  # an absent one is reported where its image is
            raw, _ = read_file(config, blobs.descriptor, SIZE_LIMIT)
            inventory.add_platform(manifest, platform_of_config(raw))


def _formats(site: int, name: RepositoryName, subject: Digest) -> Counter[SignatureFormat]:
    """Count the signatures of a manifest. Clients refuse what has none of the formats, and so it counts as nothing."""
    found: Counter[SignatureFormat] = Counter()
    with suppress(OSError), observe_one(site, paths.signatures(name, subject)) as directory:
        for entry in signatures_in(directory.entries):
            with suppress(OSError, ValueError):
                if known := SignatureFormat.of(read_file(entry, directory.descriptor, SIGNATURE_LIMIT)[0]):
                    found[known] += 1
    return found
