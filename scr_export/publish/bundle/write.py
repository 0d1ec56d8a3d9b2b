"""Write a bundle. Blobs are hashed while they go out: of a damaged one no end of the archive follows."""

from __future__ import annotations

from collections.abc import Callable

from scr_export.publish.bundle import form
from scr_export.publish.bundle.assemble import Bundle
from scr_export.publish.bundle.output import Output
from scr_export.publish.directory.prove import ProvenContent


def write_bundle(output: Output, bundle: Bundle, content: ProvenContent, advance: Callable[[int], None]) -> None:
    """Write all members and blobs. DamagedSiteError: a blob is not what its digest says."""
    for member in bundle.members:
        output.write(form.header(member.name, member.size, member.mode))
        for piece in member.pieces:
            output.write(piece)
        output.write(form.padding(member.size))
    for blob in bundle.blobs:
        output.write(form.header(f"{form.DATA}{blob.sum}", blob.blob.size))
        for piece in content.read(blob.digest, blob.blob):
            output.write(piece)
            advance(len(piece))
        output.write(form.padding(blob.blob.size))
    output.write(form.end(output.size))
