"""A real Ceph: one monitor, one store of objects in memory, and one gateway that speaks S3, all on loopback.

It takes half a minute to start, so only tests of `tests/run --all` use it. Its packages are in `tests/versions.sh`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.support.clients import require
from tests.support.servers import HOST, free_port
from tests.support.stores import ACCESS_KEY, S3, SECRET_KEY
from tests.support.waiting import wait_until

_SECONDS = 120  # for one command
_CONFIGURATION = """[global]
fsid = {fsid}
mon host = [v2:{host}:{v2},v1:{host}:{v1}]
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
pid file = {directory}/$name.pid
keyring = {directory}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {directory}/mon
osd data = {directory}/osd
[osd]
keyring = {directory}/osd/keyring
[client.admin]
rgw frontends = beast endpoint={host}:{gateway}
rgw data = {directory}/gateway
"""


class _Ceph:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"{HOST}:{free_port()}"
        self.processes: list[subprocess.Popen[str]] = []
        for name in ("mon", "osd", "gateway"):
            (directory / name).mkdir()
        self.ports = free_port(), free_port()
        self.fsid = str(uuid.uuid4())
        text = _CONFIGURATION.format(
            fsid=self.fsid,
            host=HOST,
            v2=self.ports[0],
            v1=self.ports[1],
            gateway=self.address.rpartition(":")[2],
            directory=directory,
        )
        (directory / "ceph.conf").write_text(text)

    def start(self) -> None:
        self._start_monitor()
        self._start_objects()
        self._daemon("radosgw", "-n", "client.admin", "-f")
        user = ["user", "create", "--uid=lab", "--display-name=lab"]
        self._run("radosgw-admin", *user, f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}")

    def _start_monitor(self) -> None:
        keyring, monmap = "keyring", "monmap"
        caps = ["--cap", "mon", "allow *"]
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *caps)
        more = ["--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps, *more)
        addresses = f"[v2:{HOST}:{self.ports[0]},v1:{HOST}:{self.ports[1]}]"
        self._run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", addresses, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a", "-f")

    def _start_objects(self) -> None:
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity)
        self._run("ceph-osd", "-i", "0", "--no-mon-config", "--mkfs", "--mkkey", "--osd-uuid", identity)
        caps = ["osd", "allow *", "mon", "allow profile osd"]
        self._run("ceph", "auth", "add", "osd.0", *caps, "-i", str(self.directory / "osd/keyring"))
        self._daemon("ceph-osd", "-i", "0", "-f")
        self._run("ceph", "osd", "crush", "add", "osd.0", "1", "host=one", "root=default")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"CEPH_CONF": f"{self.directory}/ceph.conf"}

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=_SECONDS
        )
        assert done.returncode == 0, (command, done.stderr)

    def _daemon(self, *command: str) -> None:
        with (self.directory / f"{command[0]}.out").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.processes.append(process)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()  # all is in memory
            process.wait()


@contextlib.contextmanager
def ceph(directory: Path) -> Iterator[S3]:
    """Run a Ceph with a gateway. It keeps its objects in memory, so the store has no directory of buckets."""
    require("ceph-mon", "ceph-osd", "radosgw", "ceph")
    running = _Ceph(directory)
    try:
        running.start()
        store = S3(running.address, Path(os.devnull), process=running.processes[-1])
        wait_until(store.answers, running.processes[-1], _SECONDS)
        yield store
    finally:
        running.stop()
