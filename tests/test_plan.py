from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scr_export.images.content import Content
from scr_export.images.reference import parse_path
from scr_export.images.skopeo_dir import Image, StoredManifest
from scr_export.oci.digest import Digest
from scr_export.oci.mediatype import OCI_MANIFEST
from scr_export.oci.name import RepositoryName, Tag
from scr_export.oci.referrers import Referrer, Referrers
from scr_export.site import paths
from scr_export.site.pages import directory_name
from scr_export.site.plan import AsServed, Head, Pages, Plan, Pointer, Served, Text, choose, clashes, plan_site

SUBTYPE = "vnd.oci.image.manifest.v1+json"


def content(what: str, path: str = "", *, readable: bool = True) -> Content:
    digest = Digest.of(what.encode())
    return Content(digest, path or what, device=1, inode=hash(path) & 0xFFFF, size=1, mtime=1, readable=readable)


def image(path: str, what: str = "manifest", blobs: str = "", *, readable: bool = True) -> Image:
    """An image whose manifest and blobs (one for each letter) follow from texts."""
    manifest = StoredManifest(OCI_MANIFEST, content(what, f"{path}/manifest.json", readable=readable))
    layers = tuple(content(letter, f"{path}/{letter}", readable=readable) for letter in blobs)
    return Image(path, parse_path(path), (manifest,), layers)


def entries(plan: Plan, directory: str, name: str = "list") -> tuple[str | None, list[str]]:
    """The name and the entries of the list that two links lead to."""
    assert plan[directory][name] == Pointer("_pages/@all")
    way = plan[directory]["_pages"]
    assert isinstance(way, Pointer)
    pages = plan[directory][way.target]
    assert isinstance(pages, Pages)
    assert way.target == directory_name(pages.of)
    return pages.of.name, list(pages.of.entries)


def referrers(plan: Plan, directory: str) -> dict[str, list[str]]:
    """The digests in each list of referrers."""
    found = {}
    for name, entry in plan[directory].items():
        assert isinstance(entry, Text)
        found[name] = [each["digest"] for each in json.loads(entry.data)["manifests"]]
    return found


def test_the_whole_plan_of_one_image() -> None:
    one = image("team/app:v1", blobs="ab")
    head = f"{SUBTYPE}@{one.digest}"
    plan = plan_site([one], {})
    assert plan.keys() == {"", "v2", "v2/team/app/blobs", "v2/team/app/manifests", "v2/team/app/tags"}
    assert plan["v2/team/app/blobs"] == {each.digest: each for each in one.blobs}
    assert plan["v2/team/app/manifests"] == {head: Head(one.manifests[0].content), "v1": Pointer(head)}
    assert entries(plan, "v2/team/app/tags") == ("team/app", ["v1"])
    assert entries(plan, "v2", "_catalog") == (None, ["team/app"])
    assert len(plan["v2"]) == len(plan["v2/team/app/tags"]) == 3
    assert plan[""] == {name: Text(paths.snippet(name)) for name in ("nginx.conf", "Caddyfile")}


def test_lists_are_in_the_order_of_ascii() -> None:
    plan = plan_site([image(f"app/{tag}") for tag in ("a", "B", "_", "10", "9", "a.b", "a-b")] + [image("a-b/x")], {})
    assert entries(plan, "v2/app/tags") == ("app", ["10", "9", "B", "_", "a", "a-b", "a.b"])
    assert entries(plan, "v2", "_catalog") == (None, ["a-b", "app"])


def test_a_digest_without_a_tag_is_a_repository_without_tags() -> None:
    digest = Digest.of(b"manifest")
    plan = plan_site([image(f"app@{digest}")], {})
    assert plan["v2/app/manifests"].keys() == {f"{SUBTYPE}@{digest}"}
    assert entries(plan, "v2/app/tags") == ("app", [])
    assert entries(plan, "v2", "_catalog") == (None, ["app"])


def test_one_file_for_a_digest_over_all_repositories() -> None:
    first, second = image("a/1", blobs="x"), image("b/1", blobs="x")
    plan = plan_site([first, second], {})
    assert plan["v2/a/blobs"] == plan["v2/b/blobs"] == {first.blobs[0].digest: first.blobs[0]}
    assert plan["v2/b/manifests"][f"{SUBTYPE}@{first.digest}"] == Head(first.manifests[0].content)


def test_the_file_that_a_server_may_read_is_chosen() -> None:
    private, public = image("a/1", blobs="x", readable=False), image("b/1", blobs="x")
    for images in ([private, public], [public, private]):
        chosen = choose(images)
        assert chosen == {public.digest: public.manifests[0].content, public.blobs[0].digest: public.blobs[0]}
    assert choose([private])[private.digest] == private.manifests[0].content


def test_what_is_served_stays() -> None:
    name, other = RepositoryName("app"), RepositoryName("old")
    served = {
        name: Served(tags={Tag("v0")}, heads={"head"}, blobs={Digest.of(b"a"), Digest.of(b"z")}),
        other: Served(tags={Tag("v9")}),
    }
    one = image("app/v1", blobs="a")
    plan = plan_site([one], served)
    assert plan["v2/app/blobs"] == {one.blobs[0].digest: one.blobs[0], Digest.of(b"z"): AsServed()}
    assert plan["v2/app/manifests"]["v0"] == plan["v2/app/manifests"]["head"] == AsServed()
    assert entries(plan, "v2/app/tags") == ("app", ["v0", "v1"])
    assert entries(plan, "v2/old/tags") == ("old", ["v9"])
    assert entries(plan, "v2", "_catalog") == (None, ["app", "old"])


SUBJECT = Digest.of(b"subject")


def referring(what: str, artifact_type: str | None) -> Referrers:
    digest = Digest.of(what.encode())
    return {SUBJECT: {digest: Referrer(OCI_MANIFEST, digest, 1, artifact_type, {})}}


def test_what_refers_to_a_digest_is_listed_whole_and_by_type() -> None:
    one = replace(image("app/1", "one"), referrers=referring("one", "application/vnd.x+json"))
    two = replace(image("app/2", "two"), referrers=referring("two", "text/x"))
    odd = replace(image("app/3", "odd"), referrers=referring("odd", "../x"))
    none = replace(image("app/4", "none"), referrers=referring("none", None))
    plan = plan_site([one, two, odd, none], {})
    everything = sorted(Digest.of(what) for what in (b"one", b"two", b"odd", b"none"))
    assert referrers(plan, f"v2/app/referrers/{SUBJECT}") == {
        "@all": everything,
        "application@vnd.x@json": [Digest.of(b"one")],
        "text@x@": [Digest.of(b"two")],
    }
    assert plan_site([odd, two, none, one], {}) == plan


def test_what_refers_is_told_in_its_own_repository() -> None:
    one = replace(image("app/1", "one"), referrers=referring("one", None))
    plan = plan_site([one, image("other/1", "subject")], {})
    assert [directory for directory in plan if "/referrers/" in directory] == [f"v2/app/referrers/{SUBJECT}"]


def test_what_is_served_still_refers() -> None:
    one = replace(image("app/1", "one"), referrers=referring("one", "text/x"))
    kept = Served(tags={Tag("old")}, referrers=referring("old", "text/x"))
    plan = plan_site([one], {RepositoryName("app"): kept})
    both = sorted([Digest.of(b"one"), Digest.of(b"old")])
    assert referrers(plan, f"v2/app/referrers/{SUBJECT}") == {"@all": both, "text@x@": both}


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
def test_a_type_that_one_can_ask_for_is_a_name_of_a_file(text: str, name: str | None) -> None:
    assert paths.artifact_type(text) == name
    assert name is None or len(name) < 250


def test_an_image_of_now_is_not_kept_as_it_was() -> None:
    plan = plan_site([image("app/v1")], {RepositoryName("app"): Served(tags={Tag("v1")})})
    assert isinstance(plan["v2/app/manifests"]["v1"], Pointer)


def test_one_tag_claimed_by_two() -> None:
    same = [image("app/v1"), image("app:v1")]
    assert clashes(same, {}) == []
    faults = clashes([image("app/v1", "one"), image("app:v1", "two"), image("app/v2", "three")], {})
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
def test_a_path_wanted_as_a_file_and_as_a_directory(inner: str, outer: str) -> None:
    faults = clashes([image(outer), image(inner, "other")], {})
    assert [(fault.path, fault.code) for fault in faults] == [(inner, "path-clash")]
    assert faults[0].remedy


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("a/x", {"a/manifests/x": Served(tags={Tag("1")})}),
        ("a/manifests/x/1", {"a": Served(tags={Tag("x")})}),
        ("a/manifests/1", {"a": Served(tags={Tag("tags")})}),
        ("a/1", {"a/tags/list": Served()}),
        ("a/tags/list/1", {"a": Served()}),
    ],
)
def test_what_is_served_clashes_with_an_image(path: str, served: dict[RepositoryName, Served]) -> None:
    assert [(fault.path, fault.code) for fault in clashes([image(path)], served)] == [(path, "path-clash")]


def test_what_is_served_does_not_clash_with_its_own_renewal() -> None:
    served = {RepositoryName("a"): Served(tags={Tag("x"), Tag("y")})}
    assert clashes([image("a/x"), image("a/manifests/z/1")], served) == []


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
def test_paths_that_do_not_clash(paths_of_images: list[str]) -> None:
    assert clashes([image(path) for path in paths_of_images], {}) == []


@pytest.mark.parametrize(
    ("directory", "name", "is_blob", "is_head"),
    [
        ("v2/a/blobs", Digest.of(b""), True, False),
        ("v2/a/blobs", "sha256:x", False, False),
        ("v2/a/manifests", f"{SUBTYPE}@{Digest.of(b'')}", False, True),
        ("v2/a/manifests", f"vnd.other+json@{Digest.of(b'')}", False, False),
        ("v2/a/manifests", f"../{SUBTYPE}@{Digest.of(b'')}", False, False),
        ("v2/a/manifests", "v1", False, False),
        ("v2/a/tags", Digest.of(b""), False, False),
    ],
)
def test_names_in_a_site(directory: str, name: str, is_blob: bool, is_head: bool) -> None:
    assert (paths.is_blob(directory, name), paths.is_head(directory, name)) == (is_blob, is_head)
