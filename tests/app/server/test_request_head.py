"""The head of a request: where it ends, how long it may be, and what RFC 9112 refuses."""

import pytest

from app.errors import Problem
from app.server.request_head import MOST_BYTES, MOST_LINES, Head, body_bytes

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100])
def test_its_end_is_found_in_whatever_pieces_it_comes(size: int) -> None:
    for before in (b"", b"\r\n", b"\r\n\r\n"):  # what some clients send behind a body
        sent = before + REQUEST
        head, taken = Head(), 0
        for place in range(0, len(sent), size):
            piece, within = sent[place : place + size], 0
            while within < len(piece):
                within += head.take(piece, within)
            taken += within
        assert (taken, head.size) == (len(sent), len(sent))


def test_what_follows_is_not_taken() -> None:
    assert Head().take(REQUEST + b"body", 0) == len(REQUEST)
    assert Head().take(REQUEST * 1000, len(REQUEST)) == len(REQUEST)
    head = Head()
    head.take(REQUEST[:-1], 0)
    assert head.take(b"\n" + REQUEST * 1000, 0) == 1  # its end stands in two pieces


@pytest.mark.parametrize("size", [100, 65_536, 1_000_000])
@pytest.mark.parametrize(
    ("first", "rest", "code"),
    [
        (b"GET / HTTP/1.1\r\nX: ", b"a", "headers_too_large"),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n", "headers_too_large"),
        (b"GET / HTTP/1.1\r\n", b"a:\r\n", "headers_too_large"),
        (b"GET /", b"a", "target_too_long"),
        (b"", b"GET ", "target_too_long"),
        (b"", b"\r\n", "headers_too_large"),
    ],
)
def test_it_is_bounded_in_whatever_pieces_it_comes(first: bytes, rest: bytes, code: str, size: int) -> None:
    sent = first + rest * (1_000_000 // len(rest))
    head, taken = Head(), 0
    with pytest.raises(Problem) as refused:
        for place in range(0, len(sent), size):
            piece, within = sent[place : place + size], 0
            while within < len(piece):
                within += (took := head.take(piece, within))
                taken += took
    assert refused.value.code == code
    assert taken <= MOST_BYTES


def test_the_bounds_themselves_are_allowed() -> None:
    start, end = b"GET / HTTP/1.1\r\nX: ", b"\r\n\r\n"
    most = start + b"a" * (MOST_BYTES - len(start + end)) + end
    assert Head().take(most, 0) == MOST_BYTES
    with pytest.raises(Problem):
        Head().take(start + b"a" + most[len(start) :], 0)
    lines = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MOST_LINES - 2) + b"\r\n"
    assert Head().take(lines, 0) == len(lines)
    with pytest.raises(Problem):
        Head().take(lines[:-2] + b"a: b\r\n\r\n", 0)


@pytest.mark.parametrize(
    ("version", "hosts", "why"),
    [
        ("1.1", [], "missing"),
        ("0.9", [], "missing"),
        ("1.1", [b"a", b"a"], "two Hosts"),
        ("1.0", [b"a", b"b"], "two Hosts"),
        ("1.1", [b"a/b"], "is none"),
        ("1.1", [b"a b"], "is none"),
        ("1.1", [b"user@a"], "is none"),
        ("1.1", [b"a\xff"], "is none"),
        ("1.1", [b"a<script>"], "is none"),
    ],
)
def test_a_host_that_is_none_is_refused(version: str, hosts: list[bytes], why: str) -> None:
    headers = [(b"accept", b"*/*"), *((b"host", host) for host in hosts)]
    with pytest.raises(Problem, match=why) as refused:
        body_bytes(lambda: version, headers)
    assert refused.value.code == "malformed_request"


@pytest.mark.parametrize("host", [b"", b"a", b"a.example:8000 ", b"[::1]:8000", b"127.0.0.1", b"xn--a_b"])
def test_a_host_that_is_one_is_not(host: bytes) -> None:
    assert body_bytes(lambda: "1.1", [(b"host", host), (b"accept", b"a"), (b"accept", b"b")]) == 0
    assert body_bytes(lambda: "1.0", []) == 0
    assert body_bytes(lambda: "1.1", [(b"host", host), (b"content-length", b"7")]) == 7
    assert body_bytes(lambda: "1.1", [(b"host", host), (b"transfer-encoding", b"chunked")]) is None
