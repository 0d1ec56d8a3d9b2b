"""`examples/mirror` copies a site while exports and pulls run, and is killed at any point."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from tests.support.builders import write_image, write_index
from tests.support.forked import TIMEOUT
from tests.support.index_page import SOURCE, sealed
from tests.support.mirroring import age, begin, build, end, kill, mirror, verify
from tests.support.pulls import get, pull
from tests.support.runner import assert_pullable, assert_whole, export, inodes, registry, run
from tests.support.servers import START, Server
from tests.support.waiting import wait_until

SLOW = "--bwlimit=600"  # KiB a second: what changes in a round below takes half a second
TAGS = [f"{repository}/{tag}" for repository in ("app", "team/app", "team/blobs/tool") for tag in ("1", "2", "latest")]
ALWAYS = "always"  # a repository that never goes
ROUNDS = 4


def pull_all(server: Server) -> list[str]:
    """What goes wrong in a pull of each tag that may be there."""
    names = [tag.rpartition("/") for tag in [*TAGS, f"{ALWAYS}/1"]]
    pulls = [pull(f"{server.url}/v2/{name}", tag, may_be_absent=name != ALWAYS) for name, _, tag in names]
    failures = [failure for failure in pulls if failure]
    lists = [f"{server.url}/v2/{name}" for name in ("_catalog", f"{ALWAYS}/tags/list")]
    return failures + [f"{url}: {status}" for url in lists if (status := get(url)[0]) != 200]


@contextmanager
def pulling(server: Server) -> Iterator[Callable[[], int]]:
    """Pull every tag over and over until the end, which no pull may fail; gives the number of rounds so far."""
    stop, rounds = threading.Event(), [0]
    failures: list[str] = []

    def work() -> None:
        while not stop.is_set():
            failures.extend(pull_all(server))
            rounds[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: rounds[0]
    finally:
        stop.set()
        thread.join()
    assert failures == []


def publish(images: Path, site: Path) -> bool:
    """Export, unless a mirror run holds the site to take its snapshot; whether it was published."""
    ended = run(images, site, "--grace=0")
    assert ended.returncode in (0, 3), ended.stderr
    return ended.returncode == 0


def churn(images: Path, site: Path, chance: random.Random) -> None:
    """Move, add and remove tags, and export without a grace period."""
    for tag in chance.sample(TAGS, 3):
        if (images / tag).exists() and chance.random() < 0.4:
            shutil.rmtree(images / tag)
        else:
            build(images, tag, chance.randrange(64))
    build(images, f"{ALWAYS}/1", chance.randrange(64))
    wait_until(lambda: publish(images, site))


@pytest.mark.parametrize("server_name", START)
def test_a_mirror_that_is_killed_at_any_time_serves_only_whole_tags(
    images: Path, site: Path, mirror_host: Path, tmp_path: Path, server_name: str
) -> None:
    """Runs are killed at random points while the site is exported again and the mirror is pulled from."""
    seed = os.environ.get("SCR_TEST_SEED", "")  # another one, other cuts
    chance = random.Random(server_name + seed)
    churn(images, site, chance)
    mirror(site, mirror_host)
    cut = 0
    with START[server_name](mirror_host, tmp_path / "server") as server, pulling(server) as rounds:
        for number in range(ROUNDS):
            throttle, longest = ("--bwlimit=0", 0.5) if number % 2 else (SLOW, 0.8)
            age(site)
            process = begin(throttle, site, mirror_host)
            exporter = threading.Thread(target=churn, args=(images, site, random.Random(f"{number}{seed}")))
            exporter.start()
            time.sleep(chance.uniform(0, longest))  # so the run is killed at any point
            cut += process.poll() is None
            kill(process)
            exporter.join()
            assert_pullable(mirror_host)
            if number % 2:
                age(site)
                mirror(site, mirror_host)
                assert_whole(mirror_host)
        assert rounds() > ROUNDS
    assert cut
    for _ in range(2):
        age(site)
        mirror(site, mirror_host)
    assert registry(mirror_host) == registry(site)
    assert verify(mirror_host) == ""


@pytest.mark.parametrize("remote", [False, True], ids=["path", "host"])
def test_a_mirror_equals_the_site(images: Path, site: Path, mirror_host: Path, tmp_path: Path, remote: bool) -> None:
    """Everything arrives but the exporter's notes, hard links stay hard links, and again means nothing to do."""
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec env -i PATH="${0%/*}/only-rsync" /bin/sh -c "$*"\n')
    shell.chmod(0o755)
    (tmp_path / "only-rsync").mkdir()
    (tmp_path / "only-rsync/rsync").symlink_to(which("rsync") or "rsync is missing")
    arguments = ["-e", str(shell), site, f"host:{mirror_host}"] if remote else [site, mirror_host]
    build(images, "app/1", 1)
    build(images, "team/app/1", 2)
    write_index(images / "many/1", docker=True)
    export(images, site)
    mirror(*arguments)
    assert registry(mirror_host) == registry(site)
    assert not (mirror_host / ".scr-export").exists()
    assert verify(mirror_host) == ""
    for blob in mirror_host.glob("v2/team/app/blobs/*"):
        assert len(inodes(mirror_host, blob.name)) == 1
    again = mirror("--itemize-changes", *arguments).stdout
    assert [line for line in again.splitlines() if line[0] != "."] == []  # times of directories alone


def test_a_mirror_that_fails_at_any_step_is_whole(
    images: Path, site: Path, mirror_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rsync fails at its second call, then at its third, and so on; the site is another one each time."""
    rsync, calls = tmp_path / "bin/rsync", tmp_path / "calls"
    rsync.parent.mkdir()
    rsync.write_text(f'#!/bin/sh\necho >>{calls}\n[ "$(wc -l <{calls})" -lt "$LAST" ] && exec {which("rsync")} "$@"\n')
    rsync.chmod(0o755)
    monkeypatch.setenv("PATH", f"{rsync.parent}:{os.environ['PATH']}")
    other = tmp_path / "other"
    for each, tags in ((site, "12"), (other, "23")):
        for tag in tags:
            build(images / each.name, f"app/{tag}", 8 * int(tag) + len(each.name))
        export(images / each.name, each)
    steps = 0
    for last in itertools.count(2):
        (site / "v2").rename(tmp_path / "v2")
        (other / "v2").rename(site / "v2")
        (tmp_path / "v2").rename(other / "v2")
        monkeypatch.setenv("LAST", str(last))
        plant(site, last)
        calls.write_text("")
        age(site)
        process = begin(site, mirror_host)
        _, messages = process.communicate(timeout=TIMEOUT)
        if mirror_host.exists():
            assert_pullable(mirror_host)
            assert_planted(mirror_host)
        if process.returncode == 0:
            break
        assert "run the same command again" in messages
        steps = last
    assert steps >= 8
    monkeypatch.setenv("LAST", "1000")
    age(site)
    mirror(site, mirror_host)
    assert registry(mirror_host) == registry(site)


def plant(site: Path, number: int) -> None:
    """Put lists with pages into a site, and the referrers of something, in the place of those with another number."""
    referrers = site / "v2/app/referrers/sha256:0"
    shutil.rmtree(referrers, ignore_errors=True)
    referrers.mkdir(parents=True)
    (referrers / "@all").write_text(str(number))
    for parent in (site / "v2", site / "v2/app/tags"):
        pages = parent / f"_pages@{number}"
        for name in PAGES:
            (pages / name).parent.mkdir(parents=True, exist_ok=True)
            (pages / name).write_text(str(number))
        (pages / "link@1").symlink_to("@all")
        (parent / "new").symlink_to(pages.name)
        (parent / "new").rename(parent / "_pages")
        for other in parent.glob("_pages@*"):
            if other != pages:
                shutil.rmtree(other)


PAGES = ("@all", "1@2@3", "team%2Fapp@5", "team/manifests/app@5", "blobs/sha256:0@1", "tags/list@100")


def assert_planted(mirror_host: Path) -> None:
    """Wherever `_pages` leads, all the pages are there and of one number."""
    for pages in mirror_host.glob("v2/**/_pages"):
        number = os.readlink(pages).removeprefix("_pages@")
        assert {(pages / name).read_text() for name in [*PAGES, "link@1"]} == {number}


def test_content_stays_on_a_mirror_for_the_grace_period(images: Path, site: Path, mirror_host: Path) -> None:
    """A pull that began before a tag moved finds its blobs, also when the site has removed them long ago."""
    build(images, "app/1", 1)
    build(images, "gone/1", 8)
    export(images, site)
    mirror(site, mirror_host)
    before = registry(mirror_host)
    kept = {line for line in before.splitlines() if ":" in line and "->" not in line}
    build(images, "app/1", 16)
    shutil.rmtree(images / "gone")
    export(images, site, "--grace=0")
    for _ in range(2):  # it is too early to remove anything; then what was not there at the first run is removed
        assert mirror(site, mirror_host).stdout == ""
        assert kept < set(registry(mirror_host).splitlines())
        assert_whole(mirror_host)
        verify(mirror_host)
        age(site)
    assert mirror(site, mirror_host).stdout == ""
    assert registry(mirror_host) == registry(site)


def test_signatures_arrive_change_and_stay_for_a_while(images: Path, site: Path, mirror_host: Path) -> None:
    """One that is replaced within a second by another of its size arrives; one that is gone stays for running pulls."""
    build(images, "app/1", 1)
    build(images, "gone/1", 8)
    for tag, signature in (("app/1", b"\x90 first"), ("gone/1", b"\x90 of gone")):
        (images / tag / "signature-1").write_bytes(signature)
        os.utime(images / tag / "signature-1", (1_600_000_000, 1_600_000_000))
    export(images, site)
    mirror(site, mirror_host)
    assert registry(mirror_host) == registry(site)
    assert read_signatures(mirror_host) == {b"\x90 first", b"\x90 of gone"}
    (images / "app/1/signature-1").unlink()
    (images / "app/1/signature-1").write_bytes(b"\x90 other")
    os.utime(images / "app/1/signature-1", (1_600_000_000, 1_600_000_000))
    shutil.rmtree(images / "gone")
    export(images, site, "--grace=0")
    mirror(site, mirror_host)
    assert read_signatures(mirror_host) == {b"\x90 other", b"\x90 of gone"}
    verify(mirror_host)
    for _ in range(2):
        age(site)
        assert mirror(site, mirror_host).stdout == ""
    assert registry(mirror_host) == registry(site)
    assert read_signatures(mirror_host) == {b"\x90 other"}


def read_signatures(site: Path) -> set[bytes]:
    return {path.read_bytes() for path in site.glob("v2/_sigstore/**/signature-*")}


def test_a_tag_and_a_repository_replace_each_other_at_one_path(images: Path, site: Path, mirror_host: Path) -> None:
    """A directory replaces a link, and a link replaces a directory."""
    for name in ("app/x", "app/manifests/x/1", "app/x"):
        shutil.rmtree(images)
        build(images, name, 1)
        export(images, site, "--grace=0")
        for _ in range(2):  # content that is gone is not removed, then it is
            mirror(site, mirror_host)
            assert_whole(mirror_host)
            age(site)


def begin_and_end_in_a_blob(site: Path, mirror_host: Path, number: int) -> None:
    """Send a signal to a mirror run when a part of a blob has arrived."""
    unfinished = "v2/app/blobs/.sha256:*"
    old = set(mirror_host.glob(unfinished))
    process = begin(SLOW, site, mirror_host)
    wait_until(lambda: any(path.stat().st_size for path in set(mirror_host.glob(unfinished)) - old), process)
    kill(process, number)


def test_unfinished_files_are_not_served_and_are_removed(
    images: Path, site: Path, mirror_host: Path, tmp_path: Path
) -> None:
    """kill -9 leaves a temporary file, SIGTERM the part that has arrived; neither is served."""
    build(images, "other/1", 1)
    export(images, site)
    mirror(site, mirror_host)
    write_image(images / "app/1", layers=1, layer_size=1_200_000)
    export(images, site)
    blobs = mirror_host / "v2/app/blobs"
    for number in (signal.SIGKILL, signal.SIGTERM):
        begin_and_end_in_a_blob(site, mirror_host, number)
    left = [*blobs.glob(".sha256:*"), *blobs.glob(".partial/sha256:*")]
    assert len(left) == 2
    for start_server in START.values():
        with start_server(mirror_host, tmp_path / "server") as server:
            answers = [get(f"{server.url}/{path.relative_to(mirror_host)}")[0] for path in left]
            assert answers == [400, 404]  # the temporary name is no digest
    for _ in range(2):  # old pages are removed when they were unused in two runs
        age(site)
        mirror(site, mirror_host)
    assert registry(mirror_host) == registry(site)


def test_every_name_is_replaced_by_a_rename(images: Path, site: Path, mirror_host: Path, tmp_path: Path) -> None:
    """A tag that moves, a list that changes, a blob that becomes a link of another: each by a rename."""
    build(images, "app/1", 1)
    build(images, "team/app/1", 2)
    export(images, site)
    mirror(site, mirror_host)
    before = {path.name for path in mirror_host.rglob("*")}
    for blob in mirror_host.glob("v2/*/blobs/*"):
        shutil.copy(blob, tmp_path / "copy")
        (tmp_path / "copy").rename(blob)
    build(images, "app/1", 3)
    build(images, "app/2", 3)
    export(images, site)
    trace = tmp_path / "trace"
    strace: list[str | Path] = ["strace", "-qqfy", "-e", "trace=/unlink.*|rename.*|rmdir", "-o", trace]
    end(begin(site, mirror_host, under=strace))
    calls = [line for line in trace.read_text().splitlines() if ".scr-export" not in line]
    renamed = {Path(re.findall('"(.*?)"', line)[-1]).name for line in calls if "rename" in line}
    assert {"1", "_pages"} < renamed
    removed = {Path(name).name for line in calls if "rename" not in line for name in re.findall('"(.*?)"', line)}
    assert not removed & before
    assert_whole(mirror_host)


def test_a_list_that_changed_within_a_second_arrives(images: Path, site: Path, mirror_host: Path) -> None:
    """Two lists with equal sizes and times are distinguished by their bytes."""
    build(images, "app/1", 1)
    export(images, site)
    mirror(site, mirror_host)
    (images / "app/1").rename(images / "app/2")
    export(images, site)
    for place in (site, mirror_host):
        os.utime(place / "v2/app/tags/list", (1, 1))
    mirror(site, mirror_host)
    assert_whole(mirror_host)


def test_files_of_other_programs_stay(images: Path, site: Path, mirror_host: Path) -> None:
    """A website beside the registry is not ours to remove, or to carry."""
    (mirror_host / "www").mkdir(parents=True)
    (mirror_host / "www/index.html").write_text("hello")
    build(images, "app/1", 1)
    export(images, site)
    (site / "private").mkdir()
    mirror(site, mirror_host)
    assert sorted(os.listdir(mirror_host)) == ["Caddyfile", "images.txt", "index.html", "nginx.conf", "v2", "www"]
    assert (mirror_host / "www/index.html").read_text() == "hello"


def test_the_list_of_images_comes_with_its_signature(images: Path, site: Path, mirror_host: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    assert mirror(site, mirror_host).stderr == ""
    (site / "images.txt.asc").write_text("signed")
    (site / "images.txt.bak").write_text("of the operator")
    assert mirror(site, mirror_host).stderr == ""
    assert (mirror_host / "images.txt.asc").read_text() == "signed"
    assert not (mirror_host / "images.txt.bak").exists()
    write_image(images / "app/v2", seed=2)
    export(images, site)
    assert "images.txt is unsigned" in mirror(site, mirror_host).stderr
    assert (mirror_host / "images.txt").read_bytes() == (site / "images.txt").read_bytes()
    assert not (mirror_host / "images.txt.asc").exists()
    (site / "images.txt.sig").write_text("signed again")
    assert mirror(site, mirror_host).stderr == ""
    assert (mirror_host / "images.txt.sig").read_text() == "signed again"
    assert "images.txt" not in verify(mirror_host)


def test_the_list_of_images_comes_last(images: Path, site: Path, mirror_host: Path, tmp_path: Path) -> None:
    """A run that ends before any one of its transfers leaves the old list, or all that the new one says is there."""
    write_image(images / "app/v1")
    export(images, site)
    mirror(site, mirror_host)
    old = (mirror_host / "images.txt").read_bytes()
    write_image(images / "app/v2", seed=2)
    export(images, site)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "rsync").write_text(
        f'#!/bin/sh\necho >>"$COUNT"\n[ "$(wc -l <"$COUNT")" -lt "$LAST" ] || exit 12\nexec {which("rsync")} "$@"\n'
    )
    (bin_ / "rsync").chmod(0o755)
    last = 1
    while (mirror_host / "images.txt").read_bytes() == old:
        counter = tmp_path / f"count-{last}"
        under = ["env", f"PATH={bin_}:{os.environ['PATH']}", f"COUNT={counter}", f"LAST={last}"]
        begin(site, mirror_host, under=under).communicate(timeout=TIMEOUT)
        last += 1
    assert last > 8
    assert b"app:v2" in (mirror_host / "images.txt").read_bytes()
    assert (mirror_host / "v2/app/manifests/v2").is_symlink()
    assert "v2" in (mirror_host / "v2/app/tags/list").read_text()


def test_a_list_of_images_of_the_operators_is_not_carried(images: Path, site: Path, mirror_host: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / "images.txt").write_text("mine\n")
    (site / "images.txt.asc").write_text("signs mine")
    mirror(site, mirror_host)
    assert sorted(os.listdir(mirror_host)) == ["Caddyfile", "index.html", "nginx.conf", "v2"]


OLDER_PAGE = sealed(SOURCE.read_text().replace("Choose a repository", "Choose one"))


def test_the_page_arrives_is_replaced_and_goes(images: Path, site: Path, mirror_host: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    assert mirror(site, mirror_host).stderr == ""
    there = mirror_host / "index.html"
    assert there.read_bytes() == (site / "index.html").read_bytes()
    before = there.stat()
    mirror(site, mirror_host)
    assert os.path.samestat(there.stat(), before)
    there.write_text(OLDER_PAGE)
    os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))
    mirror(site, mirror_host)
    assert there.read_bytes() == (site / "index.html").read_bytes()
    export(images, site, "--no-html")
    mirror(site, mirror_host)
    assert sorted(os.listdir(mirror_host)) == ["Caddyfile", "images.txt", "nginx.conf", "v2"]
    assert verify(mirror_host) == ""


@pytest.mark.parametrize("kind", ["file", "changed", "link", "link to nowhere", "directory", "fifo"])
@pytest.mark.parametrize("options", [(), ("--no-html",)], ids=" ".join)
def test_an_operators_own_page_stays_on_the_mirror(
    images: Path, site: Path, mirror_host: Path, kind: str, options: tuple[str, ...]
) -> None:
    """A website may be in the same directory there, and its pages beside it."""
    write_image(images / "app/v1")
    export(images, site, *options)
    mirror_host.mkdir()
    there = mirror_host / "index.html"
    (mirror_host / "home.html").write_text("hello")
    if kind == "directory":
        there.mkdir()
        (there / "index.html").write_text("hello")
    elif kind == "fifo":
        os.mkfifo(there)
    elif kind in ("file", "changed"):
        there.write_text("hello" if kind == "file" else f"{SOURCE.read_text()}<!-- ours -->\n")
    else:
        there.symlink_to("nowhere" if "nowhere" in kind else "home.html")
    before = there.lstat()
    for _ in range(2):
        mirror(site, mirror_host)
        assert (there.lstat().st_ino, there.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert (mirror_host / "home.html").read_text() == "hello"
    assert kind != "directory" or (there / "index.html").read_text() == "hello"


def test_an_operators_own_page_is_not_carried(images: Path, site: Path, mirror_host: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / "index.html").write_text("hello")
    mirror(site, mirror_host)
    assert sorted(os.listdir(mirror_host)) == ["Caddyfile", "images.txt", "nginx.conf", "v2"]


def test_a_run_waits_for_an_export_but_not_for_another_run(images: Path, site: Path, mirror_host: Path) -> None:
    """No snapshot is taken while an export holds the site, and a message says so."""
    build(images, "app/1", 1)
    export(images, site)
    with (site / ".scr-export/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = begin(site, mirror_host)
        assert process.stderr
        assert process.stderr.readline() == "mirror: waiting for an export to finish\n"
        assert "another run" in mirror(site, mirror_host, status=3).stderr
        assert not mirror_host.exists()
    end(process)
    assert_whole(mirror_host)


def test_a_failed_run_says_what_to_do(images: Path, site: Path, tmp_path: Path) -> None:
    """The message of rsync comes first, then the step that failed, and that all tags are whole."""
    build(images, "app/1", 1)
    export(images, site)
    messages = mirror(site, tmp_path / "missing/parent", status=1).stderr
    assert "rsync" in messages
    assert messages.splitlines()[-1].startswith(
        "mirror: stopped while sending content. All tags on the mirror are whole"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["site"],
        ["--inplace", "site", "to"],
        ["-vn", "site", "to"],
        ["-T", "/tmp", "site", "to"],
        ["a", "-v"],
        ["a", ""],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str]) -> None:
    """Exit status 2, also for an option of rsync that would break the promise."""
    assert mirror(*arguments, status=2).stderr


def test_help_is_printed() -> None:
    """It is the comment at the top of the script."""
    messages = mirror("--help").stdout
    assert messages.startswith("Carry a site")
    assert "#" not in messages


def test_a_directory_that_is_no_site_is_refused(tmp_path: Path) -> None:
    """So two arguments in the wrong order do no harm."""
    (tmp_path / "v2").mkdir()
    assert "not a site" in mirror(tmp_path, tmp_path / "to", status=1).stderr
    assert not (tmp_path / "to").exists()
