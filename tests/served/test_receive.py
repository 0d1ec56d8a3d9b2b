"""`receive` takes bundles into a site that is served, in a host's own shell, and is cut off at any point."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

import pytest

from tests.support.builders import link_image, write_image
from tests.support.bundles import (
    RECEIVE,
    Members,
    NamesTar,
    begin,
    change,
    contents,
    deliver,
    differences,
    fill,
    lay_out,
    members_of,
    pack,
    receive,
    unpack,
    with_sums,
)
from tests.support.forked import TIMEOUT
from tests.support.index_page import SOURCE, sealed
from tests.support.mirroring import mirror
from tests.support.mounts import mounted, needs_root
from tests.support.pulls import get, pull
from tests.support.runner import assert_pullable, assert_whole, export, start, wait
from tests.support.servers import START, Server

SHELLS = [["dash"], ["bash"], ["busybox", "sh"]]
KILLS = int(os.environ.get("SCR_TEST_KILLS", "8"))  # on each server, and as many at a system call of each kind of run


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Where sites are received; nothing is there yet."""
    return tmp_path / "host"


@pytest.fixture
def old(images: Path, site: Path, tmp_path: Path) -> Path:
    """A copy of the site as it was before the changes; `site` is what it was changed to."""
    fill(images)
    export(images, site)
    before = tmp_path / "old"
    subprocess.run(["cp", "-a", site, before], check=True)
    change(images)
    export(images, site, "--grace", "0")
    return before


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_each_delivery_makes_the_host_what_the_site_is(old: Path, site: Path, host: Path, shell: list[str]) -> None:
    first = unpack(pack(old, host.with_name("1.tar")), host / ".scr-export/1")
    receive(first, host, shell=shell)
    assert differences(old, host) == {}
    assert_whole(host)
    assert len(list(host.glob("v2/_sigstore/**/signature-1"))) == 2
    assert host.stat().st_mode & 0o777 == 0o755
    assert receive("--check", host, shell=shell).stdout.startswith(f"{host} is sound")
    have = receive("--have", host, shell=shell).stdout
    assert sorted(have.splitlines()) == sorted((first / "content").read_text().splitlines())
    second = unpack(pack(site, host.with_name("2.tar"), have), host / ".scr-export/2")
    assert host.with_name("2.tar").stat().st_size < host.with_name("1.tar").stat().st_size
    before = contents(host)
    told = receive(second, host, shell=shell)
    assert told.stderr == ""
    assert differences(site, host, before=before) == {}
    assert_whole(host)
    receive("--check", host, shell=shell)
    after = contents(host)
    receive(second, host, shell=shell)  # again: there is nothing to do
    assert contents(host) == after
    assert wait(start("verify", host)).returncode == 0


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_pages_of_long_lists_are_made_of_the_old_ones_and_of_the_list(
    images: Path, site: Path, host: Path, tmp_path: Path, shell: list[str]
) -> None:
    write_image(images / "image/v")
    for number in range(150):
        link_image(images / "image/v", images / f"many/m{number}")
        link_image(images / "image/v", images / f"m{number}/{'deep/' * (number % 2)}app/v")
    export(images, site)
    deliver(site, host, "1")
    have = receive("--have", host).stdout
    for number, new in enumerate(("a", "m", "z")):
        link_image(images / "image/v", images / f"many/{new}")
        link_image(images / "image/v", images / f"{new}/v")
        export(images, site, "--grace", "0")
        incoming = unpack(pack(site, tmp_path / f"{number}.tar", have), tmp_path / f"{number}")
        assert (incoming / "names.tar").stat().st_size < 160_000
        before = contents(host)
        receive(incoming, host, shell=shell)
        assert differences(site, host, before=before) == {}
        receive("--check", host)
        receive("--back", host)
        receive("--check", host)
        receive(incoming, host, shell=shell)
        assert differences(site, host, before=before) == {}
        have = receive("--have", host).stdout
    nothing = pack(site, tmp_path / "nothing.tar", (incoming / "content").read_text())
    assert nothing.stat().st_size < 300_000
    receive(unpack(nothing, tmp_path / "nothing"), host)
    assert differences(site, host, before=before) == {}


def test_content_of_the_delivery_before_goes_with_the_next_one(images: Path, old: Path, site: Path, host: Path) -> None:
    deliver(old, host, "1")
    deliver(site, host, "2")
    gone = old / "v2/app/manifests/goes"
    manifest = host / "v2/app/manifests" / os.readlink(gone)
    assert manifest.is_dir()
    write_image(images / "app/moves", seed=21)
    export(images, site, "--grace", "0")
    before = contents(host)
    deliver(site, host, "3")
    assert not manifest.exists()
    assert differences(site, host, before=before) == {}
    deliver(site, host, "4")  # the same site: what was before stays before
    assert differences(site, host, before=before) == {}


def test_back_publishes_the_delivery_before_and_again_the_one_after(old: Path, site: Path, host: Path) -> None:
    deliver(old, host, "1")
    assert "no delivery before" in receive("--back", host, status=1).stderr
    deliver(site, host, "2")
    for expected in (old, site, old):
        before = contents(host)
        receive("--back", host)
        assert differences(expected, host, before=before) == {}
        assert_whole(host)
        receive("--check", host)
    receive(host / ".scr-export/2", host)
    assert differences(site, host, before=contents(old)) == {}


def test_a_dry_run_names_tags_and_changes_nothing(old: Path, site: Path, host: Path) -> None:
    deliver(old, host, "1")
    incoming = unpack(pack(site, host.with_name("2.tar"), receive("--have", host).stdout), host / ".scr-export/2")
    before = contents(host)
    lines = receive("--dry-run", incoming, host).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["+", "a/manifests/x:v1"],
        ["-", "a:x"],
        ["+", "app:comes"],
        ["-", "app:goes"],
        ["~", "app:moves"],
        ["+", "new:512"],
        ["+", "new:v1"],
        ["+", "signed:more"],
    ]
    digests = [os.readlink(each / "v2/app/manifests/moves").partition("@")[2] for each in (old, site)]
    assert f"~ app:moves {digests[0]} -> {digests[1]}" in lines
    told = receive("--max-remove", "1", incoming, host, status=1).stderr
    assert "2 tags of 20 would go" in told
    assert "a:x app:goes" in told
    receive("--max-remove", "9%", incoming, host, status=1)
    assert contents(host) == before
    receive("--max-remove=10%", incoming, host)


@pytest.mark.parametrize(
    "arguments", [[], ["x"], ["--back"], ["--have", "a", "b"], ["--max-remove", "x", "a", "b"], ["-q", "a", "b"]]
)
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    assert "usage" in receive(*arguments, status=2).stderr


def test_help_is_the_head_of_the_script() -> None:
    told = receive("--help").stdout
    assert told.startswith("Take a delivery")
    assert "#" not in told


def test_a_site_that_is_exported_to_is_refused(old: Path, site: Path, host: Path) -> None:
    incoming = unpack(pack(site, host.with_name("1.tar")), host / ".scr-export/1")
    assert "another directory" in receive(incoming, old, status=2).stderr


def test_a_second_run_ends_with_3(old: Path, host: Path) -> None:
    incoming = deliver(old, host, "1")
    with (host / ".scr-export/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments in ([incoming, host], ["--back", host], ["--have", host], ["--check", host]):
            receive(*arguments, status=3)


PAGE = SOURCE.read_text()
CHANGED_PAGE = PAGE.replace("Choose a repository", "Choose")


@pytest.mark.parametrize("text", ["<h1>ours</h1>", "", "<a>scr-export</a>", CHANGED_PAGE])
def test_an_operators_own_page_stays(old: Path, site: Path, host: Path, text: str) -> None:
    host.mkdir()
    (host / "index.html").write_text(text)
    (host / "www").mkdir()
    for name, each in (("1", old), ("2", site)):
        deliver(each, host, name)
        assert (host / "index.html").read_text() == text
        assert (host / "www").is_dir()
        receive("--check", host)


def test_a_page_arrives_is_replaced_is_changed_and_goes(
    images: Path, old: Path, site: Path, host: Path, tmp_path: Path
) -> None:
    page = host / "index.html"
    deliver(old, host, "1")
    assert page.read_text() == PAGE
    page.write_text(sealed(CHANGED_PAGE))
    deliver(site, host, "2")
    assert page.read_text() == PAGE
    page.write_text(f"{PAGE}<!-- ours -->\n")
    receive("--check", host)
    deliver(site, host, "3")
    assert page.read_text() == f"{PAGE}<!-- ours -->\n"
    page.write_text(PAGE)
    export(images, site, "--no-html")
    deliver(site, host, "4")
    assert not page.exists()
    receive("--check", host)


def test_the_package_and_the_examples_have_one_script_and_shellcheck_finds_nothing_in_it() -> None:
    packaged = resources.files("scr_export.publish") / "receive"
    assert packaged.read_bytes() == RECEIVE.read_bytes()
    done = subprocess.run(["shellcheck", RECEIVE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_processes_grow_with_directories_and_not_with_files(tmp_path: Path) -> None:
    counts = []
    for tags in (5, 50):
        images, site, host, trace = (tmp_path / f"{name}{tags}" for name in ("images", "site", "host", "trace"))
        for number in range(tags):
            write_image(images / f"app/{number}", seed=number, layers=1)
        export(images, site)
        incoming = unpack(pack(site, tmp_path / f"{tags}.tar"), host / ".scr-export/1")
        receive(incoming, host, shell=["strace", "-f", "-qq", "-e", "trace=execve", "-o", trace, "dash"])
        counts.append(trace.read_text().count("execve("))
    assert counts[1] <= counts[0] + 5, counts


def test_an_incoming_on_another_file_system_is_copied(old: Path, site: Path, host: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        assert os.stat(directory).st_dev != os.stat(host.parent).st_dev
        incoming = unpack(pack(old, host.with_name("1.tar")), Path(directory, "incoming"))
        for blob in (incoming / "data").iterdir():
            blob.chmod(0o600)  # as a careless tar leaves them
        receive(incoming, host)
    assert differences(old, host) == {}


@needs_root
def test_a_disk_that_is_too_small_is_told_before_anything_is_changed(old: Path, tmp_path: Path) -> None:
    incoming = unpack(pack(old, tmp_path / "1.tar"), tmp_path / "incoming")
    (tmp_path / "small").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=600k", "none", tmp_path / "small") as small:
        told = receive(incoming, small / "site", status=1).stderr
        assert re.search(r"needs \d+ KiB more and has \d+ KiB left: make room; nothing was changed", told), told
        assert contents(small / "site") == {}


# what is not there


def lose(host: Path, old: Path, site: Path) -> Path:
    """A file that a delta leaves out, since the host has it."""
    return host / "v2/app/manifests" / os.readlink(site / "v2/app/manifests/stays")


def test_a_delta_for_another_base_changes_nothing(old: Path, site: Path, host: Path, tmp_path: Path) -> None:
    deliver(old, host, "1")
    incoming = unpack(pack(site, host.with_name("2.tar"), receive("--have", host).stdout), tmp_path / "2")
    other = tmp_path / "other"
    told = receive(incoming, other, status=1).stderr
    assert "neither came nor are here" in told
    assert told.rstrip().endswith("nothing was changed")
    assert contents(other) == {}


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_delta_for_files_that_were_lost_changes_nothing(
    old: Path, site: Path, host: Path, tmp_path: Path, damage: str
) -> None:
    deliver(old, host, "1")
    incoming = unpack(pack(site, host.with_name("2.tar"), receive("--have", host).stdout), tmp_path / "2")
    victim = next((host / "v2/many/blobs").iterdir())
    victim.unlink() if damage == "lost" else os.truncate(victim, 1)
    before = contents(host)
    told = receive(incoming, host, status=1).stderr
    assert "1 files neither came nor are here" in told
    assert victim.name in told
    assert contents(host) == before
    # what the host has now, without that file
    incoming = unpack(pack(site, host.with_name("3.tar"), receive("--have", host).stdout), tmp_path / "3")
    receive(incoming, host)
    assert differences(site, host, before=before) == {}


def test_an_old_delivery_is_warned_of(images: Path, old: Path, site: Path, host: Path) -> None:
    deliver(old, host, "1")
    second = deliver(site, host, "2")
    write_image(images / "app/moves", seed=31)
    export(images, site)
    deliver(site, host, "3")
    assert "warning: this delivery was made for another state" in receive(second, host).stderr


# --check


def damage_blob(host: Path) -> str:
    blob = max((host / "v2/many/blobs").iterdir(), key=lambda each: each.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[5] ^= 1
    blob.write_bytes(data)
    return f"{blob.relative_to(host)}: is damaged; needed by many:v1"


def lose_blob(host: Path) -> str:
    blob = next((host / "v2/app/blobs").iterdir())
    blob.unlink()
    return f"{blob.relative_to(host)}: is missing; needed by app:"


def lose_manifest(host: Path) -> str:
    link = host / "v2/app/manifests/moves"
    shutil.rmtree(link.resolve())
    return "is missing; needed by app:moves"


def move_tag(host: Path) -> str:
    link = host / "v2/app/manifests/moves"
    target = os.readlink(host / "v2/app/manifests/stays")
    link.unlink()
    link.symlink_to(target)
    return "v2/app/manifests/moves: is missing, or leads elsewhere"


def lose_tag(host: Path) -> str:
    (host / "v2/app/manifests/moves").unlink()
    return "v2/app/manifests/moves: is missing, or leads elsewhere"


def add_tag(host: Path) -> str:
    (host / "v2/app/manifests/evil").symlink_to(os.readlink(host / "v2/app/manifests/stays"))
    return "v2/app/manifests/evil: is a name that the delivery does not have"


def change_list(host: Path) -> str:
    page = (host / "v2/app/tags/list").resolve()
    page.write_text("{}")
    return f"{page.relative_to(host.resolve())}: is damaged"  # and each page that is the same file


def change_images_txt(host: Path) -> str:
    with (host / "images.txt").open("a") as file:
        file.write("x")
    return "images.txt: is damaged"


def close_blob(host: Path) -> str:
    blob = next((host / "v2/app/blobs").iterdir())
    blob.chmod(0o600)
    return f"{blob.relative_to(host)}: cannot be read by"


@pytest.mark.parametrize(
    "damage",
    [damage_blob, lose_blob, lose_manifest, move_tag, lose_tag, add_tag, change_list, change_images_txt, close_blob],
)
def test_check_names_what_is_wrong_and_the_tags_that_need_it(
    old: Path, host: Path, damage: Callable[[Path], str]
) -> None:
    deliver(old, host, "1")
    receive("--check", host)
    expected = damage(host)
    told = receive("--check", host, status=1).stderr
    assert expected in told
    if damage not in (lose_manifest, change_list):  # several files, or names of one file
        assert "1 faults" in told


def test_check_of_a_mirror_that_rsync_filled_says_what_it_cannot_see(old: Path, host: Path) -> None:
    mirror(old, host)
    assert "names were checked against bytes" in receive("--check", host).stderr
    expected = damage_blob(host)
    assert expected in receive("--check", host, status=1).stderr


def test_a_mirror_that_rsync_filled_takes_a_delta_and_goes_back(old: Path, site: Path, host: Path) -> None:
    mirror(old, host)
    deliver(site, host, "2")
    assert differences(site, host, before=contents(old)) == {}
    receive("--back", host)
    assert differences(old, host, before=contents(site)) == {}
    receive("--check", host)


def test_a_disk_can_be_packed_and_mirrored_on(old: Path, site: Path, host: Path, tmp_path: Path) -> None:
    deliver(old, host, "1")
    deliver(site, host, "2")
    deliver(host, tmp_path / "second", "1")
    assert_whole(tmp_path / "second")
    mirror(host, tmp_path / "third")
    for each in ("second", "third"):
        assert differences(site, tmp_path / each, before=contents(host)) == {}


# damaged and hostile bundles


def drop(name: str) -> Callable[[Members], Members]:
    def change_members(members: Members) -> Members:
        return {each: data for each, data in members.items() if each != name}

    return change_members


def add(name: str, data: bytes = b"x") -> Callable[[Members], Members]:
    return lambda members: members | {name: data}


def edit(name: str, before: bytes, after: bytes) -> Callable[[Members], Members]:
    def change_members(members: Members) -> Members:
        assert before in members[name]
        return members | {name: members[name].replace(before, after, 1)}

    return change_members


def append(name: str, data: bytes) -> Callable[[Members], Members]:
    return lambda members: members | {name: members[name] + data}


def names_tar(change_tar: Callable[[NamesTar], None]) -> Callable[[Members], Members]:
    def change_members(members: Members) -> Members:
        tar = NamesTar(members["names.tar"])
        change_tar(tar)
        return members | {"names.tar": bytes(tar)}

    return change_members


def flip_data(members: Members) -> Members:
    name = next(each for each in members if each.startswith("data/"))
    return members | {name: members[name][:-1] + bytes([members[name][-1] ^ 1])}


def drop_data(members: Members) -> Members:
    return drop(next(each for each in members if each.startswith("data/")))(members)


def change_a_manifest(tar: NamesTar) -> None:
    index = next(i for i, (member, data) in enumerate(tar.members) if "/manifests/" in member.name and data)
    member, data = tar.members[index]
    tar.members[index] = (member, data[:-1] + b" ")


ZERO = b"0" * 64
CHANGES: dict[str, Callable[[Members], Members]] = {
    "no data": drop_data,
    "other data": flip_data,
    "no links": drop("links"),
    "no content": drop("content"),
    "no names.tar": drop("names.tar"),
    "no PARENT": drop("PARENT"),
    "a file more": add("more"),
    "a planted v2": add("v2/_catalog"),
    "more data": add("data/sha256:" + "0" * 64),
    "an odd name": add("data/a b"),
    "a newline": add("data/a\nb"),
    "a hidden file": add(".profile"),
    "an option": add("--checkpoint-action=exec=sh"),
    "a path out": append("content", ZERO + b"  v2/../../evil\n"),
    "an absolute path": append("content", ZERO + b"  /tmp/evil\n"),
    "a path into the notes": append("content", ZERO + b"  .scr-export/format\n"),
    "a path with dots": append("content", ZERO + b"  v2/app/../blobs/sha256:" + ZERO + b"\n"),
    "a path of another kind": append("content", ZERO + b"  evil.html\n"),
    "a path with a space": append("content", ZERO + b"  v2/a b\n"),
    "a path twice": lambda members: append("content", members["content"].splitlines(True)[0])(members),
    "a name with other bytes": append("content", ZERO + b"  v2/app/blobs/sha256:" + b"1" * 64 + b"\n"),
    "a line without its end": append("content", b"x"),
    "a link out": append("links", b"v2/app/manifests/evil ../../../../etc\n"),
    "a link to the root": append("links", b"v2/app/manifests/evil /etc/passwd\n"),
    "a link of another place": append("links", b"v2/app/blobs/evil _pages/@all\n"),
    "a link to nothing": append(
        "links", b"v2/app/manifests/evil vnd.oci.image.manifest.v1+json@sha256:" + ZERO + b"\n"
    ),
    "a link at a directory": append("links", b"v2/app/manifests vnd.oci.image.manifest.v1+json@sha256:" + ZERO + b"\n"),
    "names.tar is no tar": lambda members: members | {"names.tar": b"x" * 10240},
    "a file out": names_tar(lambda tar: tar.add("../evil", data=b"x")),
    "an absolute file": names_tar(lambda tar: tar.add("/tmp/scr-export-evil", data=b"x")),
    "a file more in names.tar": names_tar(lambda tar: tar.add("v2/evil", data=b"x")),
    "a page that is a link out": names_tar(lambda tar: tar.add("v2/evil/_pages@" + "0" * 32, tarfile.SYMTYPE, "/etc")),
    "a file in the notes": names_tar(lambda tar: tar.add(".scr-export/format", data=b"1\n")),
    "a link more in names.tar": names_tar(lambda tar: tar.add("v2/app/manifests/evil", tarfile.SYMTYPE, "/etc")),
    "a link instead of a page": names_tar(lambda tar: tar.add(tar.members[1][0].name, tarfile.SYMTYPE, "/etc")),
    "a hard link out": names_tar(lambda tar: tar.add("v2/evil", tarfile.LNKTYPE, "/etc/passwd")),
    "a device": names_tar(lambda tar: tar.add("v2/evil", tarfile.CHRTYPE)),
    "a directory": names_tar(lambda tar: tar.add("v2/app", tarfile.DIRTYPE)),
    "a newline in names.tar": names_tar(lambda tar: tar.add("v2/a\nv2/b", data=b"x")),
    "a manifest with other bytes": names_tar(change_a_manifest),
    "no sizes": names_tar(lambda tar: tar.members.remove(tar.members[0])),
    "a missing manifest": names_tar(
        lambda tar: tar.members.remove(next(each for each in tar.members if "/manifests/" in each[0].name and each[1]))
    ),
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Members]:
    """A host with a first delivery, and the members of a second one that is good."""
    directory = tmp_path_factory.mktemp("delivered")
    images, site, host = (directory / name for name in ("images", "site", "host"))
    fill(images)
    export(images, site)
    deliver(site, host, "1")
    change(images)
    export(images, site)
    bundle = pack(site, directory / "2.tar", receive("--have", host).stdout)
    return host, members_of(bundle.read_bytes())


WITH_SUMS = sorted(
    CHANGES.keys() - {"a planted v2", "other data", "an option", "no links", "no content"}
)  # same, or good


@pytest.mark.parametrize(
    ("name", "summed"), [*((name, False) for name in CHANGES), *((name, True) for name in WITH_SUMS)]
)
def test_a_damaged_or_hostile_bundle_changes_nothing(
    delivered: tuple[Path, Members], tmp_path: Path, name: str, summed: bool
) -> None:
    host, members = delivered
    changed = CHANGES[name](members)
    incoming = lay_out(with_sums(changed) if summed else changed, tmp_path / "incoming")
    before, notes = contents(host), sorted(os.listdir(host / ".scr-export/receive"))
    outside = contents(tmp_path)
    told = receive(incoming, host, status=1).stderr
    assert told.rstrip().endswith("nothing was changed"), told
    assert contents(host) == before
    assert sorted(os.listdir(host / ".scr-export/receive")) == notes
    assert contents(tmp_path) == outside
    assert not Path("/tmp/scr-export-evil").exists()


def test_the_bundle_of_the_table_is_good_without_a_change(delivered: tuple[Path, Members], tmp_path: Path) -> None:
    host, members = delivered
    incoming = lay_out(with_sums(members), tmp_path / "incoming")
    assert "+ new:v1" in receive("--dry-run", incoming, host).stdout
    link = tmp_path / "linked"
    shutil.copytree(incoming, link)
    (link / "data").rename(tmp_path / "data")
    (link / "data").symlink_to(tmp_path / "data")
    assert "no part of a bundle" in receive(link, host, status=1).stderr


# cut off


# Not a/manifests/x:v1: where a tag takes the place of that repository, pulls from it that are under way end with it.
TAGS = [
    ("app", "moves"),
    ("app", "goes"),
    ("app", "comes"),
    ("app", "stays"),
    ("a", "x"),
    ("new", "v1"),
    ("shared/r3", "v1"),
]
ALWAYS = [("app", "moves"), ("app", "stays"), ("shared/r3", "v1")]


@contextmanager
def pulling(server: Server) -> Iterator[Callable[[], int]]:
    """Pull every tag over and over until the end, which no pull may fail; gives the number of rounds so far."""
    stop, rounds = threading.Event(), [0]
    failures: list[str] = []

    def work() -> None:
        while not stop.is_set():
            for name, tag in TAGS:
                failure = pull(f"{server.url}/v2/{name}", tag, may_be_absent=(name, tag) not in ALWAYS)
                failures.extend([failure] if failure else [])
            failures.extend(f"{path}: {status}" for path in LISTS if (status := get(f"{server.url}{path}")[0]) != 200)
            rounds[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: rounds[0]
    finally:
        stop.set()
        thread.join()
    assert failures == []


LISTS = ["/v2/_catalog", "/v2/app/tags/list", "/v2/app/tags/list?n=1", "/v2/_catalog?n=10"]


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 for the shell and everything that it runs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("server_name", START)
def test_a_delivery_killed_anywhere_keeps_every_tag_whole(
    old: Path, site: Path, host: Path, tmp_path: Path, server_name: str
) -> None:
    chance = random.Random(server_name + os.environ.get("SCR_TEST_SEED", ""))
    deliver(old, host, "1")
    incomings = [
        unpack(pack(each, tmp_path / f"{name}.tar"), host / ".scr-export" / name)
        for name, each in (("new", site), ("old", old))
    ]
    began = time.monotonic()
    receive(incomings[0], host)
    took = time.monotonic() - began
    cut = 0
    with START[server_name](host, tmp_path / "server") as server, pulling(server) as rounds:
        for number in range(KILLS // 2):
            incoming, expected = incomings[(number + 1) % 2], (site, old)[(number + 1) % 2]
            for _ in range(2):
                process = begin(incoming, host)
                time.sleep(chance.uniform(0.2, 1) * took)
                cut += process.poll() is None
                kill(process)
                assert_pullable(host)
            before = contents(host)
            receive(incoming, host)
            assert differences(expected, host, before=before) == {}
            assert_whole(host)
        assert rounds() > 1
    assert cut


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
def test_a_delivery_whose_commands_are_killed_at_a_system_call_goes_on(
    old: Path, site: Path, host: Path, tmp_path: Path, back: bool
) -> None:
    """Each time another call that changes the disk is the last of its process. The run ends, and another goes on."""
    chance = random.Random(f"{back}" + os.environ.get("SCR_TEST_SEED", ""))
    deliver(old, host, "1")
    incoming = unpack(pack(site, tmp_path / "2.tar", receive("--have", host).stdout), host / ".scr-export/2")
    if back:
        receive(incoming, host)
    kept = tmp_path / "kept"
    subprocess.run(["cp", "-a", host, kept], check=True)
    arguments: list[str | Path] = ["--back", host] if back else [incoming, host]
    trace = tmp_path / "trace"
    killed = 0
    for _ in range(KILLS):
        shutil.rmtree(host)
        subprocess.run(["cp", "-a", kept, host], check=True)
        call = chance.choice(["linkat", "renameat2", "unlinkat", "mkdir", "symlinkat", "syncfs", "rmdir"])
        inject = f"inject={call}:signal=KILL:when={chance.choice([1, 1, 2, 3, 5, 8, 20])}"
        strace: list[str | Path] = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", trace, "dash"]
        process = begin(*arguments, shell=strace)
        process.communicate(timeout=60)
        killed += process.returncode != 0
        assert_pullable(host)
        before = contents(host)
        if process.returncode:
            receive(*arguments)
        assert differences(old if back else site, host, before=before | contents(kept)) == {}
        assert_whole(host)
        receive("--check", host)
    assert killed > KILLS // 4


CHANGING = ("chmod", "cp", "find", "ln", "mkdir", "mv", "rm", "sync")
SHIM = """#!/bin/sh
echo >>{calls}
[ "$(wc -l <{calls})" -lt "$LAST" ] || kill -9 0
exec {program} "$@"
"""


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
def test_a_delivery_killed_before_any_command_that_changes_something_goes_on(
    old: Path, site: Path, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    calls, kept = tmp_path / "calls", tmp_path / "kept"
    deliver(old, host, "1")
    incoming = unpack(pack(site, tmp_path / "2.tar", receive("--have", host).stdout), host / ".scr-export/2")
    if back:
        receive(incoming, host)
    subprocess.run(["cp", "-a", host, kept], check=True)
    before = contents(kept) | contents(site)
    arguments: list[str | Path] = ["--back", host] if back else [incoming, host]
    (tmp_path / "bin").mkdir()
    for name in CHANGING:
        shim = tmp_path / "bin" / name
        shim.write_text(SHIM.format(calls=calls, program=shutil.which(name)))
        shim.chmod(0o755)
    path = os.environ["PATH"]
    for last in itertools.count(1):
        shutil.rmtree(host)
        subprocess.run(["cp", "-a", kept, host], check=True)
        calls.write_text("")
        monkeypatch.setenv("LAST", str(last))
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{path}")
        process = begin(*arguments)
        _, told = process.communicate(timeout=TIMEOUT)
        monkeypatch.setenv("PATH", path)
        assert_pullable(host)
        assert process.returncode in (0, -signal.SIGKILL), told
        if process.returncode == 0:
            break
        if last % 5 == 0:
            receive(*arguments)
            assert differences(old if back else site, host, before=before) == {}
            assert_whole(host)
    assert last > 40
