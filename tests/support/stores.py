"""Real S3 stores, buckets in them as a client of its own sees them, and a proxy that counts the requests of others."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import socketserver
import ssl
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.support.clients import go_program
from tests.support.servers import HOST, free_port
from tests.support.waiting import wait_until

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
ACCESS_KEY, SECRET_KEY, REGION = "lab", "labsecret123", "us-east-1"

# What a push finds in its environment: nothing of the operator's own.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "NO_PROXY": "*",
}


class Answer(NamedTuple):
    """What a store answers to one request. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class S3:
    """A store at an address. `directory` is where versitygw keeps its buckets, one directory each.

    `authority` has signed the certificate of a store with TLS. `process` is the gateway that clients speak with.
    """

    address: str
    directory: Path
    authority: Path | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"{'https' if self.authority else 'http'}://{self.address}"

    def answers(self) -> bool:
        """Tell whether it is there, and knows the credentials."""
        try:
            return self.request("GET", "/").status == 200
        except OSError:
            return False

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection for one request."""
        if self.authority:
            context = ssl.create_default_context(cafile=str(self.authority))
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13: it wants more than openssl writes
            return http.client.HTTPSConnection(self.address, timeout=20, context=context)
        return http.client.HTTPConnection(self.address, timeout=20)

    def request(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a signed request (AWS Signature Version 4)."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": digest, "x-amz-date": now}
        target = quote(path, safe="/-_.~")
        text = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted((query or {}).items()))
        signed = ";".join(headers)
        lines = [method, target, text, *(f"{name}:{value}" for name, value in headers.items()), "", signed, digest]
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(
            ["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()]
        ).encode()
        key = f"AWS4{SECRET_KEY}".encode()
        for part in (now[:8], REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},SignedHeaders={signed},"
            f"Signature={hmac.new(key, to_sign, 'sha256').hexdigest()}"
        )
        connection = self.connect()
        try:
            connection.request(method, f"{target}?{text}" if text else target, body or None, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def add_reader(self, bucket: Bucket, key: str, secret: str) -> None:
        """Make a user who may read a bucket, and nothing else."""
        admin: list[str | Path] = [
            go_program(VERSITYGW),
            "admin",
            "-a",
            ACCESS_KEY,
            "-s",
            SECRET_KEY,
            "--endpoint-url",
            self.url,
        ]
        user = ["create-user", "-a", key, "-s", secret, "-r", "user"]
        subprocess.run([*admin, *user], check=True, capture_output=True)
        bucket.allow("s3:GetObject", "s3:ListBucket", user=key)

    def bucket(self, name: str, prefix: str = "") -> Bucket:
        """Make a bucket if need be."""
        answer = self.request("PUT", f"/{name}")
        assert answer.status in (200, 409), answer
        return Bucket(self, name, f"{prefix}/" if prefix else "")


class Listed(NamedTuple):
    """An object in a listing."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """The objects of a bucket below a prefix, which is empty or ends in a slash."""

    store: S3
    name: str
    prefix: str = ""

    @property
    def url(self) -> str:
        """What a push is given."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    @property
    def directory(self) -> Path:
        """Where versitygw keeps the objects, as files."""
        return self.store.directory / self.name / self.prefix

    def list(self) -> dict[str, Listed]:
        """All objects but the exporter's own, by their keys."""
        found: dict[str, Listed] = {}
        query = {"list-type": "2", "prefix": self.prefix}
        while True:
            answer = self.store.request("GET", f"/{self.name}", query)
            assert answer.status == 200, answer
            root = ET.fromstring(answer.body)
            space = root.tag.partition("}")[0] + "}"
            for each in root.iter(f"{space}Contents"):
                key = (each.findtext(f"{space}Key") or "").removeprefix(self.prefix)
                if not key.startswith(".scr-export/"):
                    etag = each.findtext(f"{space}ETag") or ""
                    found[key] = Listed(int(each.findtext(f"{space}Size") or 0), etag.strip('"'))
            if not (token := root.findtext(f"{space}NextContinuationToken")):
                return found
            query["continuation-token"] = token

    def get(self, key: str) -> Answer:
        """Read an object."""
        return self.store.request("GET", f"/{self.name}/{self.prefix}{key}")

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        assert self.store.request("PUT", f"/{self.name}/{self.prefix}{key}", body=body).status == 200

    def allow(self, *actions: str, user: str = "*") -> None:
        """Let a user, or everybody, do this in the bucket, and nothing else."""
        resources = [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"]
        allow = {"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": actions, "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]}).encode()
        path, query = f"/{self.name}", {"policy": ""}
        answer = (
            self.store.request("PUT", path, query, policy) if actions else self.store.request("DELETE", path, query)
        )
        assert answer.status in (200, 204), answer

    def delete(self, key: str) -> None:
        """Remove an object."""
        assert self.store.request("DELETE", f"/{self.name}/{self.prefix}{key}").status == 204


@contextlib.contextmanager
def versitygw(directory: Path, tls: tuple[Path, Path, Path] | None = None) -> Iterator[S3]:
    """Run a versitygw that keeps its buckets and users in a directory, with TLS by what `make_certificate` made."""
    program = go_program(VERSITYGW)
    buckets, users = directory / "buckets", directory / "users"
    for each in (buckets, users):
        each.mkdir(exist_ok=True)
    address = f"{HOST}:{free_port()}"
    options: list[str | Path] = ["--port", address, "--iam-dir", users, "--keep-alive"]
    if tls:
        options += ["--cert", tls[1], "--key", tls[2]]
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with (directory / "versitygw.log").open("ab") as log:
        process = subprocess.Popen(
            [program, *options, "posix", buckets],
            env=os.environ | keys,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            encoding="utf-8",
        )
    store = S3(address, buckets, tls[0] if tls else None, process)
    try:
        wait_until(store.answers, process)
        yield store
    finally:
        process.terminate()
        process.wait()


def make_certificate(directory: Path) -> tuple[Path, Path, Path]:
    """Make an authority, and a certificate for this host that it signs. Return both and the latter's key."""
    authority, certificate, key = (directory / name for name in ("authority.pem", "certificate.pem", "key.pem"))
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    own: list[str | Path] = ["-subj", "/CN=lab", "-out", authority, "-keyout", directory / "authority.key"]
    subprocess.run([*made, *own], check=True, capture_output=True)
    signed: list[str | Path] = ["-CA", authority, "-CAkey", directory / "authority.key", "-out", certificate]
    names = ["-addext", f"subjectAltName=IP:{HOST}", "-addext", "basicConstraints=CA:FALSE", "-subj", f"/CN={HOST}"]
    subprocess.run([*made, *signed, *names, "-keyout", key], check=True, capture_output=True)
    return authority, certificate, key


Hook = Callable[[int, str, str], None]


@dataclass(slots=True)
class Proxy:
    """Passes requests on to a store, one at a time, and notes each.

    `before` and `after` are called with the number of a request, from 1 on, its method and its path: before it is
    passed on, and before its answer is. `only_writing`: only for requests that change something. What they raise is
    raised again at the end, and all requests are refused from then on.
    """

    store: S3
    seen: list[tuple[str, str]] = field(default_factory=list)
    before: Hook | None = None
    after: Hook | None = None
    only_writing: bool = True
    address: str = ""
    errors: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The endpoint to give to a push."""
        return f"http://{self.address}"

    @property
    def writes(self) -> list[str]:
        """What was written: paths below the bucket, in their order."""
        return [path for method, path in self.seen if method != "GET"]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    proxy: Proxy
    lock: threading.Lock


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy = self.server.proxy
        with self.server.lock:
            counts = self.command not in ("GET", "HEAD") or not proxy.only_writing
            if counts:
                proxy.seen.append((self.command, self.path))
            number = len(proxy.seen)
            try:
                if counts and proxy.before:
                    proxy.before(number, self.command, self.path)
                connection = proxy.store.connect()
                # As it came: the signature covers the host and the path.
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                if counts and proxy.after:
                    proxy.after(number, self.command, self.path)
            except _Refused as refused:
                self._answer(refused.status, {}, b"")
                return
            except BaseException as error:
                proxy.errors.append(error)
            if proxy.errors:
                self._answer(400, {}, b"")
                return
        self._answer(answer.status, dict(answer.getheaders()), data)

    def _answer(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        with contextlib.suppress(ConnectionError):
            self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # who asked was killed
                self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def refuse(status: int) -> None:
    """In a hook: answer the request with this status, and do not pass it on."""
    raise _Refused(status)


@contextlib.contextmanager
def counting(store: S3) -> Iterator[Proxy]:
    """Run a proxy in front of a store."""
    with _Server((HOST, 0), _Handler) as server:
        server.proxy = proxy = Proxy(store, address=f"{HOST}:{server.server_address[1]}")
        server.lock = threading.Lock()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
            if proxy.errors:
                raise proxy.errors[0]


def copy_bucket(bucket: Bucket, to: Path) -> None:
    """Keep the objects of a bucket, with their metadata, which versitygw has in extended attributes."""
    shutil.copytree(bucket.store.directory / bucket.name, to, symlinks=True)


def restore_bucket(bucket: Bucket, kept: Path) -> None:
    """Make a bucket again what it was."""
    directory = bucket.store.directory / bucket.name
    for each in directory.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    shutil.copytree(kept, directory, symlinks=True, dirs_exist_ok=True)
