"""Pack a site, take a bundle apart and change it, and run `receive` as the host that it is carried to does."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.builders import write_artifact, write_image, write_index
from tests.support.forked import TIMEOUT
from tests.support.runner import start, wait

RECEIVE = Path(__file__).parents[2] / "examples/receive"

Ended = subprocess.CompletedProcess[str]
Members = dict[str, bytes]
Tree = dict[str, tuple[object, ...]]


def fill(images: Path) -> None:
    """Images of every kind."""
    write_image(images / "app/moves", seed=1)
    write_image(images / "app/goes", seed=2)
    write_image(images / "app/stays", seed=3, docker=True)
    write_image(images / "a/x", seed=4)
    write_index(images / "many/v1", seed=5)
    write_image(images / "team/deep/other", seed=6, algorithm="sha512")
    write_artifact(images / "signed/sig", seed=8, subject=write_image(images / "signed/v1", seed=7))
    for name in ("app/stays", "signed/v1"):
        (images / name / "signature-1").write_bytes(b"\0simple-signing\nfirst")
    for number in range(12):  # more than a page of ten
        write_image(images / f"shared/r{number}/v1", seed=100 + number, layers=1, share_layers_of=100)


def change(images: Path) -> None:
    """Tags move, come and go; a repository takes the place of a tag; lists of referrers change."""
    write_image(images / "app/moves", seed=11, share_layers_of=1)
    write_image(images / "app/comes", seed=1)
    shutil.rmtree(images / "app/goes")
    shutil.rmtree(images / "a/x")
    write_image(images / "a/manifests/x/v1", seed=12)
    write_image(images / "new/v1", seed=13, share_layers_of=3)
    write_image(images / "new/512", seed=14, algorithm="sha512", share_layers_of=6)
    write_artifact(images / "signed/more", seed=15, subject=write_image(images / "signed/v1", seed=7))
    (images / "signed/v1/signature-1").write_bytes(b"\0simple-signing\nanother")
    (images / "signed/v1/signature-2").write_bytes(b"\0simple-signing\nsecond")
    (images / "app/stays/signature-1").unlink()


def pack(site: Path, bundle: Path, have: str | None = None) -> Path:
    """Pack a site; `have` is what `receive --have` printed. Returns the bundle."""
    options: list[str | Path] = []
    if have is not None:
        listed = bundle.with_suffix(".have")
        listed.write_text(have)
        options = ["--have", listed]
    ended = wait(start("pack", *options, site, bundle))
    assert ended.returncode == 0, ended.stderr
    return bundle


def unpack(bundle: Path, directory: Path) -> Path:
    """Unpack a bundle into a new directory, with the command of the papers. Returns the directory."""
    directory.mkdir(parents=True)
    subprocess.run(["tar", "-xpf", bundle, "--no-same-owner", "-C", directory], check=True)
    return directory


def begin(*arguments: str | Path, shell: Sequence[str | Path] = ("dash",)) -> subprocess.Popen[str]:
    """Start `receive` in a process group of its own; `shell` is the program that runs it."""
    return subprocess.Popen(
        [*shell, RECEIVE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def receive(*arguments: str | Path, status: int = 0, shell: Sequence[str | Path] = ("dash",)) -> Ended:
    """Run `receive` to its end, which must be with this status."""
    process = begin(*arguments, shell=shell)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, stderr
    return Ended(process.args, process.returncode, stdout, stderr)


def deliver(site: Path, host: Path, name: str, *, delta: bool = True) -> Path:
    """Pack a site for what a host has, and receive it there. Returns INCOMING, which stays."""
    have = receive("--have", host).stdout if delta and host.exists() else None
    bundle = pack(site, host.with_name(f"{name}.tar"), have)
    incoming = unpack(bundle, host / ".scr-export" / name)
    receive(incoming, host)
    return incoming


def contents(site: Path) -> Tree:
    """Everything in a site but `.scr-export`: the mode and the bytes of files, the target of links."""
    found: Tree = {}
    for directory, directories, files in os.walk(site):
        if directory == str(site) and ".scr-export" in directories:
            directories.remove(".scr-export")
        for name in directories + files:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            key = str(path.relative_to(site))
            if stat.S_ISLNK(mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                found[key] = ("directory", oct(mode))
            else:
                found[key] = ("file", oct(mode), path.read_bytes())
    return found


def differences(site: Path, host: Path, *, before: Tree | None = None) -> dict[str, object]:
    """What a host has otherwise than the site, but for content that only `before` had."""
    here, there = contents(site), contents(host)
    found: dict[str, object] = {key: (there.get(key), here[key]) for key in here if there.get(key) != here[key]}
    for key in there.keys() - here.keys():
        if (before or {}).get(key) != there[key] or not _is_content(key, there[key]):
            found[key] = there[key]
    return found


def _is_content(key: str, what: tuple[object, ...]) -> bool:
    """Whether something may stay until the next delivery: no tag, no list, nothing that is named otherwise."""
    is_open = re.search("/(referrers|_sigstore)/", key) and "/_pages@" not in key
    return what[0] == "directory" or "/_pages@" in key or (what[0] == "file" and not is_open)


def members_of(archive: bytes) -> Members:
    """The members of a bundle."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def with_sums(members: Members) -> Members:
    """The same members with sums that are right, as somebody writes them who changed a bundle on purpose."""
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items() if name != "SHA256SUMS"]
    return members | {"SHA256SUMS": "".join(sums).encode()}


def lay_out(members: Members, directory: Path) -> Path:
    """Write members into a new directory."""
    for name, data in members.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


class NamesTar:
    """The `names.tar` of a bundle, to be changed."""

    def __init__(self, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            self.members = [
                (member, tar.extractfile(member).read() if member.type == tarfile.REGTYPE else b"")  # type: ignore[union-attr]
                for member in tar
            ]

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"") -> None:
        """Add a member at the end."""
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, target, len(data)
        self.members.append((member, data))

    def __bytes__(self) -> bytes:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for member, data in self.members:
                tar.addfile(member, io.BytesIO(data))
        return archive.getvalue()
