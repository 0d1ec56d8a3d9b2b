"""The form of a bundle: a plain tar of few members, whose names all fit into a ustar header.

receive           the script that puts a bundle into a site
SHA256SUMS        the sum of every other member
PARENT            the sum of the images.txt that the receiver has, or `none`
links             PATH TARGET: every tag, then every link to a list, in publication order
content           SUM  PATH: every file of the site, with its sha256 whatever digest is in its name. Of pages that do
                  not come as a whole directory, only @all
names.tar         the sizes of what `content` lists, and every small file that the receiver lacks; see `Names`
data/sha256:SUM   each blob that the receiver lacks, once

Names inside names.tar are too long for ustar, so it is in GNU's form; it is proven by its sum before it is unpacked.
"""

from __future__ import annotations

import tarfile

RECEIVE, SUMS, PARENT, LINKS, CONTENT, NAMES = "receive", "SHA256SUMS", "PARENT", "links", "content", "names.tar"
DATA = "data/sha256:"
SIZES, PAGES, UNTAGGED = ".scr-export/sizes", ".scr-export/pages", ".scr-export/untagged"
SHORT = 16 * 1024  # what takes less than this in names.tar is sent, also if the receiver can make it; in bytes
NO_PARENT = "none"

BLOCK = 512
_RECORD = 20 * BLOCK
_LARGEST = 8**11  # the first size that eleven octal digits cannot hold


def header(name: str, size: int, mode: int = 0o644) -> bytes:
    """Return the header of a member of a bundle. From 8 GiB on its size is written as GNU tar writes it."""
    info = _info(name, size, mode)
    return info.tobuf(tarfile.USTAR_FORMAT if size < _LARGEST else tarfile.GNU_FORMAT)


def long_header(path: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """Return the header of a member of names.tar, with what goes before it if `path` or `target` is long."""
    info = _info(path, size, 0o777 if kind == tarfile.SYMTYPE else 0o644)
    info.type, info.linkname = kind, target
    return info.tobuf(tarfile.GNU_FORMAT)


def _info(name: str, size: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)  # owner 0:0, no owner's name, time 0
    info.size, info.mode = size, mode
    return info


def padding(size: int) -> bytes:
    """Return what follows so many bytes of a member."""
    return bytes(-size % BLOCK)


def member_size(size: int) -> int:
    """Return what a member with so many bytes takes."""
    return BLOCK + size + -size % BLOCK


def end(size: int) -> bytes:
    """Return what ends an archive of so many bytes: two blocks of zeros, up to the end of a record."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % _RECORD)


def end_of_names() -> bytes:
    """Return what ends names.tar, which lies on no tape."""
    return bytes(2 * BLOCK)
