"""The short way through a form never disagrees with the parser, and is the way that real clients' forms take."""

import asyncio
import itertools
import random

import httpx2
import pytest

from app.errors import Problem
from app.http.upload import _form_file, _only_file_at_sight, read_image

FILE = bytes(range(256)) * 3 + b"\r\n--\r\n--b\r\n"
CURL = (
    b"multipart/form-data; boundary=------------------------d74496d66958873e",
    b"--------------------------d74496d66958873e\r\n"
    b'Content-Disposition: form-data; name="file"; filename="cat.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n" + FILE + b"\r\n--------------------------d74496d66958873e--\r\n",
)
BROWSER = (
    b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
    b"------WebKitFormBoundary7MA4YWxkTrZu0gW\r\n"
    b'Content-Disposition: form-data; name="file"; filename="IMG_0001 (2) \xc3\xa9.jpeg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n" + FILE + b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW--\r\n",
)


def by_parser(content_type: bytes, body: bytes) -> bytes | None:
    """What the library makes of the form; None where it refuses."""
    try:
        return asyncio.run(_form_file(content_type, [body], 10_000))
    except Problem:
        return None


@pytest.mark.parametrize(("content_type", "body"), [CURL, BROWSER], ids=["curl", "browser"])
def test_what_clients_send_is_taken_at_sight(content_type: bytes, body: bytes) -> None:
    assert _only_file_at_sight(content_type, [body]) == FILE == by_parser(content_type, body)


def test_what_httpx2_sends_is_taken_at_sight() -> None:
    request = httpx2.Request("POST", "http://localhost/predict", files={"file": ("cat.jpg", FILE)})
    assert _only_file_at_sight(request.headers["content-type"].encode(), [request.read()]) == FILE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW--\r\n", b""),  # cut off
        (b'name="file"', b'name="image"'),
        (b'; filename="IMG_0001 (2) \xc3\xa9.jpeg"', b""),  # text, not a file
        (b"Content-Type: image/jpeg\r\n", b"Content-Transfer-Encoding: base64\r\n"),
        (b"Content-Type: image/jpeg\r\n", b'Content-Type: image/jpeg\r\nContent-Disposition: form-data; name="x"\r\n'),
        (b"IMG_0001", b'IMG\\"0001'),
        (FILE + b"\r\n", b""),  # the blank line after the head is not also the end of the file
        (FILE, FILE + b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW\r\n" + FILE),
        (b"------WebKitFormBoundary7MA4YWxkTrZu0gW\r\n", b"hello\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW\r\n"),
    ],
    ids=["cut", "field", "text", "encoding", "twice", "escape", "no file", "two parts", "preamble"],
)
def test_anything_out_of_the_ordinary_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    content_type, body = BROWSER
    assert old in body
    assert _only_file_at_sight(content_type, [body.replace(old, new, 1)]) is None


def test_no_change_of_a_form_makes_the_two_disagree() -> None:
    chooser = random.Random(0)
    at_sight = 0
    for number in range(6000):
        content_type, body = chooser.choice([CURL, BROWSER])
        edges = [chooser.randrange(150), len(body) - chooser.randrange(60), chooser.randrange(len(body))]
        for _ in range(chooser.randrange(1, 4)):
            place = chooser.choice(edges)
            piece = chooser.choice([b"", b"\r\n", b"-", b'"', b"--", b";", b":", b" ", b"\n", b"\x00", body[:60]])
            body = body[:place] + piece + body[place + chooser.randrange(3) :]
        places = sorted(chooser.choices(range(len(body) + 1), k=chooser.randrange(3)))
        pieces = [body[start:end] for start, end in itertools.pairwise([0, *places, len(body)])]
        taken = _only_file_at_sight(content_type, pieces)
        if taken is not None:
            at_sight += 1
            assert taken == by_parser(content_type, body), (number, body)
    assert at_sight > 500  # or the test would have compared nothing


def test_the_body_may_come_in_any_pieces() -> None:
    content_type, body = CURL
    for size in (1, 7, 100, len(body)):
        pieces = [body[place : place + size] for place in range(0, len(body), size)]
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        messages.append({"type": "http.request"})  # as an ASGI server may end a body
        held: list[int] = []

        async def receive(left: list[dict[str, object]] = messages) -> dict[str, object]:
            return left.pop(0)

        assert asyncio.run(read_image({b"content-type": content_type}, receive, 10_000, held.append)) == FILE
        assert sum(held) == len(body) * (2 if size < 200 else 1)  # what comes in crumbs goes to the parser
