"""The generated files that every site has, for all commands that plan one."""

from __future__ import annotations

from functools import cache
from importlib import resources

from scr_export.site import paths
from scr_export.site.documents.images_txt import images_txt_document
from scr_export.site.documents.listing import listing_documents
from scr_export.site.documents.referrers import referrers_documents
from scr_export.site.plan import Document, fixed_files, kept_file


@cache
def documents(*, has_foreign_images_txt: bool = False) -> tuple[Document, ...]:
    """Return the documents of a site. The snippets are read from the package, where they live once.

    An images.txt of the operator's own is kept as it is.
    """
    snippets = resources.files("scr_export.site") / "snippets"
    fixed = fixed_files({name: (snippets / name).read_bytes() for name in paths.SNIPPETS})
    images_txt = kept_file(paths.IMAGES_TXT) if has_foreign_images_txt else images_txt_document
    return (listing_documents, referrers_documents, fixed, images_txt)
