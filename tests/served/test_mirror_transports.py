"""`examples/mirror` from every kind of source, by every kind of line, to every kind of destination."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest

from scr_export import text
from tests.support.mirroring import age, begin, build, end, kill, mirror, rsync_daemon, sshd, verify
from tests.support.mounts import needs_root
from tests.support.runner import Report, assert_pullable, assert_whole, export, registry, run
from tests.support.servers import HOST
from tests.support.waiting import wait_until

FOLLOWED = "munge symlinks = no"


@pytest.fixture
def site(images: Path, site: Path) -> Path:
    """A site with two repositories that share a blob."""
    build(images, "app/1", 1)
    build(images, "team/app/1", 2)
    export(images, site)
    return site


def move_a_tag(images: Path, site: Path) -> None:
    build(images, "app/1", 9)
    export(images, site)


def wait_for_a_blob(there: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a mirror run has begun to send content."""
    wait_until(lambda: any(there.glob("v2/*/blobs/*")), process)


@pytest.mark.parametrize(
    "module",
    [
        ["use chroot = no", FOLLOWED],
        ["use chroot = no", FOLLOWED, "write only = yes"],
        pytest.param(["use chroot = yes"], marks=needs_root),
    ],
    ids=" ".join,
)
def test_an_rsync_daemon_takes_the_site(images: Path, site: Path, mirror_host: Path, module: list[str]) -> None:
    with rsync_daemon(mirror_host, *module) as port:
        mirror("--bwlimit=20m", site, f"rsync://{HOST}:{port}/site")
        assert registry(mirror_host) == registry(site)
        move_a_tag(images, site)
        mirror("--port", str(port), site, f"{HOST}::site")
        assert_whole(mirror_host)
        assert not list(mirror_host.glob("v2/.*"))
        mirror("--port", str(port), site, f"{HOST}::site/below")
    assert registry(mirror_host / "below") == registry(site)
    assert len(list(site.glob(".scr-export/mirror/to-*"))) == 2


def test_a_daemon_that_cannot_be_read_from_gets_a_page_where_none_is(site: Path, mirror_host: Path) -> None:
    with rsync_daemon(mirror_host, "use chroot = no", FOLLOWED, "write only = yes") as port:
        destination = f"rsync://{HOST}:{port}/site"
        assert mirror(site, destination).stderr == ""
        assert (mirror_host / "index.html").read_bytes() == (site / "index.html").read_bytes()
        (mirror_host / "index.html").write_text("hello")
        mirror(site, destination)
        assert (mirror_host / "index.html").read_text() == "hello"


@pytest.mark.parametrize(
    "module",
    [["use chroot = no"], [FOLLOWED, "fake super = yes"], ["use chroot = no", "munge symlinks = yes"]],
    ids=" ".join,
)
def test_a_daemon_that_rewrites_links_is_reported_before_a_tag_changes(
    images: Path, site: Path, mirror_host: Path, module: list[str]
) -> None:
    """Also where the mirror worked before; it still does, and the remedy repairs it."""
    with rsync_daemon(mirror_host, *module) as port:
        destination = f"rsync://{HOST}:{port}/site"
        first = mirror(site, destination, status=1).stderr
        assert "munge symlinks = no" in first.splitlines()[-2]
        assert registry(mirror_host) == "v2/\n"
    mirror(site, mirror_host)
    names = {path: os.readlink(path) for path in mirror_host.rglob("*") if path.is_symlink()}
    move_a_tag(images, site)
    with rsync_daemon(mirror_host, *module) as port:
        messages = mirror(site, f"rsync://{HOST}:{port}/site", status=1).stderr
        assert "no tag there was changed" in messages
        assert {path: os.readlink(path) for path in mirror_host.rglob("*") if path.is_symlink()} == names
        assert_whole(mirror_host)
        assert verify(mirror_host) == ""
    with rsync_daemon(mirror_host, FOLLOWED) as port:
        mirror(site, f"rsync://{HOST}:{port}/site")
    assert_whole(mirror_host)


def test_links_that_a_daemon_rewrote_are_repaired(site: Path, mirror_host: Path) -> None:
    with rsync_daemon(mirror_host, "use chroot = no") as port:
        subprocess.run(["rsync", "-aH", "--exclude=.*", f"{site}/", f"rsync://{HOST}:{port}/site"], check=True)
    assert os.readlink(mirror_host / "v2/app/manifests/1").startswith("/rsyncd-munged/")
    with rsync_daemon(mirror_host, "use chroot = no", FOLLOWED) as port:
        mirror(site, f"rsync://{HOST}:{port}/site")
    assert registry(mirror_host) == registry(site)


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        (["read only = yes"], "mend what is said above, then run the same command again"),
        (["refuse options = delete"], "mend what is said above, then run the same command again"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_refusal_of_a_daemon_is_reported_with_a_remedy(
    site: Path, mirror_host: Path, module: list[str], remedy: str
) -> None:
    with rsync_daemon(mirror_host, "use chroot = no", FOLLOWED, *module) as port:
        messages = mirror(site, f"rsync://{HOST}:{port}/site", status=1).stderr
    assert messages.splitlines()[-1].startswith("mirror: stopped while ")
    assert messages.splitlines()[-1].endswith(f"All tags on the mirror are whole; {remedy}.")
    assert "rsync" in messages
    assert_pullable(mirror_host)


def test_a_lost_connection_is_reported_with_the_advice_to_run_again(site: Path, tmp_path: Path) -> None:
    with rsync_daemon(tmp_path / "there") as port:
        pass
    messages = mirror(site, f"rsync://{HOST}:{port}/site", status=1).stderr.splitlines()[-1]
    assert "run the same command again to go on" in messages
    assert "mend what is said above" in messages


def test_an_interrupted_run_says_how_to_continue(site: Path, images: Path, mirror_host: Path) -> None:
    """It leaves no snapshot behind, which would hold content on this host."""
    build(images, "app/1", 9)
    export(images, site)
    process = begin("--bwlimit=60", site, mirror_host)
    wait_for_a_blob(mirror_host, process)
    assert list(site.glob(".scr-export/mirror/*/run/new"))
    os.killpg(process.pid, 15)
    messages = end(process, 143).stderr
    assert messages.splitlines()[-1].endswith("All tags on the mirror are whole; run the same command again to go on.")
    assert not list(site.glob(".scr-export/mirror/*/run"))
    assert "transfer" in verify(mirror_host) or not mirror_host.joinpath("v2/_catalog").exists()


@pytest.mark.parametrize("path", ["mirror", "a mirror with spaces"])
def test_a_real_sshd_takes_the_site(images: Path, site: Path, tmp_path: Path, path: str) -> None:
    there = tmp_path / path
    with sshd(tmp_path / "sshd") as ssh:
        mirror("-e", ssh, site, f"{HOST}:{there}")
        assert registry(there) == registry(site)
        move_a_tag(images, site)
        process = begin("-ve", ssh, "--bwlimit=60", site, f"{HOST}:{there}/")
        wait_until(lambda: [path for path in there.glob("v2/*/blobs/*") if path.name.startswith(".")], process)
        kill(process)
        assert_pullable(there)
        verify(there)
        ended = mirror(f"--rsh={ssh}", "--timeout=60", site, f"{HOST}:{there}/.")
        assert ended.stderr == ""
    assert_whole(there)
    assert len(list(site.glob(".scr-export/mirror/to-*"))) == 1


def test_a_mirror_of_a_mirror_is_the_site(site: Path, images: Path, tmp_path: Path) -> None:
    """Three hosts in a row, each of which only knows the one before; removals reach all of them."""
    chain = [site, *(tmp_path / name for name in "abc")]
    for _ in range(3):
        for here, there in itertools.pairwise(chain):
            mirror(here, there)
            age(here)
            assert_whole(there)
            verify(there)
        build(images, "team/app/2", 17)
        shutil.rmtree(images / "app", ignore_errors=True)
        export(images, site, "--grace=0")
    for here, there in itertools.pairwise(chain):
        for _ in range(2):
            age(here)
            mirror(here, there)
    assert registry(chain[-1]) == registry(site)


def without_notes(site: Path, elsewhere: Path) -> Path:
    """A site as it comes from a tar file."""
    shutil.copytree(site, elsewhere, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    return elsewhere


def test_unfinished_files_of_a_transfer_are_not_carried(site: Path, tmp_path: Path) -> None:
    disk = without_notes(site, tmp_path / "disk")
    for directory in ("v2/.transfer", "v2/app/blobs/.partial", "v2/_pages@0/.partial"):
        (disk / directory).mkdir(parents=True)
        (disk / directory / "sha256:0").touch()
    [manifest] = disk.glob("v2/app/manifests/*@*")
    for file in ("blobs/.sha256:0.Ab12Cd", f"manifests/{manifest.name}/.{manifest.name}.Ab12Cd", "manifests/.1.Ab12Cd"):
        (disk / "v2/app" / file).touch()
    mirror(disk, tmp_path / "there")
    assert [path for path in (tmp_path / "there").rglob("*") if path.name.startswith(".")] == []
    assert_whole(tmp_path / "there")


def test_a_snapshot_consists_of_hard_links(site: Path, tmp_path: Path) -> None:
    """Its files are those of the site, where an export wrote it and where it was carried to."""
    for source in (site, without_notes(site, tmp_path / "disk")):
        there = tmp_path / f"to-{source.name}"
        process = begin("--bwlimit=60", source, there)
        wait_for_a_blob(there, process)
        [new] = source.glob(".scr-export/mirror/*/run/new")
        files = [path for path in new.rglob("*") if path.is_file() and not path.is_symlink()]
        assert len(files) > 10
        for path in files:
            assert path.samefile(source / path.relative_to(new))
        kill(process)


READ_ONLY = [
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount --bind "$0" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"',
]


@needs_root
@pytest.mark.parametrize("notes", [True, False])
def test_a_site_on_a_read_only_disk_is_carried(
    site: Path, images: Path, tmp_path: Path, mirror_host: Path, monkeypatch: pytest.MonkeyPatch, notes: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    disk = tmp_path / "mounted"
    disk.mkdir()
    for _ in range(2):
        source = site if notes else without_notes(site, tmp_path / f"disk-{len(os.listdir(tmp_path))}")
        before = sorted(source.rglob("*"))
        end(begin(disk, mirror_host, under=[*READ_ONLY, source, disk]))
        assert sorted(source.rglob("*")) == before
        assert_whole(mirror_host)
        move_a_tag(images, site)
    [store] = (tmp_path / "home/.local/state/scr-export/mirror").iterdir()
    assert (store / "destination").read_text() == f"{mirror_host}\n"
    assert not (store / "run").exists()


@pytest.fixture
def swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path, int], None]:
    """Let the registries of two sites change places just before a run calls rsync for the given time."""
    rsync = tmp_path / "bin/rsync"
    rsync.parent.mkdir()
    monkeypatch.setenv("PATH", f"{rsync.parent}:{os.environ['PATH']}")
    program = which("rsync", path=os.environ["PATH"].partition(":")[2])

    def arrange(one: Path, other: Path, call: int) -> None:
        calls = tmp_path / "calls"
        calls.write_text("")
        rsync.write_text(
            f'#!/bin/sh\necho >>{calls}\nif [ "$(wc -l <{calls})" = {call} ]; then\n'
            f"mv {one}/v2 {tmp_path}/v2 && mv {other}/v2 {one}/v2 && mv {tmp_path}/v2 {other}/v2\nfi\n"
            f'exec {program} "$@"\n'
        )
        rsync.chmod(0o755)

    return arrange


@pytest.mark.parametrize("read_only", [False, pytest.param(True, marks=needs_root)])
def test_a_site_is_carried_whole_while_another_transfer_changes_it(
    site: Path,
    images: Path,
    tmp_path: Path,
    swap: Callable[[Path, Path, int], None],
    monkeypatch: pytest.MonkeyPatch,
    read_only: bool,
) -> None:
    """No lock shows it. Either of the two states arrives whole."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    old = without_notes(site, tmp_path / "old")
    move_a_tag(images, site)
    new = without_notes(site, tmp_path / "new")
    disk = tmp_path / "mounted"
    disk.mkdir()
    refused = 0
    for call in range(1, 9):
        there = tmp_path / f"there-{call}"
        swap(old, new, call)
        process = begin(disk, there, under=[*READ_ONLY, old, disk]) if read_only else begin(old, there)
        messages = process.communicate(timeout=60)[1]
        if process.returncode:
            assert "changed meanwhile, no tag on the mirror did; run the same command again" in messages
            assert not list(there.glob("v2/*/tags/list"))
            refused += 1
        else:
            assert_whole(there)
    assert refused == (4 if read_only else 0)


@pytest.mark.parametrize("first", [True, False])
def test_verify_finds_no_fault_after_any_interrupted_transfer(
    site: Path, images: Path, tmp_path: Path, mirror_host: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """rsync fails at its third call, then at its fourth, and so on: what follows the snapshot."""
    rsync, calls = tmp_path / "bin/rsync", tmp_path / "calls"
    rsync.parent.mkdir()
    rsync.write_text(f'#!/bin/sh\necho >>{calls}\n[ "$(wc -l <{calls})" -lt "$LAST" ] && exec {which("rsync")} "$@"\n')
    rsync.chmod(0o755)
    steps = 0
    for last in itertools.count(4):
        if first:
            shutil.rmtree(mirror_host, ignore_errors=True)
        else:
            mirror(site, mirror_host)
            age(site)
            build(images, "app/1", last)
            (images / f"team-{last - 1}").rename(images / f"team-{last}") if last > 4 else build(images, "team-4/x", 4)
            export(images, site, "--grace=0")
        calls.write_text("")
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{rsync.parent}:{os.environ['PATH']}")
            patch.setenv("LAST", str(last))
            process = begin(site, mirror_host)
            messages = process.communicate(timeout=60)[1]
        if process.returncode == 0:
            break
        assert "run the same command again" in messages
        assert_pullable(mirror_host)
        assert "unfinished" in verify(mirror_host)
        steps += 1
    assert steps >= 7


SPELT = {
    "a path": ["PATH", "PATH/", "PATH//", "PATH/.", "./there", "there", "link", "link/", "PATH/../there"],
    "ssh": ["host:PATH", "host:PATH/", "HOST:/PATH", "me@host:PATH", "you@host:PATH/./"],
    "IPv6": ["[::1]:PATH", "me@[::1]:PATH/", "[::1]:PATH/."],
}
APART = [
    ("PATH/a/b", "PATH/a_b"),
    ("PATH/a b", "PATH/a_b"),
    ("PATH/a", "PATH/A"),
    ("host:PATH/a", "PATH/a"),
    ("host:PATH/a", "other:PATH/a"),
    ("[::1]:PATH/a", "[::2]:PATH/a"),
    ("PATH/a", "PATH/a/a"),
    ("host:PATH/a", "-p 23 host:PATH/a"),
]


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A remote shell that leads to this host."""
    shell = tmp_path / "shell"
    shell.write_text(
        "#!/bin/sh\nwhile :; do case $1 in -p | -l) shift 2 ;; -*) shift ;; *) break ;; esac; done\n"
        'shift\nexec sh -c "$*"\n'
    )
    shell.chmod(0o755)
    return shell


def go(shell: Path, site: Path, spelt: str, path: Path) -> None:
    *options, destination = spelt.replace("PATH", str(path)).rpartition(" host:")[::2] if "-p" in spelt else [spelt]
    if options:
        mirror(f"--rsh={shell} {options[0]}", site, f"host:{destination}")
    else:
        mirror(f"--rsh={shell}", site, destination.replace("PATH", str(path)))


@pytest.mark.parametrize("kind", SPELT)
def test_all_spellings_of_a_destination_have_one_lock(
    site: Path, tmp_path: Path, shell: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path)
    for spelt in SPELT[kind]:
        go(shell, site, spelt, tmp_path / "there")
    assert len(list(site.glob(".scr-export/mirror/to-*"))) == 1
    assert registry(tmp_path / "there") == registry(site)


@pytest.mark.parametrize(("one", "other"), APART)
def test_two_destinations_never_share_a_lock(site: Path, tmp_path: Path, shell: Path, one: str, other: str) -> None:
    (tmp_path / "a").mkdir()
    go(shell, site, one, tmp_path)
    go(shell, site, other, tmp_path)
    assert len(list(site.glob(".scr-export/mirror/to-*"))) == 2


def test_all_spellings_of_a_daemon_have_one_lock(site: Path, mirror_host: Path) -> None:
    with rsync_daemon(mirror_host, "use chroot = no", FOLLOWED) as port:
        for spelt in (f"{HOST}:{port}/site", f"{HOST}:{port}/site/", f"me@{HOST}:{port}/site//."):
            mirror(site, f"rsync://{spelt}")
        mirror(f"--port={port}", site, f"rsync://{HOST}/site")
        mirror("--port", f"{port}", site, f"{HOST}::site/")
    assert len(list(site.glob(".scr-export/mirror/to-*"))) == 1


def test_a_finished_run_holds_no_content_of_the_site(site: Path, images: Path, mirror_host: Path) -> None:
    mirror(site, mirror_host)
    held = [path for path in site.glob(".scr-export/mirror/**/*") if path.is_file() and path.stat().st_nlink > 1]
    assert held == []
    assert not list(site.glob(".scr-export/mirror/*/run"))


def test_a_time_stamp_in_the_future_does_not_prevent_removal(site: Path, images: Path, mirror_host: Path) -> None:
    """It counts as now, so that pulls which run keep their content, and then it ages."""
    mirror(site, mirror_host)
    shutil.rmtree(images / "app")
    export(images, site, "--grace=0")
    [stamp] = site.glob(".scr-export/mirror/*/removed")
    os.utime(stamp, (2**32, 2**32))
    mirror(site, mirror_host)
    assert (mirror_host / "v2/app/blobs").exists()
    assert stamp.stat().st_mtime < 2**32
    for _ in range(2):
        age(site)
        mirror(site, mirror_host)
    assert registry(mirror_host) == registry(site)


def test_swapped_arguments_do_no_harm(site: Path, mirror_host: Path) -> None:
    mirror(site, mirror_host)
    before = registry(site)
    assert "wrong order" in mirror(mirror_host, site, status=2).stderr
    assert "not a site" in mirror(mirror_host.parent, site, status=1).stderr
    assert "one inside the other" in mirror(site, site, status=2).stderr
    assert "one inside the other" in mirror(site, f"{site}/v2/../copy", status=2).stderr
    assert registry(site) == before


@needs_root
def test_another_user_is_refused_with_the_name_of_the_owner(site: Path, tmp_path: Path, open_tmp: Path) -> None:
    carried = open_tmp / "site"
    shutil.copytree(site, carried, symlinks=True)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for mode in (0o700, 0o755):
        (carried / ".scr-export").chmod(mode)
        messages = end(begin(carried, open_tmp / "to", under=nobody), 1).stderr
        assert messages == f"mirror: {carried}/.scr-export belongs to root: run this as root\n"
    assert sorted(os.listdir(carried / ".scr-export")) == sorted(os.listdir(site / ".scr-export"))


@pytest.mark.parametrize(
    "option",
    [
        "-n",
        "-u",
        "-x",
        "-L",
        "-K",
        "-b",
        "-C",
        "-m",
        "-vL",
        "--existing",
        "--max-size=1",
        "--copy-links",
        "--munge-links",
        "--size-only",
        "--no-links",
        "--delete-excluded",
        "--link-dest=/x",
        "--exclude=x",
        "--no-such-option",
    ],
)
def test_an_option_that_could_omit_files_is_refused(site: Path, mirror_host: Path, option: str) -> None:
    assert f"rsync's {option} cannot be used" in mirror(option, site, mirror_host, status=2).stderr
    assert not mirror_host.exists()


@pytest.mark.parametrize(
    "options", [["-vz"], ["--bwlimit", "20m"], ["-i", "--stats"], ["--info=progress2"], ["-Pe", "ssh"]]
)
def test_an_option_for_the_connection_is_accepted(site: Path, mirror_host: Path, options: list[str]) -> None:
    mirror(*options, site, mirror_host)
    assert registry(mirror_host) == registry(site)


def kill_in_the_middle(site: Path, there: Path) -> None:
    """A run is killed while content is sent; its snapshot stays."""
    process = begin("--bwlimit=60", site, there)
    wait_for_a_blob(there, process)
    kill(process)


def warnings(report: Report) -> dict[str, str]:
    return {warning["path"]: warning["what"] for warning in report["warnings"] if warning["code"] == "mirror"}


def test_an_export_warns_of_content_that_an_abandoned_run_holds(site: Path, images: Path, tmp_path: Path) -> None:
    """Where to, since when, how much; the one line that it names ends it. What SITE or IMAGES has is not counted."""
    others = [tmp_path / "a", tmp_path / "b with a space"]
    for there in others:
        kill_in_the_middle(site, there)
    assert warnings(export(images, site)) == {}
    gone = {path.name: path.stat().st_size for path in (site / "v2/team/app/blobs").iterdir()}
    manifests = [path for path in site.glob("v2/team/app/manifests/*/*") if path.parent.name == path.name]
    size = sum(gone.values()) + sum(path.stat().st_size for path in manifests)
    shared = sum(size for name, size in gone.items() if (site / "v2/app/blobs" / name).exists())
    (images / "team").rename(tmp_path / "kept")
    assert warnings(export(images, site, "--grace=0")) == {}
    shutil.rmtree(tmp_path / "kept")
    process = run(images, site)
    messages = [line for line in process.stderr.splitlines() if "was killed" in line]
    assert len(messages) == len(others)
    for there in others:
        [line] = [line for line in messages if f" for {there} was killed; since 20" in line]
        assert f"holds {text.size(size - shared)} of old content" in line
        subprocess.run(line[line.index("rm -r") :], shell=True, check=True)
    assert warnings(export(images, site)) == {}
    assert not list(site.glob(".scr-export/mirror/*"))


def test_an_export_does_not_warn_of_a_running_mirror(site: Path, images: Path, mirror_host: Path) -> None:
    process = begin("--bwlimit=60", site, mirror_host)
    wait_for_a_blob(mirror_host, process)
    shutil.rmtree(images / "app")
    report = export(images, site, "--grace=0")
    assert process.poll() is None
    kill(process)
    assert warnings(report) == {}
    assert len(warnings(export(images, site))) == 1


def test_an_export_to_a_mirror_is_refused(site: Path, images: Path, tmp_path: Path) -> None:
    """Also where runs of examples/mirror left their notes."""
    carried = without_notes(site, tmp_path / "carried")
    mirror(carried, tmp_path / "next")
    before = registry(carried)
    process = run(images, carried)
    assert process.returncode == 1
    assert "a mirror of a site" in process.stderr
    assert registry(carried) == before
