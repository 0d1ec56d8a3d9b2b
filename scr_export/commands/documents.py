"""The generated files that every site has, for all commands that plan one."""

from __future__ import annotations

from functools import cache
from importlib import resources

from scr_export.site import paths
from scr_export.site.documents.listing import listing_documents
from scr_export.site.documents.referrers import referrers_documents
from scr_export.site.plan import Document, fixed_files


@cache
def documents() -> tuple[Document, ...]:
    """Return the documents of a site. The snippets are read from the package, where they live once."""
    snippets = resources.files("scr_export.site") / "snippets"
    fixed = fixed_files({name: (snippets / name).read_bytes() for name in paths.SNIPPETS})
    return (listing_documents, referrers_documents, fixed)
