"""index.html: the page for people, the same bytes in every site. Pure.

The first line has the sum of all lines below it. So a page of another version of this program is known as one, and
is replaced. A page that was changed by hand, and any other file of this name, is the operator's.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum, auto

_FIRST_LINE = re.compile(rb"<!doctype html><!-- scr-export index page, sha256 of the lines below: ([0-9a-f]{64}) -->")


class IndexPage(Enum):
    """What a plan does with index.html."""

    WRITTEN = auto()
    KEPT = auto()  # it is the operator's
    ABSENT = auto()


def is_own(data: bytes) -> bool:
    """Tell whether a version of this program wrote a file, and nobody has changed it since."""
    first, _, rest = data.partition(b"\n")
    match = _FIRST_LINE.fullmatch(first)
    return match is not None and match[1].decode() == hashlib.sha256(rest).hexdigest()
