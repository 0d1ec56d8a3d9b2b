"""Run the exporter as a process of its own, and read the site that it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import scr_export
from tests.support import forked
from tests.support.builders import tree
from tests.support.forked import TIMEOUT

os.environ.pop("PYTHONUNBUFFERED", None)  # users do not have it, and it hides what a buffer does at the end
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(scr_export.__file__).parents[1]), "LC_ALL": "C.UTF-8"}

# `nohup tests/run &` ignores SIGINT, and what this process starts would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a run writes that has nothing to do: who holds the lock, and the seal.
OF_ANY_RUN = {".scr-export", ".scr-export/lock", ".scr-export/seal", ".scr-export/tmp"}

Report = dict[str, Any]
PathText = str | os.PathLike[str]


def start(
    *arguments: PathText, umask: int = -1, obedient: bool = False, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `scr-export` with these arguments, both streams piped. `obedient`: file modes bind it, also as root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if obedient and os.geteuid() == 0 else []
    return subprocess.Popen(
        [*drop, sys.executable, "-m", "scr_export", *(os.fspath(each) for each in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ENVIRONMENT if environment is None else environment,
        umask=umask,
    )


def wait(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a process, which may neither hang nor end in a traceback."""
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return sound(subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr))


def sound(ended: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Check that a process did not end in a traceback."""
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "internal error" not in ended.stderr, ended.stderr
    return ended


def run(images: PathText, site: PathText, *options: str, umask: int = -1) -> subprocess.CompletedProcess[str]:
    """Run `scr-export IMAGES SITE`, in a forked process where that is safe, since a fork is quicker."""
    if umask != -1 or threading.active_count() > 1:
        return wait(start(*options, images, site, umask=umask))
    forked.warm()
    arguments = [*options, os.fspath(images), os.fspath(site)]
    ended = forked.run(*arguments)
    return sound(subprocess.CompletedProcess(arguments, *ended))


def export(images: PathText, site: PathText, *options: str, status: int = 0, umask: int = -1) -> Report:
    """Run an export that ends with this status; its JSON report."""
    process = run(images, site, "--json", *options, umask=umask)
    assert process.returncode == status, process.stderr
    document: Report = json.loads(process.stdout)
    return document


def codes(report: Report) -> set[tuple[str, str]]:
    """Path and code of each fault in a report."""
    return {(fault["path"], fault["code"]) for fault in report["faults"]}


def listing(directory: Path, *, without: Collection[str] = ()) -> dict[str, tuple[int | str, ...]]:
    """The status of a directory and of everything below it, without access times."""
    found: dict[str, tuple[int | str, ...]] = {}
    for path in [directory, *directory.rglob("*")]:
        name = str(path.relative_to(directory))
        status = path.lstat()
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        if name not in without:
            found[name] = (
                status.st_mode,
                status.st_ino,
                status.st_nlink,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                target,
            )
    return found


def substance(directory: Path) -> dict[str, tuple[int | str | bytes, ...]]:
    """What an export must not change in IMAGES: mode, inode, size, modification time and bytes of everything."""
    found: dict[str, tuple[int | str | bytes, ...]] = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size < 2**24 else b""
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        name = str(path.relative_to(directory))
        found[name] = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, data, target)
    return found


def registry(site: Path) -> str:
    """Everything in a site but `.scr-export`, one line each: `file`, `link -> target`, `directory/`."""
    return "".join(line for line in tree(site).splitlines(True) if not line.startswith(".scr-export"))


def fresh(images: Path, tmp_path: Path) -> str:
    """The `registry` of a new site of these images."""
    directory = tmp_path / "fresh"
    shutil.rmtree(directory, ignore_errors=True)
    export(images, directory)
    return registry(directory)


def inodes(directory: Path, name: str) -> set[int]:
    """The inodes of all files with this name below a directory."""
    return {path.lstat().st_ino for path in directory.rglob(name) if not path.is_dir()}


def tags(site: Path, name: str) -> list[str]:
    """The tags that a site lists."""
    document: Report = json.loads((site / "v2" / name / "tags/list").read_bytes())
    assert document["name"] == name
    listed: list[str] = document["tags"]
    return listed


def referrers(site: Path, name: str, digest: str, artifact_type: str = "@all") -> set[str]:
    """The digests in a site's list of the referrers of a digest; `artifact_type` is the file name of a list."""
    try:
        index = json.loads((site / "v2" / name / "referrers" / digest / artifact_type).read_bytes())
    except FileNotFoundError:
        return set()
    found = [descriptor["digest"] for descriptor in index["manifests"]]
    assert found == sorted(set(found))
    return set(found)


def assert_pullable(site: Path) -> None:
    """Check that each tag of the site can be pulled whole."""
    for link in _tags(site):
        assert_manifest_pullable(link.parents[1], os.readlink(link))


def _tags(site: Path) -> list[Path]:
    """The tags of a site. Among pages a repository `a/manifests/x` has links whose paths look like tags."""
    links = (path for path in site.glob("v2/**/manifests/*") if path.is_symlink())
    return [path for path in links if "/_pages@" not in str(path.relative_to(site))]


def assert_manifest_pullable(repository: Path, name: str) -> None:
    """Check that a manifest, its children in the site, and their blobs exist and have their digests."""
    media_type, _, digest = name.partition("@")
    raw = (repository / "manifests" / name / name).read_bytes()
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    manifest = json.loads(raw)
    assert manifest.get("mediaType", f"application/{media_type}") == f"application/{media_type}"
    for child in manifest.get("manifests") or []:
        below = f"{child['mediaType'].removeprefix('application/')}@{child['digest']}"
        if (repository / "manifests" / below).exists():
            assert_manifest_pullable(repository, below)
    for blob in [*(manifest.get("layers") or []), *filter(None, [manifest.get("config")])]:
        if not blob.get("urls"):
            data = (repository / "blobs" / blob["digest"]).read_bytes()
            algorithm = blob["digest"].partition(":")[0]
            assert f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" == blob["digest"]


def assert_whole(site: Path) -> None:
    """Check that each tag of the site can be pulled whole, and that lists and their pages name exactly these tags."""
    assert_pullable(site)
    lists = [path for path in site.glob("v2/**/tags/list") if path.is_symlink()]
    links: dict[str, set[str]] = {str(path.parents[1].relative_to(site / "v2")): set() for path in lists}
    for link in _tags(site):
        links.setdefault(str(link.parents[1].relative_to(site / "v2")), set()).add(link.name)
    for name, linked in links.items():
        assert tags(site, name) == sorted(linked)
        assert_pages(site / "v2" / name / "tags", sorted(linked))
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": sorted(links)}
    assert_pages(site / "v2", sorted(links))


def assert_pages(directory: Path, entries: list[str]) -> None:
    """Check the pages of a list: one begins behind each entry, and the last one is empty."""
    assert (directory / "_pages").is_symlink()
    named = [entry for entry in entries if len(entry.rpartition("/")[2]) < 110]  # longer ones can have other names
    pages = [directory / "_pages" / f"{entry}@1" for entry in ["", *named]]
    assert [page.is_file() for page in pages] == [True] * len(pages)
    if named[-1:] == entries[-1:]:
        assert list(json.loads(pages[-1].read_bytes()).values())[-1] == []
