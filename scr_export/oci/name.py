"""Names of repositories and tags (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from typing import NewType

RepositoryName = NewType("RepositoryName", str)
Tag = NewType("Tag", str)

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# Many clients refuse a longer one, and one component of it must fit into a file name.
_NAME_LENGTH = 255


def repository_name(text: str) -> RepositoryName:
    """The one gate from text; ValueError says what is wrong with it."""
    if len(text) > _NAME_LENGTH:
        raise ValueError(f"the repository name {text!r:.60} has {len(text)} characters, more than {_NAME_LENGTH}")
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r:.300} is not a repository name: components of a-z and 0-9, with single '.', '_', '-' inside"
        )
    return RepositoryName(text)


def tag(text: str) -> Tag:
    """The one gate from text; ValueError says what is wrong with it."""
    if not _TAG.fullmatch(text):
        raise ValueError(
            f"{text!r:.300} is not a tag: up to 128 of A-Z, a-z, 0-9, '_', '.' and '-', the first no '.' or '-'"
        )
    return Tag(text)
