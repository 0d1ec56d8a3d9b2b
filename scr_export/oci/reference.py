"""References: a repository and a tag or a digest in it (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

from typing import NamedTuple

from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, Tag


class Reference(NamedTuple):
    """What a client pulls an image by. Without a tag it is pulled by its digest alone."""

    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None = None  # required of the manifest

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"
