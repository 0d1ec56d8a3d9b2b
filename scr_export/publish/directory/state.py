"""What one export notes for the next, in SITE/.scr-export. Never served.

format      marks a site of this program, and the version of its layout
lock        held by the kernel while a run writes the site; its text names the holder
state.json  since when content is unreferenced, and which files could not be linked
verified    the files whose bytes were found to have their digest, a line each
seal        how IMAGES and SITE were when an export had nothing to do: see seal.py
tmp/        unfinished files
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace

from scr_export.fs.file import IDENTITY_SIZE
from scr_export.fs.safe import directory_at, read_file
from scr_export.publish.directory.tree import Tree
from scr_export.site import paths

_LIMIT = 2**31
_UNUSABLE = (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
PRIVATE_MODE = 0o600


@dataclass(slots=True)
class State:
    """What the last export noted. To lose it costs time only: files are hashed again, and grace periods begin anew.

    The sets hold `SourceFile.identity`: `verified` of files whose bytes have their digest, `link_refused` of files of
    IMAGES that the system does not link, `copied` of files of the site that were copied although IMAGES and SITE are on
    one file system, since two mounts of it lay between them, `linked` of files of IMAGES that were chosen unverified.
    """

    verified: set[bytes] = field(default_factory=set)
    unreferenced: dict[str, float] = field(default_factory=dict)  # path in SITE -> seconds since 1970
    link_refused: set[bytes] = field(default_factory=set)
    copied: set[bytes] = field(default_factory=set)
    linked: set[bytes] = field(default_factory=set)
    noted_at: int = 0  # when the last export that changed the site had ended, in nanoseconds since 1970

    @classmethod
    def load(cls, site: int) -> State:
        """Read the state of a site. It is empty where there is none that can be read."""
        state = cls()
        with contextlib.suppress(OSError, ValueError), directory_at(paths.STATE, site) as directory:
            state.verified = _parse(read_file("verified", directory, _LIMIT)[0].decode())
        with contextlib.suppress(*_UNUSABLE), directory_at(paths.STATE, site) as directory:
            data, status = read_file("state.json", directory, _LIMIT)
            noted = json.loads(data)
            state.unreferenced = {str(path): float(since) for path, since in noted["unreferenced"].items()}
            state.link_refused = _parse(noted["link_refused"])
            state.copied = _parse(noted["copied"])
            state.linked = _parse(noted["linked"])
            state.noted_at = status.st_mtime_ns
        return state

    def save(self, tree: Tree, before: State, *, is_changed: bool) -> None:
        """Write what differs from `before`. Where the site `is_changed`, the time of that is noted too."""
        self.save_verified(tree, before)
        ours, theirs = ((s.unreferenced, s.link_refused, s.copied, s.linked) for s in (self, before))
        if ours != theirs or is_changed or not before.noted_at:
            noted = {
                "unreferenced": self.unreferenced,
                "link_refused": _hexadecimal(self.link_refused, " "),
                "copied": _hexadecimal(self.copied, " "),
                "linked": _hexadecimal(self.linked, " "),
            }
            tree.write(json.dumps(noted).encode() + b"\n", paths.STATE, "state.json", mode=PRIVATE_MODE)

    def save_verified(self, tree: Tree, before: State) -> None:
        """Write which files were verified, if that differs from `before`."""
        if self.verified != before.verified:
            lines = _hexadecimal(self.verified, "\n")
            tree.write(f"{lines}\n".encode(), paths.STATE, "verified", mode=PRIVATE_MODE)


def forget_verified(site: int, state: State, damaged: set[bytes]) -> None:
    """Note that files are not verified after all. A user who may not write the state changes nothing."""
    remaining = replace(state, verified=state.verified - damaged)
    with contextlib.suppress(OSError), Tree(site, images=site) as tree:
        remaining.save_verified(tree, state)


def _hexadecimal(identities: set[bytes], separator: str) -> str:
    """Return identities as one text: there are many, and as many objects would take several times their size."""
    return b"".join(sorted(identities)).hex(separator, IDENTITY_SIZE)


def _parse(text: str) -> set[bytes]:
    """Read that text; ValueError, TypeError: it is none. The separators are white space."""
    data = bytes.fromhex(text)
    return {data[start : start + IDENTITY_SIZE] for start in range(0, len(data), IDENTITY_SIZE)}
