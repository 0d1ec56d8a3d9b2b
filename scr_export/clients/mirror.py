"""The server of a site as clients know it, and the upstream registries that it stands in for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from scr_export.oci.name import RepositoryName, parse_repository_name
from scr_export.oci.reference import HUB

_LABEL = r"[a-z0-9]+(?:-+[a-z0-9]+)*"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_WITH_PORT = re.compile(rf"({_HOST})[_:]([0-9]{{1,5}})")
_NAMED = re.compile(rf"localhost|(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?")
_SERVER = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a web server answers for a site. `address` is HOST or HOST:PORT, as it stands in the name of an image."""

    address: str
    is_secure: bool

    @classmethod
    def parse(cls, url: str) -> Server:
        """Read `http://HOST[:PORT]` or `https://HOST[:PORT]`. ValueError says what is wrong with any other text."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{url!r:.160} does not begin with http:// or https://")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"{url!r:.160} has more than a host and a port: clients ask for /v2/ of a host")
        if "@" in parts.netloc:
            raise ValueError("the URL holds a password: clients have theirs in files of their own, see `docker login`")
        if not _SERVER.fullmatch(parts.netloc.lower()):
            raise ValueError(f"{parts.netloc!r:.160} is no host name or IPv4 address with an optional port")
        _ = parts.port  # ValueError: it is above 65535
        address, is_secure = parts.netloc.lower(), parts.scheme == "https"
        if not _is_registry(address):  # in the name of an image it would be taken for a repository
            address += ":443" if is_secure else ":80"
        return cls(address, is_secure)

    @property
    def url(self) -> str:
        """The URL without a slash at its end."""
        return f"http{'s' * self.is_secure}://{self.address}"


def _is_registry(address: str) -> bool:
    return "." in address or ":" in address or address == "localhost"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A registry that images come from, and the start of their names in the site; '' where names have none.

    `is_signed` tells whether the site has signatures of its images in files of their own.
    """

    host: str
    start: str
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class Mirror:
    """A server with the upstreams that it stands in for, in the order of their names.

    `authority` is the certificate of the authority that the server's own is from, None if hosts know it.
    """

    server: Server
    upstreams: tuple[Upstream, ...]
    authority: bytes | None = None

    @property
    def is_signed(self) -> bool:
        """Whether any image of the site has signatures in files of their own."""
        return any(upstream.is_signed for upstream in self.upstreams)

    @property
    def unscoped_hub(self) -> Upstream | None:
        """Docker Hub, if its images stand at the top of the site: docker's daemon can use a mirror only then."""
        return next((each for each in self.upstreams if each.host == HUB and not each.start), None)


def upstream_of(component: str) -> str | None:
    """Return the registry that the first component of a repository's name stands for. None: it stands for none.

    It does if it is `localhost`, ends in `_PORT`, or has a dot and a last label that begins with a letter.
    """
    if match := _WITH_PORT.fullmatch(component):
        return f"{match[1]}:{match[2]}"
    return component if _NAMED.fullmatch(component) else None


def parse_host(text: str) -> str:
    """Check the name of an upstream registry: HOST or HOST:PORT. ValueError: it is none."""
    if not _SERVER.fullmatch(text) or not _is_registry(text):
        raise ValueError(f"{text!r:.160} is not the host of a registry, like docker.io or registry.example.com:5000")
    return text


@dataclass(frozen=True, slots=True)
class Found:
    """The upstreams of a site, and the repositories that belong to none of them."""

    upstreams: tuple[Upstream, ...]
    unscoped: tuple[RepositoryName, ...]
    elsewhere: int = 0  # repositories that do not begin with the prefix


def find_upstreams(
    names: Iterable[RepositoryName], signed: Iterable[RepositoryName], prefix: str = "", unscoped: str | None = None
) -> Found:
    """Find the upstreams of repositories that begin with `prefix`. `unscoped` is that of images which name none.

    ValueError: the site has the images of one upstream in two places, which no client's configuration can express.
    """
    start = f"{parse_repository_name(prefix)}/" if prefix else ""
    names, with_signatures = sorted(names), set(signed)
    inside = [name.removeprefix(start) for name in names if name.startswith(start)]
    hosts: dict[str, Upstream] = {}
    rest: list[RepositoryName] = []
    for name in inside:
        first, slash, _ = name.partition("/")
        is_signed = f"{start}{name}" in with_signatures
        if slash and (host := upstream_of(first)):
            known = hosts.get(host)
            hosts[host] = Upstream(host, start + first, is_signed or bool(known and known.is_signed))
        else:
            rest.append(RepositoryName(name))
    if unscoped and rest:
        if unscoped in hosts:
            raise ValueError(
                f"{hosts[unscoped].start}/ has images of {unscoped} already, and {rest[0]} would be another of them; "
                "export them to one place, or leave --upstream out"
            )
        is_signed = any(f"{start}{name}" in with_signatures for name in rest)
        hosts[unscoped] = Upstream(unscoped, start.rstrip("/"), is_signed)
        rest = []
    if start:
        _refuse_two_places(hosts, names, start)
    ordered = tuple(hosts[host] for host in sorted(hosts))
    return Found(ordered, tuple(rest), len(names) - len(inside))


def _refuse_two_places(hosts: Iterable[str], names: Iterable[RepositoryName], start: str) -> None:
    # containerd adds `?ns=HOST`, and what HOST/ holds at the top of the site is answered then.
    top = {name.partition("/")[0] for name in names}
    for host in hosts:
        if (first := host.replace(":", "_")) in top:
            raise ValueError(f"the site has {first}/ and {start}{first}/, and clients cannot tell them apart")
