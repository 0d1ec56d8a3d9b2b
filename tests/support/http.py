"""HTTP as bytes: a request goes out exactly as written, and the answer is kept as it came."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, header fields in their order, and all bytes that followed them."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a field, one for each time that it was sent."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a field that was sent once or not at all."""
        values = self.all(name)
        assert len(values) < 2, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def codes(self) -> list[str]:
        """The error codes of a JSON body."""
        return [error["code"] for error in json.loads(self.body)["errors"]]


def request(
    port: int, method: str, path: str | bytes, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send one request; the path is not touched, and must hold no space."""
    target = path if isinstance(path, bytes) else path.encode()
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target), b"Host: registry.example", b"Connection: close"]
    lines += [f"{name}: {value}".encode() for name, value in (headers or {}).items()]
    lines += [b"Content-Length: %d" % len(body)] if body else []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", body]))
        return _parse(_receive(connection))


def _receive(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)


def _parse(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in rest))
    return Answer(int(first.split()[1]), fields, body)
