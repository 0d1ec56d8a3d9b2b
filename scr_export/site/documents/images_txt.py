"""images.txt: everything that a site can be pulled for, in one file that can be signed. Pure.

DIGEST  NAME:TAG            a tag
DIGEST  NAME@DIGEST         an image that IMAGES holds without a tag

Lines are sorted, so that two sites with the same images have the same file. A file of this form counts as written by
this program; any other file of this name is the operator's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName, parse_repository_name
from scr_export.oci.repository import Catalog
from scr_export.site import paths
from scr_export.site.entries import Entry, GeneratedFile
from scr_export.site.plan import File, Part

_DIGEST = rb"sha(?:256|384|512):[0-9a-f]{64,128}"
_FORM = re.compile(rb"(?:%b  [a-z0-9][a-z0-9._/-]*(?::[0-9A-Za-z_][0-9A-Za-z._-]*|@%b)\n)*" % (_DIGEST, _DIGEST))
_UNTAGGED = re.compile(rb"^(%b)  ([^:@\n]+)@\1$" % _DIGEST, re.MULTILINE)


def images_txt_document(catalog: Catalog[File]) -> Iterator[Part]:
    """Yield the file at the top of SITE."""

    def entries() -> dict[str, Entry]:
        return {paths.IMAGES_TXT: GeneratedFile(body(catalog))}

    yield Part("", entries)


def body(catalog: Catalog[File]) -> bytes:
    """Return the bytes of the file."""
    return "".join(sorted(_lines(catalog))).encode()


def _lines(catalog: Catalog[File]) -> Iterator[str]:
    for name, repository in catalog.repositories.items():
        for tag, manifest in repository.tags.items():
            yield f"{manifest.digest}  {name}:{tag}\n"
        for digest in repository.untagged:
            yield f"{digest}  {name}@{digest}\n"


def is_own(data: bytes) -> bool:
    """Tell whether a file has the form of this document."""
    return _FORM.fullmatch(data) is not None


def untagged_in(data: bytes) -> dict[RepositoryName, list[Digest]]:
    """Return the images without a tag that a file of this form names."""
    found: defaultdict[RepositoryName, list[Digest]] = defaultdict(list)
    for digest, name in _UNTAGGED.findall(data):
        try:
            found[parse_repository_name(name.decode())].append(Digest.parse(digest.decode()))
        except ValueError:
            continue  # no line of a site; it goes when the file is made anew
    return dict(found)
