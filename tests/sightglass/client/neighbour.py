"""What stands between a client and the service, or in its place: proxies and servers that answer otherwise."""

import itertools
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MODEL = {"name": "cifar10", "version": 1, "variant": "onnx"}
PREDICTION = {
    "prediction": "cat",
    "confidence": 0.75,
    "top_k": [{"class": "cat", "probability": 0.75}, {"class": "dog", "probability": 0.25}],
    "model": MODEL,
}
RESET = b"reset"  # the connection, before an answer
SILENCE = b"silence"  # until the client leaves


def http(status: int, body: bytes | dict[str, Any] = b"", kind: str = "application/json", **headers: str) -> bytes:
    """An HTTP answer that closes its connection."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + content


@dataclass
class Neighbour:
    """`requests`: the head of each, as it came."""

    url: str = ""
    requests: list[str] = field(default_factory=list)


def _head_of_a_request(file: BinaryIO) -> str:
    """Reads its body as well."""
    head = b"".join(itertools.takewhile(lambda line: line not in (b"\r\n", b""), file)).decode("latin-1")
    lengths = [line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("content-length")]
    file.read(int(lengths[0]) if lengths else 0)
    return head


@contextmanager
def neighbour(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Neighbour]:
    """A server that gives these answers in turn, and the last of them from then on."""
    left, lock = list(answers), threading.Lock()
    told = Neighbour()

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            if tls:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            self.request.close()

        def handle(self) -> None:
            head = _head_of_a_request(self.rfile)
            with lock:
                told.requests.append(head)
                answer = left.pop(0) if len(left) > 1 else left[0]
            if answer == RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif answer == SILENCE:
                self.rfile.read(1)
            else:
                self.wfile.write(answer)

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, *_: object) -> None:
            """The client went away, or would not speak TLS: for the test to notice."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
