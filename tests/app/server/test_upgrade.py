"""Offers to upgrade, as Java's HttpClient, Spring and `curl --http2` make on every first request: they are ignored."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.app.routes.batches import form
from tests.images import drawing, encode
from tests.serving import Server, connect

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "another": ("upgrade: Foo/2, bar", "connection: uPgRaDe"),
}
FILE = encode(drawing())
BATCH = form([FILE, FILE])
BODIES = {
    "/predict": ("image/png", FILE),
    "/explain": ("image/png", FILE),
    "/predict/batch": (BATCH[0].decode(), BATCH[1]),
    "/v2/models/digits-encoded/infer": ("application/octet-stream", FILE),
}


def request(path: str, offer: tuple[str, ...], chunked: bool = False) -> bytes:
    kind, body = BODIES[path]
    lines = [f"POST {path} HTTP/1.1", "Host: x", *offer, f"Content-Type: {kind}"]
    lines += ["Inference-Header-Content-Length: 0"] if path.startswith("/v2") else []
    lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
    pieces = [body[place : place + 100] for place in range(0, len(body), 100)]
    sent = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n" if chunked else body
    return "\r\n".join([*lines, "", ""]).encode() + sent


def answers(client: socket.socket) -> Iterator[tuple[int, dict[str, Any]]]:
    with client.makefile("rb") as stream:
        while status := stream.readline():
            length, is_json = 0, True
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                is_json = is_json and value.strip() != b"application/octet-stream"
            body = stream.read(length)
            yield int(status.split()[1]), json.loads(body) if is_json else {"outputs": body}


def told(answer: dict[str, Any]) -> Any:
    """What does not differ from request to request."""
    results = [{**result, "timing_ms": None} for result in answer.get("results", [])]
    return results or [answer.get(name) for name in ("prediction", "label", "class", "outputs", "confidence")]


@pytest.mark.parametrize("size", [1, 64, 10**6], ids="segments of {}".format)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("path", BODIES)
def test_a_request_with_an_offer_is_answered_as_without_it(
    server: Server, path: str, offer: str, chunked: bool, size: int
) -> None:
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = answers(client)
        client.sendall(request(path, ()))
        plain = next(got)
        assert plain[0] == 200, plain
        for _ in range(2):  # on one connection
            sent = request(path, OFFERS[offer], chunked)
            for place in range(0, len(sent), size):
                client.sendall(sent[place : place + size])
            status, answer = next(got)
            assert (status, told(answer)) == (200, told(plain[1]))


def test_requests_with_offers_in_one_segment_are_all_answered_in_order(server: Server) -> None:
    paths = ["/predict", "/predict/batch", "/explain", "/predict"] * 3
    with connect(server) as client:
        client.sendall(
            b"".join(request(path, list(OFFERS.values())[n % 3], n % 2 == 0) for n, path in enumerate(paths))
        )
        got = answers(client)
        for path in paths:
            status, answer = next(got)
            assert (status, "results" in answer) == (200, path == "/predict/batch")


def test_connect_is_refused_and_what_follows_it_is_no_request(server: Server) -> None:
    with connect(server) as client:
        client.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\nGET /health HTTP/1.1\r\n")
        got = answers(client)
        status, answer = next(got)
        assert (status, answer["code"]) == (405, "method_not_allowed")
        assert list(got) == []
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_curl_offers_http_2(server: Server, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    file = tmp_path / "a.png"
    file.write_bytes(FILE)
    words = ["curl", "--silent", "--show-error", "--http2", "--form", f"file=@{file}", f"{server.url}/predict"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said)["prediction"]


_JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

public class Ask {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();  // HTTP/2, if the server takes its offer
        for (int time = 0; time < 2; time++) {
            HttpRequest.BodyPublisher body = time == 0
                ? HttpRequest.BodyPublishers.ofFile(Path.of(words[1]))
                : HttpRequest.BodyPublishers.ofInputStream(() -> {
                    try { return Files.newInputStream(Path.of(words[1])); }
                    catch (java.io.IOException error) { throw new java.io.UncheckedIOException(error); }
                });  // chunked
            HttpRequest request = HttpRequest.newBuilder(URI.create(words[0])).POST(body).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
"""


def test_javas_client_as_it_comes(server: Server, tmp_path: Path) -> None:
    if not shutil.which("java"):
        pytest.skip("no java here")
    source, file = tmp_path / "Ask.java", tmp_path / "a.png"
    source.write_text(_JAVA)
    file.write_bytes(FILE)
    words = ["java", str(source), f"{server.url}/predict", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["prediction"] for line in done.stdout.splitlines()] == [
        httpx2.post(f"{server.url}/predict", content=FILE).json()["prediction"]
    ] * 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", BODIES)
def test_an_offer_on_a_connection_that_closes_is_ignored_too(
    server: Server, path: str, version: str, chunked: bool
) -> None:
    """As proxies write it that speak HTTP/1.0 and pass `Connection: upgrade` on."""
    if version == "1.0" and chunked:
        pytest.skip("HTTP/1.0 has no chunks")
    sent = request(path, ("Connection: close, Upgrade", "Upgrade: h2c"), chunked)
    with connect(server) as client:
        client.sendall(sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
        status, _ = next(answers(client))
        assert status == 200
