"""One server process with four sites, which every request of a fuzzer may go to."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.served.fuzz.contents import Contents
from tests.served.fuzz.judge import SECRET, WEBSITE, Judge, is_well_formed
from tests.served.fuzz.wire import BrokenAnswer, Connection, Request
from tests.support import requests_table
from tests.support.http import Answer
from tests.support.servers import HOST, Server, free_port, open_directory, start_caddy, start_nginx

# what the server says of files that are not the registry's is no concern of ours
_NGINX_QUIET = "location / { log_not_found off; }"
_NGINX_WEBSITE = "gzip on; gzip_types *; gzip_min_length 1; location / { try_files $uri $uri/ =404; }"
_CADDY_WEBSITE = "encode gzip {\nminimum_length 1\nmatch {\nheader Content-Type *\n}\n}\nhandle {\nfile_server\n}"


@dataclass(frozen=True, slots=True)
class Farm:
    """A running server and the ports of its sites.

    `alone`: the site and nothing else. `beside`: a website, which has files below /v2 of its own. `guarded`: behind a
    password, on Caddy one for /v2/* only and a website that rewrites. `closed`: its root is not there.
    """

    server: Server
    ports: Mapping[str, int]
    judge: Judge

    @contextlib.contextmanager
    def connections(self) -> Iterator[Asker]:
        """One connection to each site, kept."""
        with contextlib.ExitStack() as stack:
            yield Asker({site: stack.enter_context(Connection(port)) for site, port in self.ports.items()}, self)


@dataclass(frozen=True, slots=True)
class Asker:
    """Connections to all sites."""

    connections: Mapping[str, Connection]
    farm: Farm

    def ask(self, request: Request) -> Answer:
        """The answer to a request."""
        return self.connections[request.site].ask(request)

    def faults(self, request: Request) -> list[str]:
        """What is wrong with the answer to a request."""
        try:
            answer = self.ask(request)
        except BrokenAnswer as error:
            return [str(error)] if is_well_formed(request) else []
        shown = f"{answer.status} {dict(answer.fields)} {answer.body[:200]!r}"
        faults = self.farm.judge.faults(request, answer)
        return [*faults, f"in {shown}"] if faults else []


def plant(contents: Contents) -> Path:
    """Put secrets into the site, beside it, and into a website, which is returned."""
    requests_table.plant(requests_table.Published(contents.site, "", contents.images))
    # no fault of the servers: a link to its own repository is a second name for it, files at the top are the operator's
    for name in ("v2/oci/app/manifests/to-parent", "secret.json", "nginx.conf.d"):
        (contents.site / name).unlink()
    directory = contents.site.parent
    website = directory / "website"
    for name in ("secret", ".scr-export/secret", "site/.scr-export/secret", "site/v2/secret"):
        _write(directory / name, SECRET)
    for path in ("_catalog", "index.html", "oci/app/manifests/1", "oci/app/tags/list", "secret", "_/unknown", "_/api"):
        _write(website / "v2" / path, SECRET)
    for name in ("nginx.conf", "Caddyfile", ".scr-export/secret"):
        _write(website / name, SECRET)
    _write(website / "index.html", WEBSITE)
    _write(website / "manifests/1", WEBSITE)
    return website


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o644)


@contextlib.contextmanager
def run(name: str, contents: Contents) -> Iterator[Farm]:
    """Run a server with all four sites."""
    with open_directory() as tmp:
        ports = {site: free_port() for site in ("beside", "guarded", "closed")}
        start = _nginx if name == "nginx" else _caddy
        with start(contents.site, contents.site.parent / "website", tmp, ports) as server:
            yield Farm(server, {"alone": server.port, **ports}, Judge(contents, name))


def _nginx(site: Path, website: Path, tmp: Path, ports: Mapping[str, int]) -> Server:
    (tmp / "htpasswd").write_text("user:{PLAIN}password\n")
    (tmp / "htpasswd").chmod(0o644)
    include = f"include {site}/nginx.conf;"
    bodies = {
        "beside": f"root {website}; {include} set $scr_root {site}; {_NGINX_WEBSITE}",
        "guarded": f"root {site}; auth_basic registry; auth_basic_user_file {tmp}/htpasswd; {include} {_NGINX_QUIET}",
        "closed": f"root {tmp}/none; {include} {_NGINX_QUIET}",
    }
    blocks = [f"server {{ listen {HOST}:{ports[each]}; {body} }}" for each, body in bodies.items()]
    alone = f"root {site}; {include} {_NGINX_QUIET}"
    return start_nginx(site, tmp, server=alone, http="\n".join(["access_log off;", *blocks]))


def _caddy(site: Path, website: Path, tmp: Path, ports: Mapping[str, int]) -> Server:
    program = os.environ.get("SCR_TEST_CADDY") or "caddy"
    hashing = [program, "hash-password", "--plaintext", "password"]
    hashed = subprocess.run(hashing, check=True, capture_output=True, text=True).stdout.strip()
    include = f"import {site}/Caddyfile"
    roots = f"root * {website}\nroot /v2/* {site}"
    rewrite = f"try_files {{path}} /index.html\n{include}"
    bodies = {
        "beside": f"{roots}\n{include}\n{_CADDY_WEBSITE}",
        "guarded": f"{roots}\nbasicauth /v2/* {{\nuser {hashed}\n}}\n{rewrite}\nfile_server",
        "closed": f"root * {tmp}/none\n{include}",
    }
    blocks = [f"http://:{ports[each]} {{\nbind {HOST}\n{body}\n}}" for each, body in bodies.items()]
    alone = f"root * {site}\n{include}\nfile_server"
    return start_caddy(site, tmp, server=alone, beside="\n".join(blocks))
