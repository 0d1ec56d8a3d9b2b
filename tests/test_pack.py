"""A bundle: a site as one tar for a disk, or what is new in it for a receiver that has the rest."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from scr_export.publish.bundle import form
from scr_export.publish.bundle.have import Have
from tests.support.builders import link_image, write_artifact, write_image, write_index
from tests.support.forked import TIMEOUT, Ended, Hook
from tests.support.forked import run as forked
from tests.support.runner import (
    ENVIRONMENT,
    PathText,
    Report,
    assert_whole,
    export,
    listing,
    run,
    start,
    substance,
    wait,
)

SMALL = ("receive", "SHA256SUMS", "PARENT", "links", "content", "names.tar")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Bundle(NamedTuple):
    """A bundle as it was read: members in their order, and names.tar unpacked, its lists, files and links by path."""

    members: dict[str, bytes]
    headers: list[tarfile.TarInfo]
    files: dict[str, bytes]
    links: dict[str, str]
    lists: dict[str, bytes]

    @property
    def content(self) -> dict[str, str]:
        return {path: sum_ for sum_, _, path in (line.partition("  ") for line in self.text("content"))}

    @property
    def data(self) -> dict[str, bytes]:
        return {name.removeprefix("data/sha256:"): data for name, data in self.members.items() if "/" in name}

    def text(self, name: str) -> list[str]:
        text = self.members[name].decode()
        assert text == "" or text.endswith("\n")
        return text.splitlines()


def read(bundle: bytes) -> Bundle:
    """Read a bundle as Python's tarfile does; every property of its form is checked."""
    assert len(bundle) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:") as tar:
        headers = tar.getmembers()
        members = {each.name: read_member(tar, each) for each in headers}
    names = [each.name for each in headers]
    assert tuple(names[:6]) == SMALL
    assert names[6:] == sorted(set(names[6:]))
    for each in headers:
        assert bundle[each.offset + 257 : each.offset + 265] == b"ustar\x0000"
        assert (each.uid, each.gid, each.uname, each.gname, each.mtime) == (0, 0, "", "", 0)
        assert each.mode == (0o755 if each.name == "receive" else 0o644)
        assert each.isreg()
        assert each.pax_headers == {}
    sums = [f"{sha256(members[name])}  {name}" for name in names if name != "SHA256SUMS"]
    assert members["SHA256SUMS"].decode().splitlines() == sums
    for name in names[6:]:
        assert name == f"data/sha256:{sha256(members[name])}"
    files, links = read_names(members["names.tar"])
    lists = {path: files.pop(path) for path in list(files) if path.startswith(".scr-export/")}
    return Bundle(members, headers, files, links, lists)


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file
    return file.read()


def read_names(data: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    files, links = {}, {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for number, each in enumerate(tar.getmembers()):
            assert (each.uid, each.gid, each.uname, each.gname, each.mtime) == (0, 0, "", "", 0)
            assert (number == 0) == (each.name == ".scr-export/sizes")
            assert number <= 2 or not each.name.startswith(".")
            assert each.name not in files
            assert each.name not in links
            if each.issym():
                links[each.name] = each.linkname
            else:
                assert each.mode == 0o644
                assert each.isreg() or page_directory(each.linkname) == page_directory(each.name) != ""
                files[each.name] = read_member(tar, each)
    return files, links


def site_files(site: Path) -> dict[str, bytes]:
    """Every file of a site, read from the disk."""
    found = [path for path in [*site.glob("v2/**/*"), *site.glob("*")] if path.is_file() and not path.is_symlink()]
    inner = [path for path in found if not below_link(path, site)]
    return {str(path.relative_to(site)): path.read_bytes() for path in inner}


def below_link(path: Path, site: Path) -> bool:
    return any(above.is_symlink() for above in path.parents if above != site and site in above.parents)


def site_links(site: Path) -> dict[str, str]:
    found = [path for path in site.glob("v2/**/*") if path.is_symlink() and not below_link(path, site)]
    return {str(path.relative_to(site)): os.readlink(path) for path in found}


def is_blob(path: str) -> bool:
    return os.path.basename(os.path.dirname(path)) == "blobs" and os.path.basename(path).startswith("sha")


def pack(site: Path, bundle: Path, *options: str | Path, status: int = 0) -> Report:
    ended = forked("pack", "--json", *map(str, options), str(site), str(bundle))
    assert_no_traceback(ended)
    assert ended.status == status, ended.stderr
    document: Report = json.loads(ended.stdout)
    return document


def assert_no_traceback(ended: Ended) -> None:
    assert "Traceback" not in ended.stderr
    assert "internal error" not in ended.stderr


def packed(site: Path, bundle: Path, *options: str | Path) -> Bundle:
    report = pack(site, bundle, *options)
    data = bundle.read_bytes()
    assert (report["size"], report["sha256"]) == (len(data), sha256(data))
    return read(data)


def assert_holds(bundle: Bundle, site: Path, have: Iterable[str] = ()) -> None:
    """A bundle lists all of a site, and has what a list of sums and paths lacks."""
    files, links = site_files(site), site_links(site)
    whole = {page_directory(path) for path in bundle.files} - {""} - made_directories(bundle)
    listed = {path: data for path, data in files.items() if is_listed(path, whole)}
    assert bundle.content == {path: sha256(data) for path, data in listed.items()}
    assert list(bundle.content) == sorted(bundle.content)
    inner = {path for path in links if "/_pages@" in path}
    targets = dict(line.split(" ") for line in bundle.text("links"))
    assert targets == {path: target for path, target in links.items() if path not in inner}
    assert bundle.lists[".scr-export/sizes"].split() == [b"%d" % len(files[path]) for path in bundle.content]
    held = {(line[:64], line[66:]) for line in have}
    blobs = {os.path.basename(path) for _, path in held if is_blob(path)}
    assert bundle.data == {
        sha256(data): data for path, data in files.items() if is_blob(path) and os.path.basename(path) not in blobs
    }
    small = {path: data for path, data in files.items() if not is_blob(path)}
    lacking = {path for path, data in small.items() if (sha256(data), path) not in held}
    new_pages = {page_directory(path) for path in lacking} - {""}
    assert new_pages == whole | made_directories(bundle)
    lacking = {path for path in lacking if not page_directory(path)}
    lacking |= {path for path in small if page_directory(path) in whole}
    if ".scr-export/untagged" in bundle.lists:
        lacking.remove("images.txt")
        tags = [f"{target.partition('@')[2]}  {tag_of(path)}" for path, target in targets.items() if tag_of(path)]
        lines = sorted([*tags, *bundle.lists[".scr-export/untagged"].decode().splitlines()])
        assert "".join(f"{line}\n" for line in lines).encode() == files["images.txt"]
    assert {path: small[path] for path in lacking}.items() <= bundle.files.items()
    assert {page_directory(path) for path in bundle.files.keys() - lacking} <= made_directories(bundle)
    assert {path for path in inner if page_directory(path) in whole} <= bundle.links.keys()
    assert bundle.links.items() <= links.items()


def tag_of(path: str) -> str:
    """`NAME:TAG`, or nothing if the path is not that of a tag."""
    match = re.fullmatch("v2/(.+)/manifests/([^/]+)", path)
    return ":".join(match.groups()) if match else ""


def is_listed(path: str, whole: set[str]) -> bool:
    """Whether `content` lists a file: of pages that do not come as a whole directory it lists @all."""
    directory = page_directory(path)
    return directory in whole | {""} or path == f"{directory}/@all"


def page_lines(bundle: Bundle) -> list[str]:
    return bundle.lists.get(".scr-export/pages", b"").decode().splitlines()


def made_directories(bundle: Bundle) -> set[str]:
    """The directories of pages that the receiver makes."""
    return {line.split(" ")[0] for line in page_lines(bundle) if line.count(" ") == 1}


def pages_made_of(
    bundle: Bundle, old_files: dict[str, bytes], old_links: dict[str, str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Make the pages that did not come, as the lines for them say."""
    files, links = {}, {}
    for line in page_lines(bundle):
        name, *numbers = line.split(" ")
        if len(numbers) == 1:
            directory, old = name, numbers[0]
            document = json.loads(bundle.files[f"{directory}/@all"])
            key = "tags" if "tags" in document else "repositories"
        elif numbers:
            first, count = map(int, numbers)
            part = document | {key: document[key][first : first + count]}
            files[f"{directory}/{name}"] = json.dumps(part, separators=(",", ":")).encode() + b"\n"
        elif f"{old}/{name}" in old_links:
            links[f"{directory}/{name}"] = old_links[f"{old}/{name}"]
        else:
            files[f"{directory}/{name}"] = old_files[f"{old}/{name}"]
    return files, links


def page_directory(path: str) -> str:
    head, mark, tail = path.partition("/_pages@")
    return head + mark + tail.partition("/")[0] if mark else ""


@pytest.fixture
def full(images: Path, site: Path) -> Path:
    """A site with something of everything."""
    subject = write_image(images / "library/app/v1", layers=3)
    write_image(images / "library/app/v2", seed=2, share_layers_of=0)
    write_image(images / "copy/of/app/v1", layers=3)
    write_image(images / "old/v1", seed=3, algorithm="sha512", prefixed=True)
    write_image(images / "old/v2", seed=4, algorithm="sha384", prefixed=True)
    write_index(images / "multi/latest", seed=5, docker=True)
    write_artifact(images / "library/app/sbom", seed=6, subject=subject, empty_config=True)
    alone = write_image(images / "alone", seed=7)
    (images / "alone").rename(images / f"team@{alone.digest}")
    for number in range(12):
        write_image(images / f"many/v{number}", seed=8, layers=1)
    export(images, site)
    (site / "images.txt.asc").write_text("signed")
    return site


@pytest.fixture
def site_of_two(images: Path, site: Path) -> Path:
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    return site


def test_a_bundle_holds_all_of_the_site(full: Path, tmp_path: Path) -> None:
    bundle = packed(full, tmp_path / "bundle.tar")
    assert_holds(bundle, full)
    assert bundle.links == site_links(full)
    assert bundle.members["PARENT"] == b"none\n"
    receive = (resources.files("scr_export.publish") / "receive").read_bytes()
    assert bundle.members["receive"] == receive
    assert receive.startswith(b"#!/bin/sh\n")


def test_links_stand_in_the_order_of_publication(full: Path, tmp_path: Path) -> None:
    lines = [line.split(" ")[0] for line in packed(full, tmp_path / "bundle.tar").text("links")]
    tags = [path for path in lines if "/manifests/" in path]
    assert lines[: len(tags)] == sorted(tags)
    assert lines[-2:] == ["v2/_pages", "v2/_catalog"]
    lists = lines[len(tags) : -2]
    assert [os.path.basename(path) for path in lists] == ["_pages", "list"] * (len(lists) // 2)
    assert lists[::2] == sorted(lists[::2])


def test_tar_and_sha256sum_read_it(full: Path, tmp_path: Path) -> None:
    bundle, incoming, tree = tmp_path / "bundle.tar", tmp_path / "incoming", tmp_path / "tree"
    pack(full, bundle)
    for directory in (incoming, tree):
        directory.mkdir()
    quiet = {"check": True, "capture_output": True, "text": True}
    assert subprocess.run(["tar", "-xpf", bundle, "--no-same-owner", "-C", incoming], **quiet).stderr == ""  # type: ignore[call-overload]
    assert {path.name for path in incoming.iterdir()} == {*SMALL, "data"}
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=incoming, check=True)
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", incoming / "content"], cwd=full, check=True)
    assert subprocess.run(["tar", "-xf", incoming / "names.tar", "-C", tree], **quiet).stderr == ""  # type: ignore[call-overload]
    for path, target in site_links(full).items():
        assert os.readlink(tree / path) == target
    for path, data in site_files(full).items():
        if not is_blob(path):
            assert (tree / path).read_bytes() == data
            assert stat.S_IMODE((tree / path).stat().st_mode) == 0o644


def test_pages_that_are_equal_are_one_file(full: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.tar"
    names.write_bytes(packed(full, tmp_path / "bundle.tar").members["names.tar"])
    subprocess.run(["tar", "-xf", names, "-C", tmp_path], check=True)

    def inodes(root: Path) -> list[int]:
        [directory] = (root / "v2/many/tags").glob("_pages@*")
        return sorted(path.stat().st_nlink for path in directory.iterdir() if not path.is_symlink())

    assert inodes(tmp_path) == inodes(full)
    assert inodes(full)[-1] > 10


def test_the_same_site_and_a_copy_give_the_same_bytes(full: Path, tmp_path: Path, memory: Path) -> None:
    """The copy is on a file system that lists a directory in another order."""
    first = tmp_path / "1.tar"
    pack(full, first)
    pack(full, tmp_path / "2.tar")
    assert first.read_bytes() == (tmp_path / "2.tar").read_bytes()
    copy = memory / "copy"
    shutil.copytree(full, copy, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"), copy_function=shutil.copy)
    for path in copy.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
            path.chmod(0o750 if path.is_dir() else 0o640)
    assert pack(copy, tmp_path / "3.tar")["warnings"] == []
    assert first.read_bytes() == (tmp_path / "3.tar").read_bytes()
    assert not (copy / ".scr-export").exists()


def change(images: Path, site: Path) -> None:
    """A new image that shares layers, a tag that moves to an old image, one that goes, an image in a new repository."""
    write_image(images / "library/app/v3", seed=20, share_layers_of=0)
    shutil.rmtree(images / "library/app/v2")
    shutil.copytree(images / "library/app/v1", images / "library/app/v2")
    shutil.rmtree(images / "multi")
    shutil.copytree(images / "old/v1", images / "new/name/v1")
    write_image(images / "new/name/v2", seed=21, algorithm="sha512", prefixed=True)
    export(images, site, "--grace", "0")


@pytest.mark.parametrize("source", ["content", "sha256sum", "receive"])
def test_a_delta_has_just_what_the_receiver_lacks(images: Path, full: Path, tmp_path: Path, source: str) -> None:
    before = packed(full, tmp_path / "before.tar")
    have = tmp_path / "have"
    if source == "content":
        have.write_bytes(before.members["content"])
    elif source == "receive":
        script = tmp_path / "receive"
        script.write_bytes(before.members["receive"])
        mirror = tmp_path / "mirror"
        shutil.copytree(full, mirror, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
        have.write_bytes(subprocess.check_output(["sh", script, "--have", mirror]))
        assert sorted(have.read_bytes().splitlines()) == sorted(before.members["content"].splitlines())
    else:
        have.write_bytes(subprocess.check_output(["sha256sum", *(f"./{path}" for path in before.content)], cwd=full))
    change(images, full)
    delta = packed(full, tmp_path / "delta.tar", "--have", have)
    assert_holds(delta, full, before.text("content"))
    assert delta.members["PARENT"].decode() == f"{before.content['images.txt']}\n"
    assert 0 < len(delta.data) < len(before.data)
    # links to what is new come ready made, and a tag that moved to an old image does not
    assert "v2/library/app/manifests/v3" in delta.links
    assert "v2/library/app/manifests/v2" not in delta.links
    assert {"v2/_catalog", "v2/_pages", "v2/library/app/tags/list"} <= delta.links.keys()
    assert "v2/old/tags/list" not in delta.links


def test_a_delta_of_nothing_has_only_lists(full: Path, tmp_path: Path) -> None:
    before = packed(full, tmp_path / "before.tar")
    (tmp_path / "have").write_bytes(before.members["content"])
    delta = packed(full, tmp_path / "delta.tar", "--have", tmp_path / "have")
    assert delta.data == {}
    assert (delta.files, delta.links) == ({}, {})
    assert delta.lists.keys() == {".scr-export/sizes"}


NAMES = {
    "one repository": "app/v{0}",
    "ten tags in each repository": "app{1}/v{2}",
    "a repository for each": "app{0}/v1",
    "a longer name for each": "team{2}/app{0}/v1",
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_delta_is_small(images: Path, site: Path, tmp_path: Path, names: str) -> None:
    """At most the new content, 1 % of it, and 1.5 kB for each image of the site."""
    number = 600

    def write(count: int, **options: Any) -> int:
        built = write_image(images / names.format(count, count // 10, count % 10), seed=count, **options)
        return sum(map(len, [built.raw, *built.blobs.values()]))

    for count in range(number):
        write(count)
    export(images, site)
    have = tmp_path / "have"
    have.write_bytes(packed(site, tmp_path / "before.tar").members["content"])
    assert pack(site, tmp_path / "nothing.tar", "--have", have)["size"] < 1500 * number
    new = write(number, layer_size=200_000, compression="none")
    export(images, site)
    report = pack(site, tmp_path / "delta.tar", "--have", have)
    assert new < report["size"] < new * 1.01 + 1500 * (number + 1)
    assert report["saved"] == report["full"] - report["size"]
    assert report["full"] == pack(site, tmp_path / "full.tar")["size"] == (tmp_path / "full.tar").stat().st_size


@pytest.mark.parametrize(("number", "new"), [(30, "a"), (30, "m"), (30, "z"), (1005, "m")])
def test_most_pages_of_a_long_list_are_made_by_the_receiver(
    images: Path, site: Path, tmp_path: Path, number: int, new: str
) -> None:
    write_image(images / "first/v")
    for count in range(number):
        link_image(images / "first/v", images / f"m{count}/{'deep/' * (count % 2)}app/v")
    link_image(images / "first/v", images / "many/v")
    for count in range(number):
        link_image(images / "first/v", images / f"many/m{count}")
    untagged = write_image(images / "untagged", seed=7)
    (images / "untagged").rename(images / f"first@{untagged.digest}")
    export(images, site)
    before, old = packed(site, tmp_path / "before.tar"), (site_files(site), site_links(site))
    (tmp_path / "have").write_bytes(before.members["content"])
    link_image(images / "first/v", images / f"many/{new}")
    link_image(images / "first/v", images / f"{new}0/v")
    export(images, site)
    delta = packed(site, tmp_path / "delta.tar", "--have", tmp_path / "have")
    assert_holds(delta, site, before.text("content"))
    made = made_directories(delta)
    assert {os.path.dirname(path) for path in made} == {"v2", "v2/many/tags"}
    files, links = pages_made_of(delta, *old)
    for ours, sent, whole in ((files, delta.files, site_files(site)), (links, delta.links, site_links(site))):
        assert not ours.keys() & sent.keys()
        expected = {path: each for path, each in whole.items() if page_directory(path) in made}
        assert ours | {path: each for path, each in sent.items() if path in expected} == expected
    assert {path for path in delta.files if page_directory(path) in made} == {f"{path}/@all" for path in made}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("v2/app\n", "line 1 is not"),
        ("0" * 64 + "  a\nabc  b\n", "line 2 is not"),
        ("sha256:" + "0" * 64 + "  a\n", "line 1"),
        ("\x1b[31m\n", "line 1"),
    ],
)
def test_a_list_that_is_none_is_refused(site_of_two: Path, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "have").write_text(text)
    ended = forked("pack", "--have", str(tmp_path / "have"), str(site_of_two), str(tmp_path / "bundle.tar"))
    assert ended.status == 2
    assert complaint in ended.stderr
    assert "\x1b" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["have", "images", "site"]


def test_what_a_list_may_hold() -> None:
    sum_, other = "a" * 64, "b" * 64
    lines = ["# a comment\n", "\n", f"{sum_}  v2/a/blobs/sha256:{sum_}\n", f"{sum_}  v2/a/blobs/sha256:{other}\n"]
    have = Have.parse([*lines, f"{sum_} *./nginx.conf\n", f"{'0' * 64}  other"])
    assert have.blobs == {f"sha256:{sum_}": sum_}  # a blob whose name and sum differ is damaged
    assert have.files == {"nginx.conf": sum_, "other": "0" * 64}


def test_what_the_receiver_has_with_another_sum_is_sent(full: Path, tmp_path: Path) -> None:
    before = packed(full, tmp_path / "before.tar")
    lines = [f"{'0' * 64}  {line[66:]}\n" for line in before.text("content")]
    (tmp_path / "have").write_text("".join(lines))
    delta = packed(full, tmp_path / "all.tar", "--have", tmp_path / "have")
    assert delta.data == before.data
    made = made_directories(delta)
    for sent, every in ((delta.files, before.files), (delta.links, before.links)):
        assert sent == {path: each for path, each in every.items() if path in sent or page_directory(path) not in made}


def test_a_short_list_of_which_a_page_is_lacking_comes_as_a_whole(full: Path, tmp_path: Path) -> None:
    before = packed(full, tmp_path / "before.tar")
    lost = next(path for path in before.content if path.startswith("v2/old/tags/") and not path.endswith("/@all"))
    lines = [line for line in before.text("content") if not line.endswith(lost)]
    assert len(lines) == len(before.content) - 1
    (tmp_path / "have").write_text("".join(f"{line}\n" for line in lines))
    delta = packed(full, tmp_path / "delta.tar", "--have", tmp_path / "have")
    assert_holds(delta, full, lines)
    assert {page_directory(path) for path in delta.files} == {page_directory(lost)}


# --- damage ---


def flip(path: Path) -> None:
    """Change one byte of a file, which gets another inode, since IMAGES has the old one too."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


def grow(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data + b"x")


@pytest.mark.parametrize("damage", [flip, cut_short, grow, Path.unlink])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("target", ["-", "bundle.tar"])
def test_a_damaged_blob_ends_with_1_and_no_archive(
    images: Path,
    site: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    algorithm: Literal["sha256", "sha512"],
    target: str,
) -> None:
    built = write_image(images / "app/v1", algorithm=algorithm, prefixed=True, layer_size=300_000, compression="none")
    export(images, site)
    path = site / "v2/app/blobs" / max(built.blobs, key=lambda digest: len(built.blobs[digest]))
    damage(path)
    process = start_binary("pack", site, target if target == "-" else tmp_path / target)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert path.name in stderr.decode()
    assert b"Traceback" not in stderr
    if target == "-" and algorithm == "sha256" and damage is flip:
        assert stdout[:7] == b"receive"
        assert b"Unexpected EOF" in subprocess.run(["tar", "-t"], input=stdout, capture_output=True).stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["images", "site"]
    assert list((site / ".scr-export/pack").iterdir()) == []


def test_a_damaged_manifest_is_found_before_anything_is_written(site_of_two: Path, tmp_path: Path) -> None:
    manifests = [path for path in site_of_two.glob("v2/app/manifests/*/*") if not path.parent.is_symlink()]
    flip(manifests[0])
    shutil.rmtree(manifests[1].parent)
    ended = forked("pack", str(site_of_two), "-")
    assert (ended.status, ended.stdout) == (1, "")
    report = pack(site_of_two, tmp_path / "bundle.tar", status=1)
    assert sorted(fault["code"] for fault in report["faults"]) == ["manifest", "tag"]
    assert not (tmp_path / "bundle.tar").exists()


def test_a_list_that_leads_nowhere_is_a_fault(site_of_two: Path, tmp_path: Path) -> None:
    [pages] = (site_of_two / "v2/app/tags").glob("_pages@*")
    shutil.rmtree(pages)
    assert {fault["code"] for fault in pack(site_of_two, tmp_path / "bundle.tar", status=1)["faults"]} == {"list"}


def test_what_belongs_to_no_site_is_not_packed(site_of_two: Path, tmp_path: Path) -> None:
    before = packed(site_of_two, tmp_path / "before.tar")
    (site_of_two / "v2/app/blobs/.sha256:1.AbCdEf").write_text("half")
    (site_of_two / "v2/app/odd file").write_text("odd")
    (site_of_two / "v2/app/manifests/odd").write_text("odd")
    (site_of_two / "v2/app/blobs/link").symlink_to("/etc/passwd")
    (site_of_two / "own.html").write_text("of the operator")
    report = pack(site_of_two, tmp_path / "bundle.tar")
    assert sorted(each["path"] for each in report["warnings"]) == [
        "v2/app/blobs/.sha256:1.AbCdEf",
        "v2/app/blobs/link",
        "v2/app/manifests/odd",
        "v2/app/odd file",
    ]
    assert read((tmp_path / "bundle.tar").read_bytes()).members == before.members


def test_a_list_of_images_that_is_the_operators_is_not_packed(images: Path, site_of_two: Path, tmp_path: Path) -> None:
    (site_of_two / "images.txt").write_text("mine\n")
    (site_of_two / "images.txt.asc").write_text("signs mine\n")
    report = pack(site_of_two, tmp_path / "bundle.tar")
    assert [each["code"] for each in report["warnings"]] == ["foreign"]
    assert not [path for path in read((tmp_path / "bundle.tar").read_bytes()).content if "images.txt" in path]


def test_it_says_that_the_list_of_images_is_unsigned(images: Path, site_of_two: Path, tmp_path: Path) -> None:
    bundle = str(tmp_path / "bundle.tar")
    ended = forked("pack", str(site_of_two), bundle)
    assert ", unsigned, sha256 " in ended.stdout
    assert ended.stderr == ""
    (site_of_two / "images.txt.sig").write_text("signed")
    ended = forked("pack", str(site_of_two), bundle)
    assert "signed by images.txt.sig" in ended.stdout
    assert ended.stderr == ""
    write_image(images / "app/v3", seed=3)
    export(images, site_of_two)
    ended = forked("pack", str(site_of_two), bundle)
    assert "images.txt: is unsigned" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert pack(site_of_two, tmp_path / "bundle.tar")["signatures"] == []


# --- the lock and the snapshot ---


def hold(site: Path, kind: int) -> int:
    lock = os.open(site / ".scr-export/lock", os.O_RDWR)
    fcntl.flock(lock, kind)
    return lock


def test_a_site_that_is_exported_ends_with_3(site_of_two: Path, tmp_path: Path) -> None:
    lock = hold(site_of_two, fcntl.LOCK_EX)
    ended = forked("pack", str(site_of_two), str(tmp_path / "bundle.tar"))
    assert ended.status == 3
    assert len(ended.stderr.splitlines()) == 1
    assert pack(site_of_two, tmp_path / "bundle.tar", status=3)["error"]
    os.close(lock)
    pack(site_of_two, tmp_path / "bundle.tar")


def start_binary(*arguments: PathText) -> subprocess.Popen[bytes]:
    """Start `scr-export`, which writes a bundle to a pipe."""
    command = [sys.executable, "-m", "scr_export", *(os.fspath(each) for each in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)


@contextlib.contextmanager
def blocked(site: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has taken its snapshot and waits for its reader; the bundle is larger than a pipe."""
    process = start_binary("pack", site, "-")
    assert isinstance(process.stdout, io.BufferedReader)
    try:
        assert process.stdout.peek(7)[:7] == b"receive"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def large(images: Path, site: Path) -> Path:
    """A site whose bundle is larger than a pipe."""
    for number in range(3):
        write_image(images / f"app/v{number}", seed=number, layer_size=300_000, compression="none")
    export(images, site)
    return site


def test_two_runs_at_once_do_not_disturb_each_other(large: Path, tmp_path: Path) -> None:
    with blocked(large) as slow:
        report = pack(large, tmp_path / "bundle.tar")
        assert [path.name for path in (large / ".scr-export/pack").iterdir()] == ["1"]
        data = slow.stdout.read() if slow.stdout else b""
        assert slow.wait(TIMEOUT) == 0
    assert sha256(data) == report["sha256"]
    assert list((large / ".scr-export/pack").iterdir()) == []


def test_an_export_meanwhile_does_not_change_the_bundle(images: Path, large: Path, tmp_path: Path) -> None:
    expected = pack(large, tmp_path / "bundle.tar")["sha256"]
    with blocked(large) as process:
        shutil.rmtree(images / "app")
        write_image(images / "other/v1", seed=9)
        export(images, large, "--grace", "0")
        assert not list(large.glob("v2/app/blobs/*"))
        data = process.stdout.read() if process.stdout else b""
        assert process.wait(TIMEOUT) == 0
    assert sha256(data) == expected
    assert list((large / ".scr-export/pack").iterdir()) == []
    assert_whole(large)


def kill_before(last: int) -> Hook:
    def die(number: int) -> None:
        if number == last:
            os._exit(50)

    return die


def interrupt_before(last: int) -> Hook:
    def stop(number: int) -> None:
        if number == last:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


@pytest.mark.parametrize("hook", [kill_before, interrupt_before])
def test_it_can_be_stopped_before_any_change(
    images: Path, site: Path, tmp_path: Path, hook: Callable[[int], Hook]
) -> None:
    write_image(images / "app/v1")
    export(images, site)
    bundle = tmp_path / "bundle.tar"
    bundle.write_text("the bundle before")
    before, expected = substance(site / "v2"), pack(site, tmp_path / "other.tar")["sha256"]
    number = 1
    while True:
        ended = forked("pack", str(site), str(bundle), before_change=hook(number))
        assert_no_traceback(ended)
        assert substance(site / "v2") == before
        if ended.status == 0:
            break
        assert ended.status == (50 if hook is kill_before else 143)
        left = {path.name for path in tmp_path.iterdir()} - {"images", "site", "other.tar"}
        assert left <= {"bundle.tar", ".bundle.tar.part"}
        if hook is interrupt_before:
            assert left == {"bundle.tar"}
            assert "no bundle was made" in ended.stderr
            assert list((site / ".scr-export/pack").iterdir()) == []
        assert bundle.read_text() == "the bundle before"
        number += 1
    assert number > 5
    assert sha256(bundle.read_bytes()) == expected
    assert list((site / ".scr-export/pack").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"images", "site", "other.tar", "bundle.tar"}


def test_an_export_tells_what_a_killed_run_holds(images: Path, large: Path, tmp_path: Path) -> None:
    with blocked(large):
        assert export(images, large)["warnings"] == []
    [left] = (large / ".scr-export/pack").iterdir()
    shutil.rmtree(images / "app")
    write_image(images / "other/v1", seed=2)
    report = export(images, large, "--grace", "0")
    assert [(each["code"], each["path"]) for each in report["warnings"]] == [("pack", f".scr-export/pack/{left.name}")]
    pack(large, tmp_path / "bundle.tar")
    assert not left.exists()
    assert export(images, large)["warnings"] == []


def test_no_second_copy_is_made(large: Path) -> None:
    with blocked(large):
        [snapshot] = (large / ".scr-export/pack").iterdir()
        linked = {path.stat().st_ino for path in snapshot.iterdir()}
        assert linked == {path.stat().st_ino for path in large.glob("v2/app/blobs/*")}
        assert snapshot.stat().st_mode & 0o777 == 0o700


def test_a_dry_run_writes_nothing(full: Path, tmp_path: Path) -> None:
    before = listing(full)
    dry = pack(full, tmp_path / "bundle.tar", "--dry-run")
    assert listing(full) == before
    assert not (tmp_path / "bundle.tar").exists()
    wet = pack(full, tmp_path / "bundle.tar")
    for key in ("full", "size", "saved", "room", "blobs", "blobs_sent", "tags", "new_tags", "parent", "images_txt"):
        assert dry[key] == wet[key], key
    assert dry["sha256"] == ""
    assert wet["size"] == wet["full"] == (tmp_path / "bundle.tar").stat().st_size


def test_the_room_that_arrival_needs(full: Path, tmp_path: Path) -> None:
    report = pack(full, tmp_path / "bundle.tar")
    incoming = tmp_path / "incoming"
    (incoming / "tree").mkdir(parents=True)
    subprocess.run(["tar", "-xf", tmp_path / "bundle.tar", "-C", incoming], check=True)
    subprocess.run(["tar", "-xf", incoming / "names.tar", "-C", incoming / "tree"], check=True)
    used = int(subprocess.check_output(["du", "-sB1", incoming]).split()[0])
    assert used < report["room"] < used * 1.5


# --- where SITE cannot be written, or has no notes ---


def test_a_mirror_without_notes_is_packed(full: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(full, mirror, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    before = substance(mirror / "v2")
    pack(mirror, tmp_path / "mirror.tar")
    pack(full, tmp_path / "site.tar")
    assert (tmp_path / "mirror.tar").read_bytes() == (tmp_path / "site.tar").read_bytes()
    assert substance(mirror / "v2") == before
    assert not (mirror / ".scr-export").exists()


def test_a_mirror_that_changes_meanwhile_is_read_again(
    images: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no lock: a bundle must not have some of its tags from before a change and some from after it."""
    monkeypatch.setattr("scr_export.publish.directory.settled._PAUSE", 0)
    for name in ("a", "b"):
        write_image(images / name / "old", seed=1, layers=1)
        write_image(images / name / "new", seed=2, layers=1)
        shutil.copytree(images / name / "old", images / name / "tag")
    export(images, site)
    mirror = tmp_path / "mirror"
    shutil.copytree(site, mirror, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    pack(mirror, tmp_path / "before.tar")
    number, found = 0, set()
    while True:
        number += 1
        move_tags(mirror, "old")
        ended = forked("pack", str(mirror), str(tmp_path / "1.tar"), before_read=partial(move_tags_at, mirror, number))
        assert ended.status == 0, ended.stderr
        links = dict(line.split(" ") for line in read((tmp_path / "1.tar").read_bytes()).text("links"))
        found.add(links["v2/a/manifests/tag"] == links["v2/a/manifests/new"])
        assert links["v2/a/manifests/tag"] == links["v2/b/manifests/tag"], number
        if os.readlink(mirror / "v2/a/manifests/tag") == links["v2/a/manifests/old"]:
            break  # it ended before that many files were opened
    assert number > 20
    assert found == {True, False}


def move_tags_at(site: Path, chosen: int, number: int) -> None:
    if number == chosen:
        move_tags(site, "new")


def move_tags(site: Path, to: str) -> None:
    for name in ("a", "b"):
        directory = site / "v2" / name / "manifests"
        (site / "next").symlink_to(os.readlink(directory / to))
        (site / "next").rename(directory / "tag")


def test_a_site_that_cannot_be_written_is_packed(full: Path, tmp_path: Path) -> None:
    pack(full, tmp_path / "1.tar")
    for directory in (full, full / ".scr-export", full / ".scr-export/pack"):
        directory.chmod(0o555)
    before = listing(full)
    process = wait(start("pack", full, tmp_path / "2.tar", obedient=True))
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert listing(full) == before
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_a_site_without_a_snapshot_stays_locked(images: Path, large: Path) -> None:
    (large / ".scr-export/pack").write_text("in the way")
    with blocked(large):
        assert run(images, large).returncode == 3
    assert run(images, large).returncode == 0


def test_another_user_may_pack(full: Path, tmp_path: Path) -> None:
    """The notes are closed to other users, so this one has neither lock nor snapshot."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    pack(full, tmp_path / "1.tar")
    target = tmp_path / "theirs"
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_mode & 0o5 != 0o5:
            each.chmod(each.stat().st_mode | 0o5)
    ended = forked("pack", str(full), str(target / "2.tar"), user=65534)
    assert (ended.status, ended.stderr) == (0, "")
    assert (tmp_path / "1.tar").read_bytes() == (target / "2.tar").read_bytes()


# --- where BUNDLE cannot be written ---


def test_a_full_device_is_one_line(site_of_two: Path) -> None:
    ended = forked("pack", str(site_of_two), "/dev/full")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == "scr-export: /dev/full: cannot be written: No space left on device\n"
    assert list((site_of_two / ".scr-export/pack").iterdir()) == []


def test_a_pipe_that_closes_is_one_line(large: Path) -> None:
    with blocked(large) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(TIMEOUT) == 1
        assert process.stderr.read().decode() == (
            "scr-export: standard output: its reader ended before the bundle did; the bundle is not complete\n"
        )
    assert list((large / ".scr-export/pack").iterdir()) == []


def test_a_full_disk_leaves_no_half_bundle(large: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    limited = f"trap '' XFSZ; ulimit -f 500; exec {sys.executable} -m scr_export pack {large} {bundle}"
    process = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, env=ENVIRONMENT)
    assert process.returncode == 1
    assert process.stderr == f"scr-export: {bundle}: cannot be written: File too large\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "site"]


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ("", "must not be empty"),
        ("DIRECTORY", "is a directory"),
        ("SITE/bundle.tar", "inside SITE"),
        ("DIRECTORY/no/such.tar", "No such file"),
    ],
)
def test_a_bundle_that_cannot_be_is_a_usage_error(site_of_two: Path, tmp_path: Path, bundle: str, words: str) -> None:
    path = bundle.replace("DIRECTORY", str(tmp_path)).replace("SITE", str(site_of_two))
    ended = forked("pack", str(site_of_two), path)
    assert ended.status == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_two_runs_for_one_bundle_exclude_each_other(site_of_two: Path, tmp_path: Path) -> None:
    temporary = os.open(tmp_path / ".bundle.tar.part", os.O_RDWR | os.O_CREAT)
    fcntl.flock(temporary, fcntl.LOCK_EX)
    assert pack(site_of_two, tmp_path / "bundle.tar", status=3)["error"]
    os.close(temporary)
    pack(site_of_two, tmp_path / "bundle.tar")
    assert not (tmp_path / ".bundle.tar.part").exists()


def test_a_link_to_a_bundle_stays(site_of_two: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "bundle.tar").symlink_to("there/real.tar")
    pack(site_of_two, tmp_path / "bundle.tar")
    assert (tmp_path / "bundle.tar").is_symlink()
    read((tmp_path / "there/real.tar").read_bytes())


def test_what_is_no_site_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        ended = forked("pack", str(path), str(tmp_path / "bundle.tar"))
        assert ended.status == 1
        assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "bundle.tar").exists()


def test_standard_output_has_the_bundle_alone(site_of_two: Path, tmp_path: Path) -> None:
    report = pack(site_of_two, tmp_path / "bundle.tar")
    stdout, stderr = start_binary("pack", "--json", site_of_two, "-").communicate(timeout=TIMEOUT)
    assert sha256(stdout) == report["sha256"]
    assert json.loads(stderr)["sha256"] == report["sha256"]
    stdout, stderr = start_binary("pack", "-q", site_of_two, "-").communicate(timeout=TIMEOUT)
    assert sha256(stdout) == report["sha256"]
    assert stderr == b""


def test_verbose_names_tags_of_new_images(images: Path, site_of_two: Path, tmp_path: Path) -> None:
    (tmp_path / "have").write_bytes(packed(site_of_two, tmp_path / "bundle.tar").members["content"])
    built = write_image(images / "app/v3", seed=3)
    export(images, site_of_two)
    options = ["--have", str(tmp_path / "have"), "-v", str(site_of_two), str(tmp_path / "bundle.tar")]
    ended = forked("pack", *options)
    assert ended.stdout.splitlines()[0] == f"app:v3 {built.digest}"
    assert forked("pack", "-q", *options[:2], *options[3:]).stdout == ""


def test_large_sizes_are_written_as_tar_writes_them() -> None:
    for size in (8**11 - 1, 8**11, 2**40 + random.Random(1).randrange(2**40)):
        info = tarfile.TarInfo.frombuf(form.header("data/sha256:" + "0" * 64, size), "utf-8", "strict")
        assert (info.size, info.mtime, info.uid) == (size, 0, 0)
    assert form.header("x", 8**11 - 1)[257:265] == b"ustar\x0000"
