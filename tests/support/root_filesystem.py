"""A bare Debian in a directory of its own: what debootstrap makes, and what was copied into it.

A command inside has mount and process namespaces of its own. So whatever it mounts and starts is gone when it ends,
however it ends, and the directory can be removed without reaching anything of the host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIRROR = os.environ.get("SCR_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
_CACHE = Path(os.environ.get("SCR_TEST_CACHE") or Path.home() / ".cache/scr-export-tests")
_FRESH = 7 * 86_400  # seconds for which an archive of a release is used again
_CERTIFICATES = "/certificates-of-the-host.pem"
# A program that enters a mount namespace leaves a chroot, so the directory becomes the root of the mounts.
# The first process is a shell, since it takes the exit status of daemons that lost their parent, as an init does.
_ENTER = """
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
pivot_root . .
umount -l .
cd /
"$@" || exit $?
"""


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """A root file system that commands run in."""

    directory: Path

    def run(self, script: str, *, user: str = "root", timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run lines of bash as a login of this user has them; both streams are in `stdout`."""
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["sh", "-euc", _ENTER, str(self.directory)]
        command += ["su", "-", user, "-w", ",".join(passed_on()), "-c", script]
        return subprocess.run(
            command,
            env=os.environ | passed_on() | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def copy(self, checkout: Path, destination: str) -> None:
        """Copy a checkout into a directory inside, without what was made in it."""
        made = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".coverage*", "demo-site")
        shutil.copytree(checkout, self.directory / destination.lstrip("/"), symlinks=True, ignore=made)


@contextlib.contextmanager
def bare_debian(suite: str) -> Iterator[RootFilesystem]:
    """A new root file system of a release, as `debootstrap --variant=minbase` makes it, with the host's network."""
    with tempfile.TemporaryDirectory(prefix=f"scr-export-{suite}-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        subprocess.run(["tar", "-xf", _archive(suite), "-C", directory], check=True)
        for file in ("/etc/resolv.conf", "/etc/hosts"):
            shutil.copyfile(file, f"{directory}{file}")
        certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
        if certificates:
            shutil.copyfile(certificates, f"{directory}{_CERTIFICATES}")
        yield RootFilesystem(directory)


def _archive(suite: str) -> Path:
    """What debootstrap made less than a week ago, or makes now."""
    archive = _CACHE / f"debian-{suite}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < _FRESH:
        return archive
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        made, packed = Path(name, "root"), Path(name, "tar")
        done = subprocess.run(["debootstrap", "--variant=minbase", suite, made, MIRROR], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        subprocess.run(["tar", "-cf", packed, "-C", made, "."], check=True)
        shutil.copyfile(packed, f"{archive}.new")
    Path(f"{archive}.new").replace(archive)
    return archive


def passed_on() -> dict[str, str]:
    """What this machine's way to the package registries needs: proxies, and the authorities that it trusts."""
    names = [name for name in os.environ if name.lower().endswith("_proxy") or name in ("PIP_INDEX_URL", "GOPROXY")]
    passed = {name: os.environ[name] for name in names}
    if os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"):
        passed |= {"PIP_CERT": _CERTIFICATES, "SSL_CERT_FILE": _CERTIFICATES}
    return passed or {"LC_ALL": "C.UTF-8"}
