from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from scr_export.oci.listing import Listing
from scr_export.oci.name import RepositoryName
from scr_export.publish.directory.tree import Tree
from scr_export.site import paths
from scr_export.site.documents.listing import directory_name, files
from scr_export.site.entries import HardLink, Symlink

LONG_NAMES = [
    *("c" * 110, "c" * 111, "c" * 139, "c" * 140, "c" * 250, f"a/{'c' * 250}", f"{'c' * 250}/ab", f"{'c' * 249}d/ab"),
    *(f"{'c/' * 127}d", f"{'c/' * 127}e", f"{'c' * 120}/d", f"{'c' * 120}/e", f"{'c' * 100}/{'d' * 100}/e"),
]
NESTED = ["a", "a-b", "a.b", "a/b", "a/b/c", "a/c", "a0/b", "team/app/x", "team/app/y", "team/app0", "team0"]
TAGS = [f"{'t' * 127}{last}" for last in "012"] + ["t" * 127, "t" * 110, "t" * 111, "1", "1.0", "_", "A", "a", "a-"]


class Reader:
    """A server that has nothing but the directory."""

    def __init__(self, directory: Path, name: str | None, entries: Sequence[str]) -> None:
        self.listing = Listing(RepositoryName(name) if name else None, tuple(sorted(entries)))
        self.directory = directory / directory_name(self.listing)
        self.directory.mkdir()
        for path, held in files(self.listing):
            self._make(self.directory / path, held)

    def _make(self, path: Path, held: bytes | HardLink | Symlink) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        match held:
            case bytes():
                with path.open("xb") as file:
                    file.write(held)
            case HardLink(other):
                os.link(self.directory / other, path)
            case Symlink(target):
                path.symlink_to(target)

    def page(self, n: int, last: str) -> tuple[list[str], str | None]:
        """The entries of the largest page, and the next `last`."""
        names = {size: f"{last}@{size}" if size == 1 else f"@{size}/{last}@{size}" for size in (1000, 100, 10, 1)}
        size = next(size for size, name in names.items() if size <= n and (self.directory / name).exists())
        path = (self.directory / names[size]).resolve()
        assert path.is_relative_to(self.directory)
        _, _, following = path.name.removeprefix(last.rpartition("/")[2]).partition(f"@{size}@")
        document = json.loads(path.read_bytes())
        found = document.pop("tags" if self.listing.name else "repositories")
        assert document == ({"name": self.listing.name} if self.listing.name else {})
        if self.listing.name and size == 1 and following and not following.startswith("~"):
            assert found == []  # the server says it from the name
            found = [following]
        return found, following or None

    def check(self, n: int, position: int, last: str) -> None:
        entries = self.listing.entries
        found, following = self.page(n, last)
        assert tuple(found) == entries[position : position + len(found)], (n, last)
        assert len(found) <= n
        assert (following is None) == (position + len(found) == len(entries)), (n, last)
        while following is not None:
            more, following = self.page(n, following)
            assert more
            found += more
            assert len(found) <= len(entries)
        assert tuple(found) == entries[position:], (n, last)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("app", []),
        ("app", ["1"]),
        ("app", TAGS),
        ("app", [f"{number:03}{'t' * 125}" for number in range(35)]),
        (None, []),
        (None, ["app"]),
        (None, NESTED),
        (None, [*NESTED, *LONG_NAMES]),
        (None, [f"{'c/' * 120}{number:03}" for number in range(35)]),
    ],
)
def test_every_page_is_found_from_every_entry(tmp_path: Path, name: str | None, entries: list[str]) -> None:
    reader = Reader(tmp_path, name, entries)
    for position, last in enumerate(["", *reader.listing.entries]):
        for written in {last, last.replace("/", "%2F")}:
            if len(written) <= 139:  # behind others leads only the link
                for n in (1, 2, 9, 10, 11, 1000):
                    reader.check(n, position, written)


def test_a_name_that_is_too_long_has_no_page(tmp_path: Path) -> None:
    """Each page that exists is right, with its link. Where the file name would be too long, there is no page."""
    reader = Reader(tmp_path, None, LONG_NAMES)
    for position, last in enumerate(reader.listing.entries, 1):
        for written in {last, last.replace("/", "%2F")}:
            for n in (1, 10, 1000):
                try:
                    (reader.directory / f"{written}@1").stat()
                except OSError:
                    continue
                reader.check(n, position, written)


def test_the_name_of_the_directory_is_a_hash_of_its_content() -> None:
    name = RepositoryName("app")
    listings = [
        Listing(None, ()),
        Listing(None, ("a",)),
        Listing(name, ()),
        Listing(name, ("a",)),
        Listing(name, ("a", "b")),
    ]
    names = [directory_name(each) for each in listings]
    assert len(set(names)) == len(names)
    assert names == [directory_name(each) for each in listings]
    assert all(paths.is_pages(each) and "/" not in each and len(each) < 60 for each in names)  # a short link


def test_the_whole_list_and_the_empty_list_are_pages() -> None:
    listing = Listing(RepositoryName("app"), ("a", "b"))
    made = dict(files(listing))
    assert made["@all"] == b'{"name":"app","tags":["a","b"]}\n'
    assert made["@0"] == b'{"name":"app","tags":[]}\n'


@pytest.mark.parametrize("entries", [NESTED, TAGS, LONG_NAMES, [f"v{number}" for number in range(1500)]])
@pytest.mark.parametrize("name", ["app", None])
def test_a_name_is_one_file(name: str | None, entries: list[str]) -> None:
    if name and "/" in "".join(entries):
        entries = [each for each in entries if "/" not in each and len(each) <= 128]
    made = [path for path, _ in files(Listing(RepositoryName(name) if name else None, tuple(sorted(entries))))]
    assert len(made) == len(set(made))
    assert not {each.partition("/")[0] for each in made if "/" in each} & {each for each in made if "/" not in each}
    assert all(len(part) <= 255 for each in made for part in each.split("/"))
    assert all("@" in each.rpartition("/")[2] for each in made)  # no entry's own name


@pytest.mark.parametrize("count", [2500, 10_000])
def test_the_size_of_the_directory_grows_in_proportion_to_the_list(count: int) -> None:
    """Names, and files of their own with their bytes: ten thousand tags are 22,000 names and 1,100 small files."""
    made = dict(files(Listing(RepositoryName("app"), tuple(f"v{number:05}" for number in range(count)))))
    own = [held for held in made.values() if isinstance(held, bytes)]
    assert len(made) < 2.3 * count
    assert len(own) < 0.2 * count
    assert sum(len(held) for held in own) < 60 * count


def test_a_page_with_more_names_than_a_file_can_have_is_copied(tmp_path: Path) -> None:
    """ext4 allows 65,000."""
    names = [f"{number}@1@x" for number in range(65_010)]
    site, images = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        with Tree(site, images) as tree:
            tree.fill_directory([("@0", b"empty"), *((name, HardLink("@0")) for name in names)], "v2", "_pages@x")
    finally:
        os.close(site)
        os.close(images)
    made = tmp_path / "v2/_pages@x"
    assert {entry.name for entry in os.scandir(made)} == {"@0", *names}
    assert (made / names[-1]).read_bytes() == b"empty"
