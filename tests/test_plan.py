from __future__ import annotations

import json

import pytest

from scr_export.commands.documents import documents
from scr_export.fs.file import SourceFile
from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import OCI_INDEX, OCI_MANIFEST
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.referrers import Referrer
from scr_export.oci.repository import KEEP, Catalog, Repository
from scr_export.site import paths
from scr_export.site.documents.listing import directory_name
from scr_export.site.entries import Entry, GeneratedFile, ManifestDirectory, PagesDirectory, Symlink, walk_order
from scr_export.site.paths import Part, Place
from scr_export.site.plan import File, plan
from scr_export.site.plan import Part as PlannedPart
from scr_export.site.roles import Role, role_of

APP = RepositoryName("app")
SUBJECT = Digest.of(b"subject")
NAME = ManifestName.of(OCI_MANIFEST, Digest.of(b"manifest"))
INDEX = ManifestName.of(OCI_INDEX, Digest.of(b"index"))


def source(what: str) -> SourceFile:
    return SourceFile(Digest.of(what.encode()), "", what, device=1, inode=1, size=1, mtime=1, is_public=True)


def catalog(**repositories: Repository[File]) -> Catalog[File]:
    return Catalog({RepositoryName(name.replace("__", "/")): each for name, each in repositories.items()})


def tagged(*tags: str) -> Repository[File]:
    return Repository(tags={Tag(tag): NAME for tag in tags}, manifests={NAME: source("manifest")})


def planned(of: Catalog[File]) -> dict[str, dict[str, Entry]]:
    return {path: dict(entries) for path, entries in plan(of, documents())}


def entries(of: dict[str, dict[str, Entry]], directory: str, name: str = "list") -> tuple[str | None, list[str]]:
    """The name and the entries of the list that two links lead to."""
    assert of[directory][name] == Symlink("_pages/@all")
    link = of[directory]["_pages"]
    assert isinstance(link, Symlink)
    pages = of[directory][link.target]
    assert isinstance(pages, PagesDirectory)
    assert link.target == directory_name(pages.listing)
    return pages.listing.name, list(pages.listing.entries)


def test_one_image_gives_the_whole_plan() -> None:
    blobs: dict[Digest, File] = {file.digest: file for file in map(source, "ab")}
    repository = tagged("v1")
    repository.blobs = blobs
    whole = planned(catalog(team__app=repository))
    assert whole.keys() == {"", "v2", "v2/team/app/blobs", "v2/team/app/manifests", "v2/team/app/tags"}
    assert whole["v2/team/app/blobs"] == blobs
    assert whole["v2/team/app/manifests"] == {NAME: ManifestDirectory(source("manifest")), "v1": Symlink(NAME)}
    assert entries(whole, "v2/team/app/tags") == ("team/app", ["v1"])
    assert entries(whole, "v2", "_catalog") == (None, ["team/app"])
    assert len(whole["v2"]) == len(whole["v2/team/app/tags"]) == 3
    assert whole[""].keys() == {"nginx.conf", "Caddyfile", "index.html", "images.txt"}


def test_lists_are_in_ascii_order() -> None:
    whole = planned(Catalog({APP: tagged("a", "B", "_", "10", "9", "a.b", "a-b"), RepositoryName("a-b"): tagged("x")}))
    assert entries(whole, "v2/app/tags") == ("app", ["10", "9", "B", "_", "a", "a-b", "a.b"])
    assert entries(whole, "v2", "_catalog") == (None, ["a-b", "app"])


def test_a_repository_without_tags_has_an_empty_list() -> None:
    whole = planned(catalog(app=tagged()))
    assert whole["v2/app/manifests"].keys() == {NAME}
    assert entries(whole, "v2/app/tags") == ("app", [])
    assert entries(whole, "v2", "_catalog") == (None, ["app"])


def test_retained_content_is_planned_as_keep() -> None:
    kept: Repository[File] = Repository({Tag("v0"): INDEX}, {INDEX: KEEP}, {Digest.of(b"z"): KEEP})
    whole = planned(catalog(app=kept))
    assert whole["v2/app/blobs"] == {Digest.of(b"z"): KEEP}
    assert whole["v2/app/manifests"] == {INDEX: KEEP, "v0": Symlink(INDEX)}
    assert entries(whole, "v2/app/tags") == ("app", ["v0"])


def referrer(what: str, artifact_type: str | None) -> Referrer:
    return Referrer(OCI_MANIFEST, Digest.of(what.encode()), 1, artifact_type, {})


def test_referrers_are_listed_together_and_by_type() -> None:
    types = {"one": "application/vnd.x+json", "two": "text/x", "odd": "../x", "none": None}
    referring = [referrer(what, artifact_type) for what, artifact_type in types.items()]
    repository = tagged("v1")
    repository.referrers = {SUBJECT: {each.digest: each for each in referring}}
    found = {}
    for name, entry in planned(catalog(app=repository, other=tagged("1")))[f"v2/app/referrers/{SUBJECT}"].items():
        assert isinstance(entry, GeneratedFile)
        found[name] = [each["digest"] for each in json.loads(entry.data)["manifests"]]
    assert found == {
        "@all": sorted(each.digest for each in referring),
        "application@vnd.x@json": [Digest.of(b"one")],
        "text@x@": [Digest.of(b"two")],
    }


def test_directories_are_planned_in_walk_order() -> None:
    nested = catalog(a=tagged("1"), a__b=tagged("1"), a__manifests__x=tagged("1"), a__z=tagged("1"), b=tagged("1"))
    order = [directory.path for directory in plan(nested, documents())]
    assert order == sorted(order, key=walk_order)
    assert order[-2:] == ["v2", ""]
    assert order.index("v2/a/manifests/x/tags") < order.index("v2/a/manifests") < order.index("v2/a/z/manifests")


def test_entries_of_several_documents_are_merged_into_one_directory() -> None:
    def more(of: Catalog[File]) -> list[PlannedPart]:
        return [PlannedPart("v2", lambda: {"_more": Symlink("x")})]

    whole = dict(plan(catalog(app=tagged("1")), (*documents(), more)))
    assert {"_catalog", "_pages", "_more"} < whole["v2"].keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("application/vnd.oci.image.config.v1+json", "application@vnd.oci.image.config.v1@json"),
        ("text/plain", "text@plain@"),
        ("a/b", "a@b@"),
        ("A1._-/b_.-+c.d-e_", "A1._-@b_.-@c.d-e_"),
        (f"{'a' * 64}/{'b' * 120}+{'c' * 60}", f"{'a' * 64}@{'b' * 120}@{'c' * 60}"),
        *(
            (text, None)
            for text in ("", "/", "a", "a/", "/b", "a/b/c", "a/b+", "a/b+c+d", "../..", "a/..", "./b", "a/.b")
        ),
        *(
            (text, None)
            for text in ("a/b\n", "a/b\0", "\na/b", "a b/c", "a/b;c=d", "a/@", "a@/b", "@all", "\xe4/b", "a/b\u0664")
        ),
        *((text, None) for text in (f"{'a' * 65}/b", f"a/{'b' * 121}", f"a/b+{'c' * 61}", "a/*", "*/b", "~/b", "-a/b")),
    ],
)
def test_a_type_that_clients_can_filter_by_is_a_file_name(text: str, name: str | None) -> None:
    assert paths.artifact_type(text) == name
    assert name is None or len(name) < 250


@pytest.mark.parametrize(
    ("directory", "name", "role"),
    [
        ("v2/a/blobs", Digest.of(b""), Role.BLOB),
        ("v2/a/blobs", "sha256:x", Role.OTHER),
        ("v2/a/manifests", NAME, Role.MANIFEST),
        ("v2/a/manifests", INDEX, Role.INDEX),
        ("v2/a/manifests", f"vnd.other+json@{Digest.of(b'')}", Role.OTHER),
        ("v2/a/manifests", f"../{NAME}", Role.OTHER),
        ("v2/a/manifests", "v1", Role.TAG),
        ("v2/a/manifests", ".v1.Ab12Cd", Role.OTHER),
        ("v2/a/tags", Digest.of(b""), Role.OTHER),
        ("v2/a/tags", "list", Role.LIST),
        ("v2/a/tags", "_pages", Role.LIST),
        ("v2/a/tags", "_pages@0", Role.LIST_PAGE),
        (f"v2/a/referrers/{SUBJECT}", "@all", Role.REFERRERS),
        (f"v2/a/referrers/{SUBJECT}", "stray", Role.OTHER),
        ("v2", "_catalog", Role.CATALOG),
        ("v2", "_pages", Role.CATALOG),
        ("v2", "_pages@0", Role.LIST_PAGE),
        ("v2", "list", Role.OTHER),
        ("", "nginx.conf", Role.SNIPPET),
        ("", "README", Role.OTHER),
    ],
)
def test_each_path_has_a_role(directory: str, name: str, role: Role) -> None:
    assert role_of(directory, name) is role


@pytest.mark.parametrize(
    ("directory", "place"),
    [
        ("v2/app/blobs", Place(APP, Part.BLOBS)),
        ("v2/app/manifests", Place(APP, Part.MANIFESTS)),
        ("v2/app/tags", Place(APP, Part.TAGS)),
        (f"v2/app/referrers/{SUBJECT}", Place(APP, Part.REFERRERS)),
        ("v2/app/blobs/tags", Place(RepositoryName("app/blobs"), Part.TAGS)),
        ("v2/app/referrers/x", Place()),
        ("v2/app", Place()),
        ("v2/blobs", Place()),
        ("v2/_app/blobs", Place()),
        ("app/blobs", Place()),
        ("v2", Place()),
        ("", Place()),
    ],
)
def test_each_directory_has_a_place(directory: str, place: Place) -> None:
    assert paths.place(directory) == place
