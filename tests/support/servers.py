"""The real nginx and the real Caddy, each with a configuration of its own and a free port of 127.0.0.1.

When the tests run as root, what serves is the user `nobody`, since a web server is another user than the one who
exports; so let the site and `tmp` be in an `open_directory`. Below a directory that is closed to others, as those
of pytest are, it is root. `SCR_TEST_NGINX` and `SCR_TEST_CADDY` name other programs than those of the PATH.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

HOST = "127.0.0.1"
PASSWORD = "o2-krab"
HASHED = "$2b$04$abcdefghijklmnopqrstuuTrDhGenw.9pHNR9/HJyo79uP2TC8BTi"  # by bcrypt, in its fewest rounds
_SECONDS = 20  # in which a server starts, or ends
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_NOBODY = pwd.getpwnam("nobody")
_SEVERE = re.compile(r'.*(?:\[(?:error|crit|alert|emerg)\]|"level":"(?:error|panic|fatal)").*')
_LOUD = re.compile(r'.*(?:\[(?:warn|error|crit|alert|emerg)\]|"level":"(?:warn|error|panic|fatal)").*')

Configuration = Callable[[int], str]

_APACHE = """ServerRoot {{directory}}
PidFile {{directory}}/pid
ErrorLog {{directory}}/errors
ServerName localhost
Listen {host}:{port}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule cache_module /usr/lib/apache2/modules/mod_cache.so
LoadModule cache_disk_module /usr/lib/apache2/modules/mod_cache_disk.so
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs until `stop`, or to the end of a `with`."""

    name: str
    port: int
    log_file: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The start of every URL."""
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        """What it has written to its error log."""
        return self.log_file.read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        """The lines of its log that are of level error or above."""
        return _SEVERE.findall(self.log)

    def above_notice(self, start: int = 0) -> list[str]:
        """The lines of its log, from a position on, that are above the level of a notice."""
        return _LOUD.findall(self.log[start:])

    def stop(self) -> None:
        """End it; it is gone when this returns."""
        self.process.terminate()
        try:
            self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextlib.contextmanager
def open_directory(where: str | None = None) -> Iterator[Path]:
    """A temporary directory that every user may enter; `/dev/shm` is in memory, where many files go quickly."""
    with tempfile.TemporaryDirectory(prefix="scr-export-", dir=where) as name:
        directory = Path(name).resolve()
        directory.chmod(0o755)
        yield directory


def start_nginx(site: Path, tmp: Path, *, server: str = "", http: str = "") -> Server:
    """Run nginx with the site alone, or with what `server` says in its server{}; `http` is what stands beside that."""
    block = server or f"root {site}; include {site}/nginx.conf;"
    return run_nginx(
        tmp, lambda port: f"events {{ }}\nhttp {{\n{http}\nserver {{ listen {HOST}:{port};\n{block}\n}}\n}}\n"
    )


def start_caddy(site: Path, tmp: Path, *, server: str = "", beside: str = "") -> Server:
    """Run Caddy with the site alone, or with what `server` says in its site block; `beside` are other blocks."""
    block = server or f"root * {site}\nimport {site}/Caddyfile"
    options = "{\nadmin off\nauto_https off\n}\n"
    return run_caddy(tmp, lambda port: f"{options}http://:{port} {{\nbind {HOST}\n{block}\n}}\n{beside}\n")


START: Mapping[str, Callable[..., Server]] = {"nginx": start_nginx, "caddy": start_caddy}


def run_nginx(tmp: Path, configuration: Configuration) -> Server:
    """Run nginx with a whole configuration, to which only the places of its own files are added."""

    def command(directory: Path, text: str) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
        config = directory / "nginx.conf"
        config.write_text(text.replace("http {\n", f"http {{\n{own}", 1))
        main = [f"pid {directory}/pid;", f"error_log {directory}/log notice;", "daemon off;"]
        if os.geteuid() == 0:
            group = grp.getgrgid(_NOBODY.pw_gid).gr_name
            main.append(f"user nobody {group};" if _is_open(directory) else "user root;")
        return ["nginx", "-p", str(directory), "-c", str(config), "-g", " ".join(main)]

    return _run(tmp, configuration, command, drop=False)


def run_caddy(tmp: Path, configuration: Configuration) -> Server:
    """Run Caddy with a whole configuration."""

    def command(directory: Path, text: str) -> list[str]:
        config = directory / "Caddyfile"
        config.write_text(text)
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]

    return _run(tmp, configuration, command, drop=True)


def run_apache(tmp: Path, configuration: str) -> Server:
    """Run Apache as a cache; `{directory}` in the configuration is a directory of its own."""

    def command(directory: Path, text: str) -> list[str]:
        config = directory / "apache.conf"
        config.write_text(text.replace("{directory}", str(directory)))
        return ["apache2", "-f", str(config), "-D", "FOREGROUND"]

    return _run(tmp, lambda port: f"{_APACHE.format(host=HOST, port=port)}{configuration}", command, drop=True)


def run_varnish(tmp: Path, configuration: str) -> Server:
    """Run Varnish with a configuration of its own language."""

    def command(directory: Path, text: str) -> list[str]:
        listening, _, vcl = text.partition("\n")
        (directory / "default.vcl").write_text(vcl)
        jail = ["-j", "none"]
        return ["varnishd", "-F", *jail, "-a", listening, "-f", f"{directory}/default.vcl", "-n", str(directory)]

    return _run(tmp, lambda port: f"{HOST}:{port}\n{configuration}", command, drop=True)


def run_docker_registry(tmp: Path, storage: Path) -> Server:
    """Run Debian's docker-registry, which keeps in `storage` what is pushed to it."""

    def command(directory: Path, text: str) -> list[str]:
        (directory / "config.yml").write_text(text)
        return ["docker-registry", "serve", str(directory / "config.yml")]

    def configuration(port: int) -> str:
        kept = {"filesystem": {"rootdirectory": str(storage)}}
        log = {"level": "error", "accesslog": {"disabled": True}}
        return json.dumps({"version": 0.1, "log": log, "storage": kept, "http": {"addr": f"{HOST}:{port}"}})

    return _run(tmp, configuration, command, drop=False)


def free_port() -> int:
    """A port of 127.0.0.1 that is free."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


def _run(tmp: Path, configuration: Configuration, command: Callable[[Path, str], list[str]], *, drop: bool) -> Server:
    for _ in range(3):  # another process may take the port meanwhile
        port = free_port()
        directory = _own_directory(tmp)
        arguments = command(directory, configuration(port))
        with (directory / "log").open("ab") as log:
            process = _spawn(arguments, directory, log.fileno(), drop=drop)
        server = Server(arguments[0], port, directory / "log", process)
        if _listens(server):
            return server
        server.stop()
    pytest.fail(f"{server.name} does not start:\n{server.log}", pytrace=False)


def _own_directory(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="server-", dir=tmp))
    directory.chmod(0o755)
    if os.geteuid() == 0 and _is_open(directory):
        os.chown(directory, _NOBODY.pw_uid, _NOBODY.pw_gid)
    return directory


def _is_open(directory: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in [directory, *directory.parents])


def _spawn(arguments: list[str], directory: Path, log: int, *, drop: bool) -> subprocess.Popen[bytes]:
    """nginx drops root by itself; Caddy is started without it, by `drop`."""
    drop = drop and os.geteuid() == 0 and _is_open(directory)
    own = {name: str(directory) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return subprocess.Popen(
        [_program(arguments[0]), *arguments[1:]],
        cwd="/",
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        user=_NOBODY.pw_uid if drop else None,
        group=_NOBODY.pw_gid if drop else None,
        extra_groups=[] if drop else None,
    )


def _program(name: str) -> str:
    program = shutil.which(os.environ.get(f"SCR_TEST_{name.upper()}", name), path=_PATH)
    if program is None:
        package = {"apache2": "apache2-bin", "varnishd": "varnish"}.get(name, name)
        pytest.fail(f"{name} is missing: apt-get install {package}", pytrace=False)
    return program


def _listens(server: Server) -> bool:
    deadline = time.monotonic() + _SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, server.port)):
            return True
        time.sleep(0.01)
    return False
