"""Lists of references, as people, charts, manifests and other tools write them: one a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scr_export.oci.reference import FullReference

_COMMENT = re.compile(r"(?:^|\s)#.*")
# What is before it can be an item's dash, or the file and the line that grep puts there.
_KEY = re.compile(
    r"""(?:^|.*[\s:{,-])["']?(?P<key>[\w.-]*[iI]mage|name|catalog)["']?\s*:(?:\s+|(?=["'])|$)(?P<value>.*)"""
)
_ITEM = re.compile(r"-\s+(.*)")
_NAMES_NO_IMAGE = re.compile(
    r"""(?:^|.*[\s:-])["']?(?:imagePullPolicy|imagePullSecrets|kind|apiVersion)["']?\s*:.*|[\w.-]+:|-{1,3}|\.\.\."""
)
_TRANSPORT = re.compile(r"(?:docker|oci)://")
_QUOTES = "\"'"
_LONGEST = 8192


class Line(NamedTuple):
    """A reference, the line that it stands in, counted from 1, and how it is written there. `what`: it is none."""

    number: int
    text: str
    reference: FullReference | None
    what: str = ""


def read_references(lines: Iterable[str]) -> Iterator[Line]:
    """Yield the reference of each line that has one.

    A line is a reference, or has one behind a key: `image:`, any that ends so, `catalog:`, or `name:` if the value has
    a slash. Dashes before it, quotes, a comma behind it, `docker://` and comments do not matter. Of
    `SOURCE=DESTINATION`, which oc-mirror writes, it is the source. A key without a value, `kind:`, `apiVersion:` and
    `imagePullPolicy:` name no image.
    """
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST:
            yield Line(number, line.strip()[:_LONGEST], None, f"it has {len(line):,} characters")
            continue
        text = _written(_COMMENT.sub("", line.removeprefix("\ufeff")).strip())
        if not text:
            continue
        try:
            reference = FullReference.parse(_TRANSPORT.sub("", text, count=1))
        except ValueError as error:
            yield Line(number, text, None, str(error))
        else:
            yield Line(number, text, reference)


def _written(line: str) -> str:
    """Return what a line has in the place of a reference; '' if it has nothing there."""
    if match := _KEY.fullmatch(line):
        value = _unquoted(match["value"])
        return "" if match["key"] == "name" and "/" not in value else value
    if match := _ITEM.fullmatch(line):
        line = match[1]
    if _NAMES_NO_IMAGE.fullmatch(line):
        return ""
    return _unquoted(line).partition("=")[0]


def _unquoted(text: str) -> str:
    text = text.strip().removesuffix(",").rstrip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1]
    return text.strip()
