"""What one client may send before anybody knows who it is, and what it is told beyond that."""

import contextlib
import re
import time
from pathlib import Path

import httpx2
import pytest

from tests.app.server.flood import CHUNKED, FILE, HELLO, MB, answer_of, flood
from tests.serving import Server, connect, problem, serving

# --- heads ----------


@pytest.mark.parametrize(
    ("first", "piece", "code"),
    [
        (HELLO + b"X: ", b"a" * 50_000, "headers_too_large"),
        (HELLO, b"X: " + b"a" * 2_000 + b"\r\n", "headers_too_large"),
        (HELLO, b"a:\r\n" * 10_000, "headers_too_large"),
        (HELLO + b"a", b"a" * 50_000, "headers_too_large"),
        (b"GET /", b"a" * 50_000, "target_too_long"),
        (b"GET", b" " * 50_000, "target_too_long"),
        (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a" * 50_000, "headers_too_large"),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"a:\r\n" * 10_000, "headers_too_large"),
        (CHUNKED + b"1;a=", b"a" * 50_000, "headers_too_large"),
        (CHUNKED + b"1\r\na\r\n", b"0" * 50_000, "headers_too_large"),
        (b"\r\n", b"\r\n" * 20_000, "headers_too_large"),
    ],
    ids=[
        "line",
        "lines",
        "many",
        "name",
        "target",
        "spaces",
        "trailer",
        "trailers",
        "extension",
        "size",
        "empty",
    ],
)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "second"])
def test_a_flood_is_refused_and_nothing_of_it_is_kept(
    server: Server, first: bytes, piece: bytes, code: str, behind: bool
) -> None:
    statuses = {"headers_too_large": 431, "target_too_long": 414, "malformed_request": 400}
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    with connect(server) as client:
        if behind:  # on a connection that has been used
            client.sendall(HELLO + b"\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        flood(client, first, piece, 5 * MB)
        problem(answer_of(client), statuses[code], code)
    assert server.resident_bytes() - before < 2 * MB


def test_a_head_behind_a_chunked_body_in_the_same_segment_has_the_same_bounds(server: Server) -> None:
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    sent = CHUNKED.replace(b"/predict", b"/nothing") + b"0\r\n\r\n" + HELLO + b"a:\r\n" * 15_000
    with contextlib.ExitStack() as open_until_the_end:
        clients = [open_until_the_end.enter_context(connect(server)) for _ in range(30)]
        for client in clients:
            client.sendall(sent)
        for client in clients:
            received = b""
            while b"headers_too_large" not in received:
                piece = client.recv(65_536)
                assert piece, received
                received += piece
        assert server.resident_bytes() - before < 5 * MB


def test_an_endless_head_is_not_read_to_its_end(server: Server) -> None:
    with connect(server) as client:
        assert flood(client, HELLO + b"X: ", b"a" * MB, 200 * MB) < 50 * MB


def test_a_head_within_the_bounds_is_answered_in_whatever_segments_it_comes(server: Server) -> None:
    sent = HELLO + b"".join([b"x-%d: %b\r\n" % (n, b"a" * 250) for n in range(200)]) + b"\r\n"
    for size in (1_000, 60_000):
        with connect(server) as client:
            for place in range(0, len(sent), size):
                client.sendall(sent[place : place + size])
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /hea lth HTTP/1.1\r\nHost: x\r\n\r\n", "expected HTTP/"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "method"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is not spoken"),
        (b"GET /\r\n\r\n", "Host is missing"),
        (b"GET / HTTP/1.1\r\n\r\n", "Host is missing"),
        (b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", "url"),
        (b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", "url"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "Host is none"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "whitespace"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "char"),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "content-length"),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "with"),
        (CHUNKED + b"zz\r\n", "chunk size"),
        (CHUNKED + b"3\r\nabcd\r\n", "chunk data"),
    ],
)
def test_what_is_no_request_gets_a_problem_with_an_id_that_is_in_the_log(
    server: Server, sent: bytes, said: str
) -> None:
    with connect(server) as client:
        client.sendall(sent)
        answer = answer_of(client)
    told = problem(answer, 400, "malformed_request")
    assert said.lower() in str(told["detail"]).lower()
    assert answer.headers["connection"] == "close"
    end = time.monotonic() + 10
    while not any(str(told["request_id"]) in line and "malformed_request" in line for line in server.lines()):
        assert time.monotonic() < end, server.log.read_text()[-500:]
    assert "Traceback" not in server.log.read_text()
    assert 'problems_total{code="malformed_request"}' in httpx2.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("target", ["http://x", "http://x?a=b", "http://x:80", "http://x/", "//x", "/?u=http://y"])
def test_a_target_without_a_path_is_answered_and_no_traceback_is_written(server: Server, target: str) -> None:
    with connect(server) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = answer_of(client)
    assert answer.status_code == (404 if target == "//x" else 200)
    assert "Traceback" not in server.log.read_text()


def test_what_came_before_it_is_answered_first(server: Server) -> None:
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(FILE), FILE)
    with connect(server) as client:
        client.sendall(post * 2 + b"GET /hea lth HTTP/1.1\r\n\r\n")
        said = client.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"400"]


def test_trailers_are_no_headers(server: Server) -> None:
    with connect(server) as client:
        client.sendall(CHUNKED + b"3\r\nabc\r\n0\r\nX-Request-ID: evil\r\nX-API-Key: evil\r\nConnection: close\r\n\r\n")
        assert b"evil" not in client.recv(65_536)


def test_a_broken_chunk_behind_a_refusal_writes_no_traceback(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, API_KEYS="alice:0123456789abcdef") as server:
        for broken in (b"zz\r\n", b"3\r\nabcd\r\n", b"1;" + b"a" * 200_000):
            with connect(server) as client:
                client.sendall(CHUNKED + b"3\r\nabc\r\n")
                assert client.recv(65_536).startswith(b"HTTP/1.1 401")
                with contextlib.suppress(OSError):
                    client.sendall(broken)
                    assert client.recv(100) == b""
        assert httpx2.get(f"{server.url}/health/live").status_code == 200
        assert "Traceback" not in server.log.read_text()


# --- requests that wait -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"a"], ids=["without body", "with body"])
def test_requests_behind_one_that_is_answered_are_bounded_and_answered_in_order(server: Server, body: bytes) -> None:
    one = b"POST /nothing/%06d HTTP/1.1\r\nHost:\r\nX-Request-ID: n%d\r\nContent-Length: %d\r\n\r\n" + body
    sent = b"".join([one % (number, number, len(body)) for number in range(60_000)])
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    with connect(server) as client:
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.sendall(sent)
        assert server.resident_bytes() - before < 5 * MB
        said = b""
        while said.count(b"HTTP/1.1 404") < 1_000:
            said += client.recv(65_536)
    numbers = [int(number) for number in re.findall(rb"x-request-id: n(\d+)", said)]
    assert numbers == list(range(len(numbers)))
