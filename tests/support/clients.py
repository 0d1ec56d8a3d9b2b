"""Real clients and their daemons, on a machine of their own that is made of namespaces.

Inside, `/run` is empty and what is written to `/etc`, `/opt` and `/var/lib` stays inside, so that each
program uses the default paths and configuration files that it has on a host of its own, and never meets the
real ones. The network is the host's: there the registries listen. When the first process inside ends (which
it does when its standard input is closed, so also when the tests are killed), the kernel kills the rest and
unmounts everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CGROUP = f"scr-export-tests-{os.getpid()}"
# Clients that are built from their sources, and their versions.
CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
ORAS = "oras.land/oras/cmd/oras@v1.3.6"
REGCTL = "github.com/regclient/regclient/cmd/regctl@v0.11.7"
HELM = "helm.sh/helm/v4/cmd/helm@v4.3.1"
COSIGN = "github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
INSTALL = {
    "buildah": "apt-get install buildah",
    "ceph": "apt-get install ceph-common",
    "ceph-mon": "apt-get install ceph-mon",
    "ceph-osd": "apt-get install ceph-osd",
    "conmon": "apt-get install conmon",
    "containerd": "apt-get install containerd",
    "ctr": "apt-get install containerd",
    "docker": "apt-get install docker.io",
    "dockerd": "apt-get install docker.io",
    "docker-registry": "apt-get install docker-registry",
    "gpg": "apt-get install gnupg",
    "go": "Go 1.26 or newer, from https://go.dev/dl/",
    "podman": "apt-get install podman",
    "radosgw": "apt-get install radosgw",
    "runc": "apt-get install runc",
    "skopeo": "apt-get install skopeo",
    "umoci": "apt-get install umoci",
    "unshare": "apt-get install util-linux",
}
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"""
# crun 1.8 refuses cgroups of both versions side by side; no limit is above those that the tests have
CONTAINERS_CONF = """
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
CONTAINERD_CONFIG = """
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"
"""
DAEMON_JSON = {
    "containerd": "/run/containerd/containerd.sock",
    "storage-driver": "vfs",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "cgroup-parent": CGROUP,
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    "ip-forward": False,
    "ip-masq": False,
}
SETUP = """
set -e
mount -t tmpfs tmpfs /run
for place in /etc /opt /var/lib; do
    mkdir -p /run/changes$place /run/work$place
    mount -t overlay -o "lowerdir=$place,upperdir=/run/changes$place,workdir=/run/work$place" overlay $place
done
for name in containers containerd docker; do
    mkdir -p /etc/$name /var/lib/$name
    mount --bind "$1/$name" /etc/$name
    mount -t tmpfs tmpfs /var/lib/$name
done
mkdir -p /run/lock
echo ready
cat
"""


def require(*programs: str) -> None:
    """Fail when a program is missing, and say what installs it."""
    missing = [f"{each} is missing: {INSTALL[each]}" for each in programs if not shutil.which(each)]
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


def go_program(package: str, directory: Path = HERE) -> Path:
    """The program of a Go package, `path@version` or `.` in a directory, built unless the cache has it.

    Where Go is missing, what needs the program is skipped, but fails in CI.
    """
    name = directory.name if package == "." else package.rpartition("/")[2].partition("@")[0]
    sources = sorted([*directory.glob("*.go"), *directory.glob("go.*")])
    recipe = hashlib.sha256(b"\0".join([package.encode(), *(each.read_bytes() for each in sources)]))
    program = _cache() / f"{name}-{recipe.hexdigest()[:16]}"
    if not program.exists():
        _require_go(name)
        _build(package, directory, name, program)
    return program


def _require_go(program: str) -> None:
    if shutil.which("go"):
        return
    reason = f"{program}: go is missing: {INSTALL['go']}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _cache() -> Path:
    cache = Path(os.environ.get("SCR_TEST_CACHE") or Path.home() / ".cache/scr-export-tests")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _build(package: str, directory: Path, name: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as building:
        done = subprocess.run(
            ["go", "install", "-trimpath", "-tags=containers_image_openpgp", package],
            cwd=directory,
            env=os.environ | {"CGO_ENABLED": "0", "GOBIN": building},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.fail(f"go install {package} failed:\n{done.stderr}", pytrace=False)
        Path(building, name).replace(program)


def run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. A status other than 0 is an error, with what it wrote to stderr."""
    done = subprocess.run(
        command, cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}"
    return done


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the clients run: `enter` is the command that starts another one inside."""

    enter: tuple[str, ...]
    etc: Path

    def run(self, *command: str) -> str:
        """What the command writes to stdout."""
        return run([*self.enter, *command], _environment()).stdout

    def wait_for(self, *command: str, seconds: float = 30) -> str:
        """What the command writes to stdout as soon as it succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.run(*command)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    @contextlib.contextmanager
    def daemon(self, program: str, *, ready: tuple[str, ...]) -> Iterator[None]:
        """Run a daemon, which is up when the command `ready` succeeds; it ends with the machine."""
        log = self.etc / f"{program}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.enter, program],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_for(*ready)
            yield
        except AssertionError as error:
            error.add_note(f"{program} wrote:\n{log.read_text()[-4000:]}")
            raise
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def machine(etc: Path) -> Iterator[Machine]:
    """A machine whose `/etc/containers`, `/etc/containerd` and `/etc/docker` are directories of `etc`."""
    require("unshare")
    if os.geteuid() != 0:
        pytest.fail("the clients need root, for their mounts and namespaces", pytrace=False)
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", SETUP, "sh", str(etc)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        answer = process.stdout.readline()
        if answer != "ready\n":
            pytest.fail(f"no namespaces or mounts here: {answer}", pytrace=False)
        namespaces = f"/proc/{process.pid}/ns"
        yield Machine(("nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid_for_children", "--"), etc)
    _remove_cgroups()


def _remove_cgroups() -> None:
    for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if CGROUP in directory:
            Path(directory).rmdir()


def _environment() -> dict[str, str]:
    """No proxy, no credentials, no other configuration than the machine's."""
    return {"PATH": os.environ["PATH"], "HOME": "/run", "CONTAINERD_SNAPSHOTTER": "native"}


def configure(etc: Path, mirrors: Mapping[str, str]) -> None:
    """Write what an administrator writes; `mirrors` says which address stands in for a registry's name."""
    for name in ("containers", "containerd", "docker"):
        (etc / name).mkdir(parents=True)
    (etc / "containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (etc / "containers/registries.conf").write_text("".join(_registry(*each) for each in mirrors.items()))
    (etc / "containers/storage.conf").write_text(STORAGE_CONF)
    (etc / "containers/containers.conf").write_text(CONTAINERS_CONF)
    (etc / "containerd/config.toml").write_text(CONTAINERD_CONFIG)
    shutil.copy(HERE / "cri.proto", etc / "containerd")
    for name, address in mirrors.items():
        hosts = etc / "containerd/certs.d" / name / "hosts.toml"
        hosts.parent.mkdir(parents=True)
        hosts.write_text(f'[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n')
    configure_docker(etc, mirrors=[])


def configure_docker(etc: Path, *, mirrors: Sequence[str]) -> None:
    """Write dockerd's configuration, with addresses that stand in for Docker Hub."""
    document = DAEMON_JSON | {"registry-mirrors": [f"http://{address}" for address in mirrors]}
    (etc / "docker/daemon.json").write_text(json.dumps(document))


def _registry(name: str, address: str) -> str:
    return f"""
        [[registry]]
        location = "{address}"
        insecure = true
        [[registry]]
        location = "{name}"
        [[registry.mirror]]
        location = "{address}"
        insecure = true
    """
