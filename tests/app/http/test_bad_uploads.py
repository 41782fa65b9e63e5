"""Uploads that are no image, broken or too large: each gets its status, and the service stays well."""

import socket
import time
import zlib

import httpx2

from tests.app.conftest import MAX_UPLOAD_BYTES
from tests.images import drawing, encode
from tests.serving import Server, connect, problem


def giant_png() -> bytes:
    """A valid 20,000 x 20,000 one-bit PNG of 50 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (20_000).to_bytes(4, "big")
    rows = zlib.compress(b"\0" * (20_000 // 8 + 1) * 20_000, 9)
    header = chunk(b"IHDR", size + size + bytes([1, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bad_uploads_get_their_status_and_leave_the_service_well(server: Server, client: httpx2.Client) -> None:
    jpeg = encode(drawing(400, 300), "JPEG")
    giant, large = giant_png(), b"\xff\xd8\xff" + bytes(50_000_000)

    def send_all() -> None:
        post = client.post
        problem(post("/predict", content=b""), 400, "empty_body")
        problem(post("/predict", files={"file": ("empty.jpg", b"")}), 400, "empty_body")
        problem(post("/predict", files={"file": ("text.jpg", b"this is no image")}), 415, "unsupported_image")
        problem(post("/predict", content=jpeg[: len(jpeg) // 2]), 422, "undecodable_image")
        problem(post("/predict", content=giant), 422, "too_many_pixels")
        problem(post("/predict", content=large), 413, "upload_too_large")
        problem(post("/predict", files={"file": large}), 413, "upload_too_large")
        problem(post("/predict", files={"image": jpeg}), 400, "bad_field")
        problem(post("/predict", data={"file": "text"}, files={"other": b""}), 400, "bad_field")
        problem(post("/predict", files=[("file", jpeg), ("file", jpeg)]), 400, "bad_field")
        problem(post("/predict", data={"file": "text"}, files={"file": jpeg}), 400, "bad_field")
        boundary = {"Content-Type": "multipart/form-data; boundary=x"}
        problem(post("/predict", content=b"--x\r\nno end", headers=boundary), 400, "malformed_body")
        problem(
            post("/predict", content=b"abc", headers={"Content-Type": "multipart/form-data"}), 400, "malformed_body"
        )

    send_all()
    before = server.resident_bytes()
    for _ in range(10):
        send_all()
    assert client.get("/health").json()["status"] == "ok"
    assert client.post("/predict", content=jpeg).status_code == 200
    assert server.resident_bytes() - before < 20e6


def test_a_refused_upload_names_the_limit(client: httpx2.Client) -> None:
    body = problem(client.post("/predict", content=bytes(MAX_UPLOAD_BYTES + 1)), 413, "upload_too_large")
    assert body["limit_bytes"] == MAX_UPLOAD_BYTES
    assert body["received_bytes"] == MAX_UPLOAD_BYTES + 1


def test_an_upload_without_a_length_is_cut_at_the_limit(client: httpx2.Client) -> None:
    chunks = (bytes(100_000) for _ in range(1000))
    problem(client.post("/predict", content=chunks), 413, "upload_too_large")


def test_an_upload_of_exactly_the_limit_is_read(client: httpx2.Client) -> None:
    image_and_tail = encode(drawing(), "JPEG").ljust(MAX_UPLOAD_BYTES, b"\0")
    assert client.post("/predict", content=image_and_tail).status_code == 200
    assert client.post("/predict", files={"file": image_and_tail}).status_code == 200


def test_an_upload_without_an_end_has_its_413_in_flight_and_is_not_reset(server: Server) -> None:
    """What a client goes on sending is thrown away, so that no reset takes the answer from it."""
    with connect(server) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"%x\r\n" % (3 * MAX_UPLOAD_BYTES) + bytes(MAX_UPLOAD_BYTES + 1))
        assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 413"
        for _ in range(4):
            client.sendall(bytes(100_000))
            time.sleep(0.02)  # in which a reset would have come
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"upload_too_large" in answer


def test_a_client_that_asks_first_is_refused_before_it_uploads(server: Server) -> None:
    reply = _raw(
        server,
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\nExpect: 100-continue\r\n\r\n",
    )
    assert reply.startswith(b"HTTP/1.1 413")


def test_a_client_that_asks_first_may_continue(server: Server) -> None:
    file = encode(drawing())
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file)}\r\nExpect: 100-continue\r\n\r\n".encode()
    with connect(server) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(file)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")


def _raw(server: Server, request: bytes) -> bytes:
    with connect(server) as connection:
        connection.sendall(request)
        return connection.recv(10_000)
