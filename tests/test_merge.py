from __future__ import annotations

from collections.abc import Sequence

import pytest

from scr_export.fs.file import SourceFile
from scr_export.images.image import Image, StoredManifest
from scr_export.images.merge import find_clashes, merge
from scr_export.images.naming import parse_path
from scr_export.images.sources import choose_sources
from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import OCI_INDEX, OCI_MANIFEST
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.referrers import Referrer
from scr_export.oci.repository import KEEP, Catalog, Keep, Repository

APP = RepositoryName("app")


def source(what: str, path: str = "", *, is_public: bool = True) -> SourceFile:
    inode = hash(path or what) & 0xFFFFFF
    directory, _, name = (path or what).rpartition("/")
    return SourceFile(Digest.of(what.encode()), directory, name, 1, inode, 1, 1, is_public)


def stored(what: str, path: str, *, children: Sequence[str] = (), is_public: bool = True) -> StoredManifest:
    media_type = OCI_INDEX if children else OCI_MANIFEST
    file = source(what, f"{path}/{what}", is_public=is_public)
    return StoredManifest(
        ManifestName.of(media_type, file.digest), file, tuple(Digest.of(c.encode()) for c in children)
    )


def image(path: str, what: str = "manifest", blobs: str = "", *, is_public: bool = True) -> Image:
    """An image whose manifest and blobs (one for each letter) follow from texts."""
    layers = tuple(source(letter, f"{path}/{letter}", is_public=is_public) for letter in blobs)
    return Image(path, parse_path(path), (stored(what, path, is_public=is_public),), layers)


def merged(*images: Image, retained: Catalog[Keep] | None = None) -> Catalog[SourceFile | Keep]:
    return merge(images, retained or Catalog(), choose_sources(images, set()))


def retained(**repositories: str) -> Catalog[Keep]:
    """Repositories that a site serves, each with its tags, separated by spaces."""
    name = ManifestName.of(OCI_MANIFEST, Digest.of(b"served"))
    catalog: Catalog[Keep] = Catalog()
    for repository, tags in repositories.items():
        found = catalog.repository(RepositoryName(repository.replace("__", "/")))
        found.tags = {Tag(tag): name for tag in tags.split()}
    return catalog


def test_one_file_is_chosen_for_a_digest_over_all_repositories() -> None:
    first, second = image("a/1", blobs="x"), image("b/1", blobs="x")
    catalog = merged(first, second)
    blobs = {first.blobs[0].digest: first.blobs[0]}
    assert [repository.blobs for _, repository in catalog] == [blobs, blobs]
    assert [repository.manifests for _, repository in catalog] == [{first.top.name: first.top.file}] * 2


def test_a_file_that_a_web_server_may_read_is_chosen() -> None:
    private, public = image("a/1", blobs="x", is_public=False), image("b/1", blobs="x")
    for images in ([private, public], [public, private]):
        chosen = choose_sources(images, set())
        assert chosen == {public.top.file.digest: public.top.file, public.blobs[0].digest: public.blobs[0]}
    assert choose_sources([private], set())[private.top.file.digest] == private.top.file


def test_the_file_that_the_site_was_made_from_stays_chosen() -> None:
    new, old = image("a/1", blobs="x"), image("b/1", blobs="x")
    chosen = choose_sources([new, old], {old.blobs[0].identity})
    assert chosen[old.blobs[0].digest] == old.blobs[0]


def test_retained_content_is_merged_with_images() -> None:
    one, kept = image("app/v1", blobs="a"), ManifestName.of(OCI_MANIFEST, Digest.of(b"kept"))
    served: Repository[Keep] = Repository({Tag("v0"): kept, Tag("v1"): kept}, {kept: KEEP}, {Digest.of(b"z"): KEEP})
    catalog = merged(one, retained=Catalog({APP: served, RepositoryName("old"): Repository()}))
    assert catalog.repositories.keys() == {"app", "old"}
    app = catalog.repositories[APP]
    assert app.tags == {"v0": kept, "v1": one.top.name}  # an image replaces what the site has
    assert app.manifests == {kept: KEEP, one.top.name: one.top.file}
    assert app.blobs == {Digest.of(b"z"): KEEP, one.blobs[0].digest: one.blobs[0]}
    assert catalog.tag_count == 2


def test_referrers_of_images_and_retained_ones_are_merged() -> None:
    subject, digests = Digest.of(b"subject"), [Digest.of(b"one"), Digest.of(b"two")]
    one, two = (Referrer(OCI_MANIFEST, digest, 1, None, {}) for digest in digests)
    new = Image("app/1", parse_path("app/1"), (stored("m", "app/1"),), (), ((subject, one),))
    served: Repository[Keep] = Repository(referrers={subject: {two.digest: two}})
    assert merged(new, retained=Catalog({APP: served})).repositories[APP].referrers == {
        subject: {one.digest: one, two.digest: two}
    }


@pytest.mark.parametrize("order", [("A", "E", "B"), ("A", "B", "E")])
def test_an_index_comes_after_the_indexes_that_it_lists(order: tuple[str, ...]) -> None:
    children = {"A": ["E", "B"], "B": ["E"], "E": []}
    manifests = tuple(stored(what, "app/1", children=children[what]) for what in order)
    nested = Image("app/1", parse_path("app/1"), manifests, ())
    names = [name.digest for name in merged(nested).repositories[APP].manifests]
    assert names == [Digest.of(what) for what in (b"E", b"B", b"A")]


def test_indexes_of_several_images_are_ordered_together() -> None:
    outer = Image("app/1", parse_path("app/1"), (stored("A", "app/1", children=["B"]),), ())
    inner = Image("app/2", parse_path("app/2"), (stored("B", "app/2", children=["E"]), stored("E", "app/2")), ())
    names = [name.digest for name in merged(outer, inner).repositories[APP].manifests]
    assert names == [Digest.of(what) for what in (b"E", b"B", b"A")]


def test_indexes_that_list_each_other_end_the_order() -> None:
    circle = (stored("A", "app/1", children=["B"]), stored("B", "app/1", children=["A"]))
    assert len(merged(Image("app/1", parse_path("app/1"), circle, ())).repositories[APP].manifests) == 2


def test_a_tag_claimed_by_two_images_is_a_fault_of_both() -> None:
    same = [image("app/v1"), image("app:v1")]
    assert find_clashes(same, Catalog()) == []
    faults = find_clashes([image("app/v1", "one"), image("app:v1", "two"), image("app/v2", "three")], Catalog())
    assert [(fault.path, fault.code) for fault in faults] == [("app/v1", "tag-clash"), ("app:v1", "tag-clash")]
    assert "app/v1" in faults[1].what
    assert "app:v1" in faults[0].what


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("a/manifests/1", "a/blobs"),
        ("a/manifests/1", "a/manifests"),
        ("a/manifests/1", "a/tags"),
        ("a/manifests/x/1", "a/x"),
        ("a/manifests/x/y/1", "a/x"),
        ("a/tags/list/1", "a/1"),
        ("a/tags/list/y/1", "a/1"),
        ("a/b/manifests/x/1", "a/b/x"),
    ],
)
def test_a_path_needed_as_a_file_and_as_a_directory_is_a_fault(inner: str, outer: str) -> None:
    faults = find_clashes([image(outer), image(inner, "other")], Catalog())
    assert [(fault.path, fault.code) for fault in faults] == [(inner, "path-clash")]
    assert faults[0].remedy


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("a/x", {"a__manifests__x": "1"}),
        ("a/manifests/x/1", {"a": "x"}),
        ("a/manifests/1", {"a": "tags"}),
        ("a/1", {"a__tags__list": ""}),
        ("a/tags/list/1", {"a": ""}),
    ],
)
def test_an_image_that_needs_a_retained_path_is_at_fault(path: str, served: dict[str, str]) -> None:
    faults = find_clashes([image(path)], retained(**served))
    assert [(fault.path, fault.code) for fault in faults] == [(path, "path-clash")]


def test_only_the_image_that_claims_the_tag_is_at_fault() -> None:
    images = [image("a/v1"), image("a/x")]
    faults = find_clashes(images, retained(a__manifests__x="1"))
    assert [fault.path for fault in faults] == ["a/x"]


def test_a_retained_repository_does_not_clash_with_its_own_update() -> None:
    assert find_clashes([image("a/x"), image("a/manifests/z/1")], retained(a="x y")) == []


@pytest.mark.parametrize(
    "paths_of_images",
    [
        ["a/manifests/1", "a/1"],
        ["a/manifests/x/1", "a/y"],
        ["a/manifests/x/1", "b/x"],
        ["a/tags/1", "a/list"],
        ["a/tags/x/1", "a/x"],
        ["a/blobs/1", "a/blobs/blobs"],
        ["a/blobs/x/1", "a/x"],
        ["manifests/x/1", "x/x"],
        ["blobs/blobs", "tags/tags", "manifests/manifests"],
    ],
)
def test_other_paths_do_not_clash(paths_of_images: list[str]) -> None:
    assert find_clashes([image(path) for path in paths_of_images], Catalog()) == []
