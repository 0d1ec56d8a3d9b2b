from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scr_export.fs.file import SourceFile
from scr_export.oci.digest import Digest
from scr_export.oci.listing import Listing
from scr_export.oci.name import ManifestName, RepositoryName, Tag
from scr_export.oci.repository import KEEP
from scr_export.publish.directory.files import KnownFiles
from scr_export.publish.directory.observe import observe
from scr_export.site.compare import Change, Changes, Removal, TagChange, apply_grace_period, compare
from scr_export.site.documents.listing import directory_name
from scr_export.site.entries import (
    Entry,
    GeneratedFile,
    Kind,
    ManifestDirectory,
    PagesDirectory,
    PlannedDirectory,
    Symlink,
    walk_order,
)
from scr_export.site.roles import Role, role_of

BLOB = Digest.of(b"blob")
MANIFEST = ManifestName(f"vnd.oci.image.manifest.v1+json@{Digest.of(b'manifest')}")
OTHER = ManifestName(f"vnd.oci.image.index.v1+json@{Digest.of(b'other')}")
SUBJECT = "v2/app/referrers/" + Digest.of(b"subject")


TAGS = PagesDirectory(Listing(RepositoryName("app"), ("v1",)))
PAGES = directory_name(TAGS.listing)


class Workshop:
    """A site with one image, and the plan that it was made by."""

    def __init__(self, tmp_path: Path) -> None:
        self.site, self.sources = tmp_path / "site", tmp_path / "sources"
        self.sources.mkdir()
        self.blob, self.manifest = self.content("blob"), self.content("manifest")
        self.plan: dict[str, dict[str, Entry]] = {
            "": {"nginx.conf": GeneratedFile(b"snippet")},
            "v2": {"_catalog": Symlink("_pages/@all")},
            "v2/app/blobs": {BLOB: self.blob},
            "v2/app/manifests": {MANIFEST: ManifestDirectory(self.manifest), "v1": Symlink(MANIFEST)},
            SUBJECT: {"@all": GeneratedFile(b"index")},
            "v2/app/tags": {"list": Symlink("_pages/@all"), "_pages": Symlink(PAGES), PAGES: TAGS},
        }
        self.files = KnownFiles(site=-1, device=tmp_path.stat().st_dev, verified=set(), hash_unknown=False)
        for directory in ("blobs", f"manifests/{MANIFEST}", f"tags/{PAGES}"):
            (self.site / "v2/app" / directory).mkdir(parents=True)
        (self.site / SUBJECT).mkdir(parents=True)
        (self.site / "v2/app/tags" / PAGES / "@all").touch()
        os.link(self.sources / "blob", self.site / "v2/app/blobs" / BLOB)
        os.link(self.sources / "manifest", self.site / "v2/app/manifests" / MANIFEST / MANIFEST)
        (self.site / "v2/app/manifests/v1").symlink_to(MANIFEST)
        (self.site / SUBJECT / "@all").write_bytes(b"index")
        (self.site / "v2/app/tags/list").symlink_to("_pages/@all")
        (self.site / "v2/app/tags/_pages").symlink_to(PAGES)
        (self.site / "v2/_catalog").symlink_to("_pages/@all")
        (self.site / "nginx.conf").write_bytes(b"snippet")

    def content(self, name: str) -> SourceFile:
        path = self.sources / name
        path.write_text(name)
        path.chmod(0o644)
        return SourceFile.of(Digest.of(name.encode()), "", name, path.stat())

    def planned(self) -> list[PlannedDirectory]:
        return [PlannedDirectory(path, self.plan[path]) for path in sorted(self.plan, key=walk_order)]

    def compare(self) -> Changes:
        descriptor = os.open(self.site, os.O_RDONLY)
        try:
            self.files.site = descriptor
            return compare(self.planned(), observe(descriptor), self.files)
        finally:
            os.close(descriptor)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_an_equal_site_gives_no_changes(workshop: Workshop) -> None:
    changes = workshop.compare()
    assert not changes
    assert (changes.make, changes.remove, changes.unchanged, changes.tags) == ([], [], 9, [])


def test_a_new_site_gets_every_entry(workshop: Workshop) -> None:
    changes = compare(workshop.planned(), (), workshop.files)
    assert {(change.directory, change.name, change.replaces) for change in changes.make} == {
        (directory, name, None) for directory, entries in workshop.plan.items() for name in entries
    }
    assert changes.unchanged == 0


@pytest.mark.parametrize(
    ("directory", "name", "entry"),
    [
        ("v2/app/manifests", "v1", Symlink(OTHER)),
        (SUBJECT, "@all", GeneratedFile(b"xedni")),  # of the same length
        (SUBJECT, "@all", GeneratedFile(b"index and more")),
        (SUBJECT, "@all", GeneratedFile(b"")),
        ("v2/app/tags", "list", Symlink("_pages/@0")),
        ("v2", "_catalog", Symlink("list")),
    ],
)
def test_a_changed_entry_is_replaced(workshop: Workshop, directory: str, name: str, entry: Entry) -> None:
    workshop.plan[directory][name] = entry
    [change] = workshop.compare().make
    kind = Kind.LINK if isinstance(entry, Symlink) else Kind.FILE
    assert change == Change(directory, name, entry, role_of(directory, name), kind)


@pytest.mark.parametrize("name", ["blob", "manifest"])
def test_an_equal_file_with_another_inode_is_linked_again(workshop: Workshop, name: str) -> None:
    (workshop.sources / name).rename(workshop.sources / "old")
    content = workshop.content(name)
    if name == "blob":
        workshop.plan["v2/app/blobs"][BLOB] = content
    else:
        workshop.plan["v2/app/manifests"][MANIFEST] = ManifestDirectory(content)
    [change] = workshop.compare().make
    assert change.replaces is (Kind.FILE if name == "blob" else Kind.DIRECTORY)


@pytest.mark.parametrize("why", ["device", "mode", "refused"])
def test_a_copy_is_unchanged_where_no_link_is_possible(workshop: Workshop, why: str) -> None:
    workshop.site.joinpath("v2/app/blobs", BLOB).unlink()
    workshop.site.joinpath("v2/app/blobs", BLOB).write_text("blob")
    match why:
        case "device":
            workshop.files.device += 1
            expected = {BLOB: f"v2/app/blobs/{BLOB}", Digest.of(b"manifest"): f"v2/app/manifests/{MANIFEST}/{MANIFEST}"}
        case "mode":
            (workshop.sources / "blob").chmod(0o600)
            content = SourceFile.of(BLOB, "", "blob", (workshop.sources / "blob").stat())
            workshop.plan["v2/app/blobs"][BLOB] = content
            expected = {BLOB: f"v2/app/blobs/{BLOB}"}
        case _:
            workshop.files.link_refused = {workshop.blob.identity}
            expected = {BLOB: f"v2/app/blobs/{BLOB}"}
    changes = workshop.compare()
    assert not changes
    assert changes.copies == expected


@pytest.mark.parametrize("how", ["short", "unreadable"])
def test_a_damaged_copy_is_copied_again(workshop: Workshop, how: str) -> None:
    workshop.files.device += 1
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
        f"v2/app/manifests/{MANIFEST}/{MANIFEST}",
        "v2/_catalog",
        f"{SUBJECT}/@all",
        "nginx.conf",
    ],
)
def test_an_entry_replaces_every_kind_of_file(workshop: Workshop, path: str, plant: Callable[[Path], None]) -> None:
    (workshop.site / path).unlink()
    plant(workshop.site / path)
    [change] = workshop.compare().make
    assert f"{change.directory}/{change.name}".strip("/") in path


def test_a_manifest_directory_replaces_a_symlink(workshop: Workshop) -> None:
    directory = workshop.site / "v2/app/manifests" / MANIFEST
    directory.rename(workshop.site.parent / "outside")
    directory.symlink_to(workshop.site.parent / "outside")
    [change] = workshop.compare().make
    assert (change.name, change.replaces) == (MANIFEST, Kind.LINK)


def test_a_symlink_to_a_directory_is_not_followed(workshop: Workshop) -> None:
    (workshop.site / "v2/app").rename(workshop.site.parent / "outside")
    (workshop.site / "v2/app").symlink_to(workshop.site.parent / "outside")
    assert len(workshop.compare().make) == 7


def test_retained_entries_are_neither_added_nor_removed(workshop: Workshop) -> None:
    workshop.plan["v2/app/manifests"] = {MANIFEST: KEEP, "v1": KEEP, "gone": KEEP}
    workshop.plan["v2/gone/manifests"] = {"v1": KEEP}
    assert not workshop.compare()


def test_entries_outside_the_plan_are_removed_deepest_first(workshop: Workshop) -> None:
    workshop.plan = {key: workshop.plan[key] for key in ("", "v2")}
    removals = [removal.path for removal in workshop.compare().remove]
    assert sorted(removals) == sorted(
        [
            "v2/app",
            "v2/app/blobs",
            f"v2/app/blobs/{BLOB}",
            "v2/app/manifests",
            f"v2/app/manifests/{MANIFEST}",
            "v2/app/manifests/v1",
            "v2/app/referrers",
            SUBJECT,
            f"{SUBJECT}/@all",
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


def test_files_of_other_programs_are_removed(workshop: Workshop) -> None:
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
def test_unused_pages_are_written_again(workshop: Workshop, way: str) -> None:
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
    assert {change.name: change.replaces for change in changes.make} == {
        "_pages": {"absent": None, "directory": Kind.DIRECTORY, "file": Kind.FILE}.get(way, Kind.LINK),
        PAGES: Kind.DIRECTORY,
    }
    assert changes.remove == []


@pytest.mark.parametrize("plant", [absent, link, fifo, file])
def test_pages_replace_every_kind_of_file(workshop: Workshop, plant: Callable[[Path], None]) -> None:
    path = workshop.site / "v2/app/tags" / PAGES
    (path / "@all").unlink()
    path.rmdir()
    plant(path)
    [change] = workshop.compare().make
    assert change.name == PAGES


def test_pages_are_not_compared_one_by_one(workshop: Workshop) -> None:
    (workshop.site / "v2/app/tags" / PAGES / "deeper").mkdir()
    assert not workshop.compare()


def test_old_pages_are_removed_as_a_whole(workshop: Workshop) -> None:
    (workshop.site / "v2/app/tags/_pages@0/deeper").mkdir(parents=True)
    (workshop.site / "v2/app/tags/_pages@0/@all").touch()
    [removal] = workshop.compare().remove
    assert (removal.path, removal.is_opaque, removal.role) == ("v2/app/tags/_pages@0", True, Role.LIST_PAGE)


REMOVALS = [
    Removal("v2/app/manifests", "v1", Kind.LINK, role_of("v2/app/manifests", "v1")),
    Removal("v2/app/manifests", MANIFEST, Kind.DIRECTORY, role_of("v2/app/manifests", MANIFEST)),
    Removal("v2/app/blobs", BLOB, Kind.FILE, role_of("v2/app/blobs", BLOB)),
    Removal("v2/app/tags", "list", Kind.FILE, role_of("v2/app/tags", "list")),
    Removal("v2/app", "blobs", Kind.DIRECTORY, role_of("v2/app", "blobs")),
    Removal("v2/app", "manifests", Kind.DIRECTORY, role_of("v2/app", "manifests")),
    Removal("v2/app", "tags", Kind.DIRECTORY, role_of("v2/app", "tags")),
    Removal("v2", "app", Kind.DIRECTORY, role_of("v2", "app")),
]
CONTENT = [f"v2/app/manifests/{MANIFEST}", f"v2/app/blobs/{BLOB}"]


@pytest.mark.parametrize(
    ("unreferenced", "now", "grace", "waits"),
    [
        ({}, 1000, 0, False),
        ({}, 1000, 900, True),
        (dict.fromkeys(CONTENT, 1000), 1899, 900, True),
        (dict.fromkeys(CONTENT, 1000), 1900, 900, False),
        (dict.fromkeys(CONTENT, 1000), 1001, 0, False),
        (dict.fromkeys(CONTENT, 5000), 1000, 900, True),  # the clock was set back
    ],
)
def test_unreferenced_content_stays_for_the_grace_period(
    unreferenced: dict[str, float], now: float, grace: float, waits: bool
) -> None:
    changes = Changes(remove=list(REMOVALS))
    apply_grace_period(changes, unreferenced, now, grace)
    if waits:
        assert changes.unreferenced == {path: min(unreferenced.get(path, now), now) for path in CONTENT}
        assert [removal.path for removal in changes.remove] == [
            "v2/app/manifests/v1",
            "v2/app/tags/list",
            "v2/app/tags",
        ]
    else:
        assert changes.unreferenced == {}
        assert changes.remove == REMOVALS


def test_content_that_is_referenced_again_is_no_longer_unreferenced() -> None:
    changes = Changes()
    apply_grace_period(changes, dict.fromkeys(CONTENT, 1000), 1001, 900)
    assert changes.unreferenced == {}


def test_added_moved_and_removed_tags_are_listed(workshop: Workshop) -> None:
    workshop.plan["v2/app/manifests"] |= {"v1": Symlink(OTHER), "v2": Symlink(MANIFEST)}
    (workshop.site / "v2/app/manifests/v3").symlink_to(MANIFEST)
    (workshop.site / "v2/app/manifests/odd").symlink_to("nowhere")
    changes = workshop.compare()
    name = RepositoryName("app")
    assert sorted(changes.tags, key=lambda change: change.tag) == [
        TagChange(name, Tag("v1"), MANIFEST, OTHER),
        TagChange(name, Tag("v2"), None, MANIFEST),
        TagChange(name, Tag("v3"), MANIFEST, None),
    ]
    assert changes.tags_before == 2


def test_a_directory_that_a_web_server_cannot_enter_is_made_public(workshop: Workshop) -> None:
    for path in ("v2", "v2/app/blobs", f"v2/app/manifests/{MANIFEST}"):
        (workshop.site / path).chmod(0o700)
    assert sorted(workshop.compare().chmod) == ["v2", "v2/app/blobs", f"v2/app/manifests/{MANIFEST}"]


def test_a_stray_file_beside_a_manifest_is_removed(workshop: Workshop) -> None:
    (workshop.site / "v2/app/manifests" / MANIFEST / "stray@x").touch()
    [removal] = workshop.compare().remove
    assert (removal.path, removal.is_opaque) == (f"v2/app/manifests/{MANIFEST}/stray@x", True)


@pytest.mark.parametrize("name", [BLOB, MANIFEST])
def test_damaged_content_gets_no_grace_period(workshop: Workshop, name: str) -> None:
    workshop.files.hash_unknown = True
    part = "blobs" if name == BLOB else "manifests"
    del workshop.plan[f"v2/app/{part}"][name]
    path = workshop.site / "v2/app" / part / (name if name == BLOB else f"{name}/{name}")
    sound = workshop.compare()
    assert apply_grace_period(sound, {}, 1000, 900) == []
    assert sound.unreferenced == {f"v2/app/{part}/{name}": 1000}
    path.write_text("other")
    damaged = workshop.compare()
    assert [removal.path for removal in apply_grace_period(damaged, {}, 1000, 900)] == [f"v2/app/{part}/{name}"]
    assert f"v2/app/{part}/{name}" in {removal.path for removal in damaged.remove}
