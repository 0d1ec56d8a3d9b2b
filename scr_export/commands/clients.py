"""`scr-export clients SITE DIRECTORY`: read which upstreams a site has, and write configuration for its clients."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from scr_export.clients.files import client_files
from scr_export.clients.mirror import Found, Mirror, Server, find_upstreams
from scr_export.errors import SiteError, UsageError, reraise_oserror
from scr_export.problems import Problems
from scr_export.publish.directory.lock import read_site
from scr_export.publish.directory.observe import observe
from scr_export.publish.directory.read import read_names
from scr_export.publish.plain import other_files, write_files
from scr_export.report import SCHEMA, Result, problems_as_dict
from scr_export.site import paths
from scr_export.text import count, printable

_NAMED = 3  # so many repositories are named in one message
_BEGINNING = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsOptions:
    """What configuration is written for.

    `site` and `directory` are paths, `server` is where the site is served. `authority` is a file with the certificate
    of the server's authority. `upstream` is the registry of images that name none, `prefix` what the export put before
    every name.
    """

    site: str
    directory: str
    server: Server
    authority: str | None = None
    upstream: str | None = None
    prefix: str = ""


@dataclass(slots=True)
class ClientsReport(Result):
    """Which files were written, `unchanged` how many were right already, `upstreams` the hosts that they are for."""

    directory: str
    upstreams: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    problems: Problems = field(default_factory=Problems)

    @property
    def details(self) -> Sequence[str]:
        """A line for each file that was written."""
        return [f"+ {path}" for path in self.written]

    def as_json(self) -> str:
        """Return one JSON document."""
        document = {
            "schema": SCHEMA,
            "directory": self.directory,
            "upstreams": self.upstreams,
            "written": self.written,
            "unchanged": self.unchanged,
        }
        return json.dumps(document | problems_as_dict(self.problems), indent=2)

    def __str__(self) -> str:
        upstreams = ", ".join(self.upstreams) or "no upstream"
        return (
            f"{printable(self.directory)}: {count(len(self.written), 'file')} written, {self.unchanged} unchanged\n"
            f"  for      {upstreams}\n"
            f"  read     {printable(os.path.join(self.directory, 'README.md'))}"
        )


def write_clients(options: ClientsOptions) -> ClientsReport:
    """Write configuration for the clients of a site, and report it.

    UsageError, SiteError, SiteLockedError: the text says what the operator has to know.
    """
    _refuse_overlap(options)
    authority = _read_authority(options)
    report = ClientsReport(options.directory)
    found = _find(options)
    mirror = Mirror(options.server, found.upstreams, authority)
    _report_unscoped(found, options, report)
    files = client_files(mirror)
    with reraise_oserror(SiteError, f"write {printable(options.directory)}"):
        report.written = write_files(options.directory, files)
        left = other_files(options.directory, files)
    report.unchanged = len(files) - len(report.written)
    report.upstreams = [upstream.host for upstream in found.upstreams]
    if left:
        what = f"{count(len(left), 'file')} of DIRECTORY are not from this run, the first: {left[0]}"
        path = os.path.abspath(os.path.join(options.directory, left[0]))  # it lies in neither IMAGES nor SITE
        report.problems.warning(path, "left-over", what, "remove what you do not know", "SITE")
    return report


def _find(options: ClientsOptions) -> Found:
    with read_site(options.site) as (site, _):
        catalog = read_names(observe(site))
    names = [name for name, _ in catalog]
    signed = [name for name, repository in catalog if repository.signatures]
    try:
        found = find_upstreams(names, signed, options.prefix, options.upstream)
    except ValueError as error:
        raise UsageError(f"{printable(options.site)}: {error}") from None
    if len(names) == found.elsewhere:
        what = f"no repository begins with {options.prefix}/" if options.prefix else "it has no repository"
        raise UsageError(f"{printable(options.site)}: {what}")
    if any(upstream.host == options.server.address for upstream in found.upstreams):
        raise UsageError(
            f"--url: {options.server.address} is itself a registry that images of the site are from; "
            "give the server another name"
        )
    return found


def _report_unscoped(found: Found, options: ClientsOptions, report: ClientsReport) -> None:
    if not found.unscoped:
        return
    named = ", ".join(found.unscoped[:_NAMED])
    more = f" and {len(found.unscoped) - _NAMED:,} more" if len(found.unscoped) > _NAMED else ""
    start = f"{options.prefix}/" if options.prefix else ""
    what = f"names no registry, nor do others: {named}{more}; clients pull these by {options.server.address}/NAME only"
    remedy = "if they are from one registry, name it by --upstream"
    path = f"{paths.REGISTRY}/{start}{found.unscoped[0]}"
    report.problems.warning(path, "unscoped", what, remedy, "SITE")


def _read_authority(options: ClientsOptions) -> bytes | None:
    if options.authority is None:
        return None
    if not options.server.is_secure:
        raise UsageError("--ca-file is for an https:// URL")
    with (
        reraise_oserror(UsageError, f"read --ca-file {printable(options.authority)}"),
        open(options.authority, "rb") as file,
    ):
        data = file.read(2**20)
    if _BEGINNING not in data or not data.isascii():
        raise UsageError(f"--ca-file {printable(options.authority)}: holds no certificate in PEM (BEGIN CERTIFICATE)")
    if b"PRIVATE KEY" in data:
        raise UsageError(f"--ca-file {printable(options.authority)}: holds a private key; give the certificate alone")
    return data


def _refuse_overlap(options: ClientsOptions) -> None:
    if not options.directory:
        raise UsageError("DIRECTORY must not be empty")
    site, directory = os.path.realpath(options.site), os.path.realpath(options.directory)
    if directory == site:
        raise UsageError("SITE and DIRECTORY are the same directory")
    for own in (paths.REGISTRY, paths.STATE):
        if f"{directory}/".startswith(f"{site}/{own}/"):
            raise UsageError(f"DIRECTORY lies inside SITE/{own}, which is scr-export's own")
