"""Requests as raw bytes, and connections that keep to the framing of HTTP/1.1 to the byte."""

from __future__ import annotations

import re
import shlex
import socket
from dataclasses import dataclass
from types import TracebackType

from tests.support.http import Answer

_SECONDS = 20  # within which each part of an answer comes
Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, byte by byte, and which of the server's sites it goes to."""

    site: str
    method: bytes
    target: bytes
    fields: Fields = ((b"Host", b"registry.example"),)
    version: bytes = b"HTTP/1.1"
    body: bytes = b""

    @property
    def raw(self) -> bytes:
        """What goes over the wire."""
        lines = [b" ".join((self.method, self.target, self.version))]
        lines += [name + b": " + value for name, value in self.fields]
        return b"\r\n".join([*lines, b"", self.body])

    @property
    def path(self) -> bytes:
        """The target up to its query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The target behind the first `?`."""
        return self.target.partition(b"?")[2]

    def field(self, name: str) -> str:
        """The values of a header field, joined; empty without one."""
        return ", ".join(value.decode("latin-1") for key, value in self.fields if key.decode().lower() == name.lower())

    def has(self, name: str) -> bool:
        """A header field was sent, even an empty one."""
        return any(key.decode().lower() == name.lower() for key, _ in self.fields)

    def __str__(self) -> str:
        """The request as one line of ASCII, which `parse` reads."""
        return f"{self.site} {self.raw.decode('latin-1').encode('unicode_escape').decode()}"

    @property
    def shell(self) -> str:
        """The same as a word for the shell."""
        return shlex.quote(str(self))


def parse(text: str) -> Request:
    """The request that was written as a line."""
    site, _, escaped = text.partition(" ")
    head, _, body = escaped.encode().decode("unicode_escape").encode("latin-1").partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    fields = tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines))
    return Request(site, method, target, fields, version, body)


class BrokenAnswer(Exception):
    """What came back is no HTTP answer, or nothing came back."""


class Connection:
    """A connection to one port, which is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._unread = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket:
            self._socket.close()
        self._socket = None
        self._unread.clear()

    def ask(self, request: Request) -> Answer:
        """Send a request and read its answer, and nothing but that."""
        if self._socket:
            try:
                return self._ask(request)
            except (ConnectionError, BrokenAnswer):
                self.close()  # the server may close an idle connection: once more on a new one
        try:
            return self._ask(request)
        except OSError as error:
            self.close()
            raise BrokenAnswer(f"no answer: {error}") from None

    def _ask(self, request: Request) -> Answer:
        if not self._socket:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request.raw)
        answer, closes = self._answer(request.method)
        if self._unread:
            unread = bytes(self._unread)
            self.close()
            raise BrokenAnswer(f"{len(unread)} bytes behind the answer: {unread[:200]!r}")
        if closes or request.body or request.version != b"HTTP/1.1" or request.field("Connection"):
            self.close()
        return answer

    def _answer(self, method: bytes) -> tuple[Answer, bool]:
        status, fields = self._head()
        while status < 200:
            status, fields = self._head()
        answer = Answer(status, fields, b"")
        body, closes = b"", "close" in answer.all("Connection")
        if method == b"HEAD" and closes:
            body = self._rest()  # a server's own refusals may have one
        elif method != b"HEAD" and status not in (204, 304):
            if "chunked" in answer.all("Transfer-Encoding"):
                body = self._chunks()
            elif lengths := answer.all("Content-Length"):
                body = self._take(int(lengths[0]))
            else:
                body, closes = self._rest(), True
        return Answer(status, fields, body), closes

    def _head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?", first)
        if not match:
            raise BrokenAnswer(f"no status line: {first[:200]!r}")
        for line in lines:
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0\r\n]*", line):
                raise BrokenAnswer(f"no header field: {line[:200]!r}")
        parts = (line.partition(":") for line in lines)
        return int(match[1]), tuple((name, value.strip()) for name, _, value in parts)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._take(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return body

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._receive()
        found, _, rest = bytes(self._unread).partition(end)
        self._unread[:] = rest
        return found

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._receive()
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found

    def _rest(self) -> bytes:
        try:
            while True:
                self._receive()
        except BrokenAnswer:
            found = bytes(self._unread)
            self._unread.clear()
            return found

    def _receive(self) -> None:
        assert self._socket
        received = self._socket.recv(1 << 16)
        if not received:
            raise BrokenAnswer(f"the connection was closed behind {bytes(self._unread[:200])!r}")
        self._unread += received
