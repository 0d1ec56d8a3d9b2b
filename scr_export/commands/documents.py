"""The generated files that every site has, for all commands that plan one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from scr_export.site import paths
from scr_export.site.documents.images_txt import images_txt_document
from scr_export.site.documents.index_page import IndexPage
from scr_export.site.documents.listing import listing_documents
from scr_export.site.documents.referrers import referrers_documents
from scr_export.site.plan import Document, fixed_files, kept_file


def documents(
    *, has_foreign_images_txt: bool = False, index_page: IndexPage = IndexPage.WRITTEN
) -> tuple[Document, ...]:
    """Return the documents of a site. An images.txt or index.html of the operator's own is kept as it is."""
    files = _from_package()
    pages = {
        IndexPage.WRITTEN: [fixed_files({paths.INDEX_PAGE: files[paths.INDEX_PAGE]})],
        IndexPage.KEPT: [kept_file(paths.INDEX_PAGE)],
        IndexPage.ABSENT: [],
    }
    snippets = fixed_files({name: files[name] for name in paths.SNIPPETS})
    images_txt = kept_file(paths.IMAGES_TXT) if has_foreign_images_txt else images_txt_document
    return (listing_documents, referrers_documents, snippets, *pages[index_page], images_txt)


@cache
def _from_package() -> Mapping[str, bytes]:
    """What is the same in every site is read from the package, where it lives once."""
    site = resources.files("scr_export.site")
    files = {name: (site / "snippets" / name).read_bytes() for name in paths.SNIPPETS}
    return files | {paths.INDEX_PAGE: (site / "page" / paths.INDEX_PAGE).read_bytes()}
