"""Requests over connections that stay open, as many as a server answers: by wrk, or by a client of our own."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time

from tests.bench.measure import NotMeasured
from tests.support.servers import HOST

CONNECTIONS = 16


def drive(port: int, path: str, seconds: float) -> int:
    """Ask for one path, for so many seconds; how many answers came. wrk knows whole seconds only."""
    if shutil.which("wrk") and seconds >= 1:
        return by_wrk(port, path, round(seconds))
    return by_sockets(port, path, seconds)


def client(seconds: float) -> str:
    """Who asks."""
    return "wrk" if shutil.which("wrk") and seconds >= 1 else "a client in Python"


def by_wrk(port: int, path: str, seconds: int, connections: int = CONNECTIONS) -> int:
    """The same by wrk."""
    accept = ["-H", "Accept: application/vnd.oci.image.manifest.v1+json"]  # docker-registry has no manifest without it
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *accept, f"http://{HOST}:{port}{path}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count = re.search(r"([0-9]+) requests in", output)
    if not count or "Non-2xx" in output or "Socket errors" in output:
        raise NotMeasured(" ".join(output.split()))
    return int(count[1])


def by_sockets(port: int, path: str, seconds: float) -> int:
    """The same by sockets: one request on each connection, then their answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((HOST, port), timeout=10)) for _ in range(CONNECTIONS)
        ]
        length = _first_answer(connections[0], request)
        answered, end = 1, time.monotonic() + seconds
        while time.monotonic() < end:
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                _skip(connection, length)
            answered += CONNECTIONS
    return answered


def _first_answer(connection: socket.socket, request: bytes) -> int:
    """The length of an answer, which all others have too; NotMeasured if it is not 200."""
    connection.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
    if not head.startswith(b"HTTP/1.1 200 ") or not length:
        raise NotMeasured(head.decode("latin-1"))
    _skip(connection, int(length[1]))
    return len(head) + int(length[1])


def _skip(connection: socket.socket, length: int) -> None:
    while length:
        received = len(connection.recv(min(length, 1 << 18)))
        if not received:
            raise NotMeasured("the server closed a connection")
        length -= received
