"""Run `examples/mirror`, and an rsync daemon or sshd on 127.0.0.1 for it."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.forked import TIMEOUT
from tests.support.runner import start, wait
from tests.support.servers import HOST, free_port

MIRROR = Path(__file__).parents[2] / "examples/mirror"

Ended = subprocess.CompletedProcess[str]


def begin(*arguments: str | Path, under: Sequence[str | Path] = ()) -> subprocess.Popen[str]:
    """Start a mirror run, in a process group of its own; `under` is a program that runs it."""
    return subprocess.Popen(
        [*under, MIRROR, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], status: int = 0) -> Ended:
    """Wait for a run, which must end with this status."""
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, stderr
    return Ended(process.args, process.returncode, stdout, stderr)


def mirror(*arguments: str | Path, status: int = 0) -> Ended:
    """Run it to its end."""
    return end(begin(*arguments), status)


def age(site: Path) -> None:
    """Move the time of the last removal into the past, so that the next complete run removes content."""
    for stamp in site.glob(".scr-export/mirror/*/removed"):
        os.utime(stamp, (0, 0))


def verify(site: Path) -> str:
    """What `scr-export verify` says of a sound site on standard error: warnings."""
    ended = wait(start("verify", site))
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Send a signal to the shell and every rsync of a run."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.communicate()


def build(images: Path, tag: str, seed: int) -> None:
    """Put an image of 100 kB, which shares its layers with those of eight neighbouring seeds, under a tag."""
    write_image(images / tag, seed=seed, layer_size=50_000, share_layers_of=seed // 8)


@contextlib.contextmanager
def rsync_daemon(path: Path, *module: str) -> Iterator[int]:
    """An rsync daemon whose one module, `site`, is `path`; more lines of the module. Gives the port."""
    home = path.parent / f"rsyncd-{time.monotonic_ns()}"
    home.mkdir()
    path.mkdir(exist_ok=True)
    owner = ["uid = root", "gid = root"] if os.geteuid() == 0 else ["use chroot = no"]
    port = free_port()
    lines = [f"address = {HOST}", *owner, "[site]", f"path = {path}", "read only = no", *module]
    (home / "conf").write_text("".join(f"{line}\n" for line in lines))
    command = ["rsync", "--daemon", "--no-detach", f"--port={port}", f"--config={home}/conf", f"--log-file={home}/log"]
    with _listening(command, port, home / "log"):
        yield port


@contextlib.contextmanager
def sshd(home: Path) -> Iterator[str]:
    """A real sshd that lets this user in by a key. Gives the `ssh` command that reaches it."""
    home.mkdir()
    home.chmod(0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key], check=True)
    (home / "user.pub").rename(home / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it does not start without
    port = free_port()
    options = {
        "ListenAddress": f"{HOST}:{port}",
        "HostKey": f"{home}/host",
        "AuthorizedKeysFile": f"{home}/authorized",
        "PidFile": "none",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (home / "conf").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    (home / "client").write_text(
        f"IdentityFile {home}/user\nUserKnownHostsFile {home}/known\nStrictHostKeyChecking accept-new\nBatchMode yes\n"
    )
    with _listening(["/usr/sbin/sshd", "-D", "-f", f"{home}/conf", "-E", f"{home}/log"], port, home / "log"):
        yield f"ssh -F {home}/client -l {getpass.getuser()} -p {port}"


@contextlib.contextmanager
def _listening(command: list[str], port: int, log: Path) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + TIMEOUT
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not listen: {log.read_text() if log.exists() else ''}", pytrace=False)
            with suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
                break
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)
