from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scr_export.images.content import Content
from scr_export.oci.digest import Digest
from scr_export.oci.name import RepositoryName
from scr_export.oci.taglist import List
from scr_export.site.changes import Change, Changes, Linking, Removal, compare, hold_back
from scr_export.site.observe import Kind, observe
from scr_export.site.pages import directory_name
from scr_export.site.plan import AsServed, Entry, Head, Pages, Plan, Pointer, Text

BLOB = Digest.of(b"blob")
HEAD = f"vnd.oci.image.manifest.v1+json@{Digest.of(b'manifest')}"


TAGS = Pages(List(RepositoryName("app"), ("v1",)))
PAGES = directory_name(TAGS.of)


class Workshop:
    """A site with one image, and the plan that it was made by."""

    def __init__(self, tmp_path: Path) -> None:
        self.site, self.sources = tmp_path / "site", tmp_path / "sources"
        self.sources.mkdir()
        self.blob, self.manifest = self.content("blob"), self.content("manifest")
        self.plan: Plan = {
            "": {"nginx.conf": Text(b"snippet")},
            "v2": {"_catalog": Pointer("_pages/@all")},
            "v2/app/blobs": {BLOB: self.blob},
            "v2/app/manifests": {HEAD: Head(self.manifest), "v1": Pointer(HEAD)},
            "v2/app/referrers": {"@all": Text(b"index")},
            "v2/app/tags": {"list": Pointer("_pages/@all"), "_pages": Pointer(PAGES), PAGES: TAGS},
        }
        self.linking = Linking(self.site_device(tmp_path))
        for directory in ("blobs", f"manifests/{HEAD}", "referrers", f"tags/{PAGES}"):
            (self.site / "v2/app" / directory).mkdir(parents=True)
        os.link(self.sources / "blob", self.site / "v2/app/blobs" / BLOB)
        os.link(self.sources / "manifest", self.site / "v2/app/manifests" / HEAD / HEAD)
        (self.site / "v2/app/manifests/v1").symlink_to(HEAD)
        (self.site / "v2/app/referrers/@all").write_bytes(b"index")
        (self.site / "v2/app/tags/list").symlink_to("_pages/@all")
        (self.site / "v2/app/tags/_pages").symlink_to(PAGES)
        (self.site / "v2/_catalog").symlink_to("_pages/@all")
        (self.site / "nginx.conf").write_bytes(b"snippet")

    @staticmethod
    def site_device(path: Path) -> int:
        return path.stat().st_dev

    def content(self, name: str) -> Content:
        path = self.sources / name
        path.write_text(name)
        path.chmod(0o644)
        return Content.of(Digest.of(name.encode()), name, path.stat())

    def compare(self) -> Changes:
        descriptor = os.open(self.site, os.O_RDONLY)
        try:
            return compare(self.plan, observe(descriptor), self.linking)
        finally:
            os.close(descriptor)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_nothing_differs(workshop: Workshop) -> None:
    changes = workshop.compare()
    assert not changes
    assert (changes.make, changes.remove, changes.keep, changes.waiting) == ([], [], 9, {})


def test_everything_is_new(workshop: Workshop) -> None:
    changes = compare(workshop.plan, (), workshop.linking)
    assert {(change.directory, change.name, change.over) for change in changes.make} == {
        (directory, name, None) for directory, entries in workshop.plan.items() for name in entries
    }
    assert changes.keep == 0


@pytest.mark.parametrize(
    ("directory", "name", "entry"),
    [
        ("v2/app/manifests", "v1", Pointer("other")),
        ("v2/app/referrers", "@all", Text(b"xedni")),  # of the same length
        ("v2/app/referrers", "@all", Text(b"index and more")),
        ("v2/app/referrers", "@all", Text(b"")),
        ("v2/app/tags", "list", Pointer("_pages/@0")),
        ("v2", "_catalog", Pointer("list")),
    ],
)
def test_an_entry_that_changed(workshop: Workshop, directory: str, name: str, entry: Entry) -> None:
    workshop.plan[directory][name] = entry
    [change] = workshop.compare().make
    assert change == Change(directory, name, entry, Kind.LINK if isinstance(entry, Pointer) else Kind.FILE)


@pytest.mark.parametrize("name", ["blob", "manifest"])
def test_an_equal_file_with_another_inode_is_linked_anew(workshop: Workshop, name: str) -> None:
    (workshop.sources / name).rename(workshop.sources / "old")
    content = workshop.content(name)
    if name == "blob":
        workshop.plan["v2/app/blobs"][BLOB] = content
    else:
        workshop.plan["v2/app/manifests"][HEAD] = Head(content)
    [change] = workshop.compare().make
    assert change.over is (Kind.FILE if name == "blob" else Kind.DIRECTORY)


@pytest.mark.parametrize("why", ["device", "mode", "refused"])
def test_where_no_link_can_be_a_copy_is_as_planned(workshop: Workshop, why: str) -> None:
    workshop.site.joinpath("v2/app/blobs", BLOB).unlink()
    workshop.site.joinpath("v2/app/blobs", BLOB).write_text("blob")
    match why:
        case "device":
            workshop.linking = Linking(workshop.linking.device + 1)
            expected = {BLOB: f"v2/app/blobs/{BLOB}", Digest.of(b"manifest"): f"v2/app/manifests/{HEAD}/{HEAD}"}
        case "mode":
            (workshop.sources / "blob").chmod(0o600)
            content = Content.of(BLOB, "blob", (workshop.sources / "blob").stat())
            workshop.plan["v2/app/blobs"][BLOB] = content
            expected = {BLOB: f"v2/app/blobs/{BLOB}"}
        case _:
            workshop.linking = Linking(workshop.linking.device, {workshop.blob.identity})
            expected = {BLOB: f"v2/app/blobs/{BLOB}"}
    changes = workshop.compare()
    assert not changes
    assert changes.copies == expected


@pytest.mark.parametrize("how", ["short", "unreadable"])
def test_a_bad_copy_is_made_again(workshop: Workshop, how: str) -> None:
    workshop.linking = Linking(workshop.linking.device + 1)
    path = workshop.site / "v2/app/blobs" / BLOB
    path.unlink()
    path.write_text("blo" if how == "short" else "blob")
    path.chmod(0o600 if how == "unreadable" else 0o644)
    assert [change.name for change in workshop.compare().make] == [BLOB]


def absent(path: Path) -> None:
    pass


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def file(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("plant", [absent, link, directory, fifo, file])
@pytest.mark.parametrize(
    "path",
    [
        f"v2/app/blobs/{BLOB}",
        "v2/app/manifests/v1",
        f"v2/app/manifests/{HEAD}/{HEAD}",
        "v2/_catalog",
        "v2/app/referrers/@all",
        "nginx.conf",
    ],
)
def test_whatever_stands_in_an_entrys_place_is_replaced(
    workshop: Workshop, path: str, plant: Callable[[Path], None]
) -> None:
    (workshop.site / path).unlink()
    plant(workshop.site / path)
    [change] = workshop.compare().make
    assert f"{change.directory}/{change.name}".strip("/") in path


def test_a_link_in_a_heads_place_is_replaced(workshop: Workshop) -> None:
    head = workshop.site / "v2/app/manifests" / HEAD
    head.rename(workshop.site.parent / "outside")
    head.symlink_to(workshop.site.parent / "outside")
    [change] = workshop.compare().make
    assert (change.name, change.over) == (HEAD, Kind.LINK)


def test_a_directory_that_is_a_link_is_not_looked_into(workshop: Workshop) -> None:
    (workshop.site / "v2/app").rename(workshop.site.parent / "outside")
    (workshop.site / "v2/app").symlink_to(workshop.site.parent / "outside")
    assert len(workshop.compare().make) == 7


def test_what_is_served_is_neither_made_nor_removed(workshop: Workshop) -> None:
    workshop.plan["v2/app/manifests"] = {HEAD: AsServed(), "v1": AsServed(), "gone": AsServed()}
    workshop.plan["v2/gone/manifests"] = {"v1": AsServed()}
    assert not workshop.compare()


def test_what_the_plan_lacks_is_removed_inner_things_first(workshop: Workshop) -> None:
    workshop.plan = {key: workshop.plan[key] for key in ("", "v2")}
    removals = [removal.path for removal in workshop.compare().remove]
    assert sorted(removals) == sorted(
        [
            "v2/app",
            "v2/app/blobs",
            f"v2/app/blobs/{BLOB}",
            "v2/app/manifests",
            f"v2/app/manifests/{HEAD}",
            "v2/app/manifests/v1",
            "v2/app/referrers",
            "v2/app/referrers/@all",
            "v2/app/tags",
            "v2/app/tags/_pages",
            f"v2/app/tags/{PAGES}",
            "v2/app/tags/list",
        ]
    )
    assert all(
        removals.index(inner) < removals.index(outer)
        for inner in removals
        for outer in removals
        if inner.startswith(f"{outer}/")
    )


def test_strangers_are_removed(workshop: Workshop) -> None:
    (workshop.site / "v2/app/blobs/stranger").touch()
    (workshop.site / "v2/stray/deeper").mkdir(parents=True)
    (workshop.site / "v2/app/manifests/link").symlink_to("../../..")
    assert {removal.path for removal in workshop.compare().remove} == {
        "v2/app/blobs/stranger",
        "v2/app/manifests/link",
        "v2/stray",
        "v2/stray/deeper",
    }


@pytest.mark.parametrize("way", ["absent", "_pages@0", "/etc", "directory", "file"])
def test_pages_that_are_not_in_use_are_made_anew(workshop: Workshop, way: str) -> None:
    link = workshop.site / "v2/app/tags/_pages"
    link.unlink()
    match way:
        case "directory":
            link.mkdir()
        case "file":
            link.touch()
        case "_pages@0" | "/etc":
            link.symlink_to(way)
    changes = workshop.compare()
    assert {change.name: change.over for change in changes.make} == {
        "_pages": {"absent": None, "directory": Kind.DIRECTORY, "file": Kind.FILE}.get(way, Kind.LINK),
        PAGES: Kind.DIRECTORY,
    }
    assert changes.remove == []


@pytest.mark.parametrize("plant", [absent, link, fifo, file])
def test_whatever_stands_in_the_place_of_pages_is_replaced(workshop: Workshop, plant: Callable[[Path], None]) -> None:
    path = workshop.site / "v2/app/tags" / PAGES
    path.rmdir()
    plant(path)
    [change] = workshop.compare().make
    assert change.name == PAGES


def test_pages_are_not_looked_into(workshop: Workshop) -> None:
    (workshop.site / "v2/app/tags" / PAGES / "deeper").mkdir()
    assert not workshop.compare()


def test_old_pages_are_removed_as_a_whole(workshop: Workshop) -> None:
    (workshop.site / "v2/app/tags/_pages@0/deeper").mkdir(parents=True)
    (workshop.site / "v2/app/tags/_pages@0/@all").touch()
    [removal] = workshop.compare().remove
    assert (removal.path, removal.is_whole, removal.is_content) == ("v2/app/tags/_pages@0", True, False)


REMOVALS = [
    Removal("v2/app/manifests", "v1", Kind.LINK),
    Removal("v2/app/manifests", HEAD, Kind.DIRECTORY),
    Removal("v2/app/blobs", BLOB, Kind.FILE),
    Removal("v2/app/tags", "list", Kind.FILE),
    Removal("v2/app", "blobs", Kind.DIRECTORY),
    Removal("v2/app", "manifests", Kind.DIRECTORY),
    Removal("v2/app", "tags", Kind.DIRECTORY),
    Removal("v2", "app", Kind.DIRECTORY),
]
CONTENT = [f"v2/app/manifests/{HEAD}", f"v2/app/blobs/{BLOB}"]


@pytest.mark.parametrize(
    ("released", "now", "grace", "waits"),
    [
        ({}, 1000, 0, False),
        ({}, 1000, 900, True),
        (dict.fromkeys(CONTENT, 1000), 1899, 900, True),
        (dict.fromkeys(CONTENT, 1000), 1900, 900, False),
        (dict.fromkeys(CONTENT, 1000), 1001, 0, False),
        (dict.fromkeys(CONTENT, 5000), 1000, 900, True),  # the clock was set back
    ],
)
def test_content_waits_for_pulls_in_flight(released: dict[str, float], now: float, grace: float, waits: bool) -> None:
    changes = Changes(remove=list(REMOVALS))
    hold_back(changes, released, now, grace)
    if waits:
        assert changes.waiting == {path: min(released.get(path, now), now) for path in CONTENT}
        assert [removal.path for removal in changes.remove] == [
            "v2/app/manifests/v1",
            "v2/app/tags/list",
            "v2/app/tags",
        ]
    else:
        assert changes.waiting == {}
        assert changes.remove == REMOVALS


def test_content_that_is_named_again_waits_no_more() -> None:
    changes = Changes()
    hold_back(changes, dict.fromkeys(CONTENT, 1000), 1001, 900)
    assert changes.waiting == {}
