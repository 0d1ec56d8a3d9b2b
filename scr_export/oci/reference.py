"""References: a repository and a tag or a digest in it (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag, parse_repository_name, parse_tag

HUB = "docker.io"
_HUB_ALIAS = "index.docker.io"
_OFFICIAL = "library/"
_LATEST = "latest"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Reference(NamedTuple):
    """What a client pulls an image by. Without a tag it is pulled by its digest alone."""

    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None = None  # required of the manifest

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class FullReference:
    """A reference with its registry, as docker, containerd and podman complete what people write.

    With a digest, the tag says nothing: clients ignore it. `written` is the name as it stood there, without tag and
    digest.
    """

    host: str
    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None
    written: str

    @classmethod
    def parse(cls, text: str) -> FullReference:
        """Read `[HOST/]NAME[:TAG][@DIGEST]`. ValueError says what is wrong with any other text.

        The first component is a host if it has a dot, a colon or a capital letter, or is `localhost`. Without a host
        the registry is Docker Hub, where names of one component lie below `library/`. Without tag and digest the tag
        is `latest`.
        """
        rest, at, stated = text.partition("@")
        digest = Digest.parse(stated) if at else None
        above, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        written = f"{above}{slash}{last}"
        if colon:
            parse_tag(tag)
        host, name = _split(written)
        if host == HUB and "/" not in name:
            name = _OFFICIAL + name
        return cls(
            host,
            parse_repository_name(name),
            None if digest else Tag(tag or _LATEST),
            digest,
            written,
        )

    @property
    def official(self) -> str | None:
        """The short name of an image of Docker Hub that has one."""
        is_official = self.host == HUB and self.repository.startswith(_OFFICIAL)
        return self.repository.removeprefix(_OFFICIAL) if is_official else None


def _split(written: str) -> tuple[str, str]:
    first, slash, rest = written.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost" or first != first.lower()):
        return HUB, written
    if not _HOST.fullmatch(first):
        raise ValueError(f"{first!r:.160} is not the host of a registry")
    host = first.lower()
    return (HUB if host == _HUB_ALIAS else host), rest
