"""Requests byte by byte, and more of them than a service should keep."""

import contextlib
import socket

import httpx2

from tests.images import drawing, encode

FILE = encode(drawing())
MB = 1_000_000
HELLO = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer_of(client: socket.socket) -> httpx2.Response:
    """The one answer before the server closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
    return httpx2.Response(int(status.split()[1]), headers=headers, content=body)


def flood(client: socket.socket, first: bytes, piece: bytes, most_bytes: int) -> int:
    """Send on until the server closes; how many bytes it took."""
    client.sendall(first)
    taken = 0
    with contextlib.suppress(OSError):
        while taken < most_bytes:
            client.sendall(piece)
            taken += len(piece)
    return taken
