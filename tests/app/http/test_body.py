"""Compressed bodies: understood on every route that takes one, damaged ones refused, and bombs stopped early."""

import asyncio
import gzip
import json
import random
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from app.errors import Problem
from app.http.body import coding_of, inflating
from app.settings import DEFAULT_MODEL
from tests.app.open_inference.bodies import HEADER
from tests.app.routes.batches import form
from tests.images import drawing, encode
from tests.serving import Server, serving

LIMIT_BYTES = 1_000_000
IMAGE = encode(drawing(90, 70), "JPEG")
BMP = encode(drawing(400, 300), "BMP")


def raw_deflate(data: bytes) -> bytes:
    """Without zlib's head, as some clients understand the name."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    """As `cat a.gz b.gz` and parallel compressors write it."""
    third = len(data) // 3
    return b"".join(map(gzip.compress, (data[:third], data[third : 2 * third], b"", data[2 * third :])))


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in odd case": ("GZip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip, stored": ("gzip", lambda data: gzip.compress(data, 0)),
    "gzip of several members": ("gzip", members),
    "gzip and identity": ("identity, gzip,", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's head": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "an empty header": ("", bytes),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("body"), MAX_UPLOAD_BYTES=LIMIT_BYTES) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as ready:
        yield ready


def bodies(file: bytes) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Path, body and headers of each way to send an image."""
    one, many = form([file], "file"), form([file] * 3, "files")
    tensor = {
        "name": "image_bytes",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(file) + 4},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return {
        "an image to /predict": ("/predict", file, {"Content-Type": "image/jpeg"}),
        "a form to /predict": ("/predict", one[1], {"Content-Type": one[0].decode()}),
        "an image to /explain": ("/explain", file, {}),
        "a form to /explain": ("/explain", one[1], {"Content-Type": one[0].decode()}),
        "a form to /predict/batch": ("/predict/batch", many[1], {"Content-Type": many[0].decode()}),
        "an image to /v2": ("/v2/models/cifar10-encoded/infer", file, {HEADER: "0"}),
        "a tensor to /v2": (
            "/v2/models/cifar10-encoded/infer",
            head + len(file).to_bytes(4, "little") + file,
            {HEADER: str(len(head))},
        ),
    }


WAYS = list(bodies(b""))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("coding", "pack"), PACKERS.values(), ids=PACKERS)
def test_every_route_answers_as_without(
    client: httpx2.Client, way: str, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    for file in (IMAGE, BMP):
        path, body, headers = bodies(file)[way]
        plain = client.post(path, content=body, headers=headers)
        assert plain.status_code == 200, plain.text
        answer = client.post(path, content=pack(body), headers=headers | {"Content-Encoding": coding})
        assert (answer.status_code, answer.content) == (200, plain.content)
        chunked = client.post(path, content=iter([pack(body)]), headers=headers | {"Content-Encoding": coding})
        assert (chunked.status_code, chunked.content) == (200, plain.content)


DAMAGED: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "nothing": ("gzip", lambda _: b"", "The body's gzip stream ends too early."),
    "one byte": ("deflate", lambda _: b"\x78", "The body's deflate stream ends too early."),
    "cut": ("gzip", lambda body: gzip.compress(body)[:-9], "The body's gzip stream ends too early."),
    "without its checksum": ("gzip", lambda body: gzip.compress(body)[:-8], "The body's gzip stream ends too early."),
    "with another": ("gzip", lambda body: gzip.compress(body)[:-8] + bytes(8), "The body is no gzip: "),
    "not compressed at all": ("gzip", bytes, "The body is no gzip: "),
    "gzip under another name": ("deflate", gzip.compress, "The body is no deflate: "),
    "zlib under another name": ("gzip", zlib.compress, "The body is no gzip: "),
    "something behind": ("gzip", lambda body: gzip.compress(body) + b"x", "gzip stream goes on after its end."),
    "zeros behind": ("gzip", lambda body: gzip.compress(body) + bytes(512), "gzip stream goes on after its end."),
    "deflate twice": ("deflate", lambda body: 2 * zlib.compress(body), "deflate stream goes on after its end."),
    "half a member behind": ("gzip", lambda body: gzip.compress(body) + b"\x1f\x8b", "gzip stream ends too early."),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("coding", "pack", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_stream_is_refused(
    client: httpx2.Client, way: str, coding: str, pack: Callable[[bytes], bytes], words: str
) -> None:
    path, body, headers = bodies(IMAGE)[way]
    answer = client.post(path, content=pack(body), headers=headers | {"Content-Encoding": coding})
    assert answer.status_code == 400, answer.text
    said = answer.json()
    assert words in said.get("error", said.get("detail"))
    assert said.get("code", "malformed_body") == "malformed_body"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "utf-8", "gzip, gzip", "deflate,gzip", "x" * 99])
def test_a_coding_that_is_not_read_is_refused_by_its_name(client: httpx2.Client, way: str, coding: str) -> None:
    path, body, headers = bodies(IMAGE)[way]
    answer = client.post(path, content=body, headers=headers | {"Content-Encoding": coding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"  # RFC 9110, section 12.5.3
    said = answer.json()
    detail = f"Content-Encoding: {coding[:40]}: this service takes gzip, deflate or none."
    assert said.get("error", said.get("detail")) == detail
    assert said.get("code", "unsupported_encoding") == "unsupported_encoding"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("coding", "pack"), [PACKERS["gzip"], PACKERS["deflate"]], ids=["gzip", "deflate"])
def test_a_bomb_is_stopped_at_the_limit(
    server: Server, client: httpx2.Client, way: str, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    path, body, headers = bodies(IMAGE + bytes(40 * LIMIT_BYTES))[way]
    bomb = pack(body)
    assert len(bomb) < LIMIT_BYTES
    before, started = server.resident_bytes(), time.perf_counter()
    answer = client.post(path, content=bomb, headers=headers | {"Content-Encoding": coding})
    assert answer.status_code == 413, answer.text
    said = answer.json()
    limit = "More than the limit of 1 MB once it is decompressed (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    assert said.get("error", said.get("detail")) == limit
    assert time.perf_counter() - started < 5
    assert server.resident_bytes() - before < 20e6


def test_a_compressed_form_of_many_files_may_be_larger_than_one_file(client: httpx2.Client) -> None:
    content_type, body = form([BMP] * 12)
    assert len(body) > 4 * LIMIT_BYTES
    headers = {"Content-Type": content_type.decode(), "Content-Encoding": "gzip"}
    answer = client.post("/predict/batch", content=gzip.compress(body), headers=headers)
    assert len(answer.json()["results"]) == 12


# --- piece by piece -----------------------------------------------------------------------------------------------


def inflated(packed: bytes, coding: str, size: int) -> bytes:
    """What comes of a body that comes in pieces of this size."""
    pieces = [packed[place : place + size] for place in range(0, len(packed), size)]
    messages: list[Any] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request"})

    async def receive() -> Any:
        return messages.pop(0)

    async def all_of_it() -> bytes:
        found, receive_inflated = [], inflating(receive, coding, LIMIT_BYTES)
        while (message := await receive_inflated())["more_body"]:
            assert 0 < len(message["body"]) <= 65_536
            found.append(message["body"])
        return b"".join(found)

    return asyncio.run(all_of_it())


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000, 10**6])
def test_the_body_may_come_in_any_pieces(size: int) -> None:
    data = bytes(range(256)) * 40 + bytes(131_072)
    for coding, pack in (
        ("gzip", gzip.compress),
        ("gzip", members),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ):
        assert inflated(pack(data), coding, size) == data
        with pytest.raises(Problem, match=r"ends too early"):
            inflated(pack(data)[:-1], coding, size)
        with pytest.raises(Problem, match=r"goes on after its end"):
            inflated(pack(data) + b"no", coding, size)


def test_what_is_sent_beyond_the_limit_bounds_what_may_come_of_it() -> None:
    bomb = gzip.compress(bytes(60 * LIMIT_BYTES))
    with pytest.raises(Problem, match=r"More than the limit of 1 MB once it is decompressed"):
        inflated(bomb, "gzip", 65_536)
    photos = bytes(range(256)) * (LIMIT_BYTES // 512) + random.Random(0).randbytes(4 * LIMIT_BYTES)
    assert inflated(gzip.compress(photos, 1), "gzip", 65_536) == photos


def test_others_have_their_turn_while_a_body_is_inflated() -> None:
    """A body of empty members, and one of zeros: both are much work for little of it."""
    for packed in (gzip.compress(b"") * 20_000, gzip.compress(bytes(LIMIT_BYTES))):
        longest = asyncio.run(_longest_wait(packed))
        assert longest < 0.05


async def _longest_wait(packed: bytes) -> float:
    waits = []

    async def receive() -> Any:
        return {"type": "http.request", "body": packed}

    async def watch() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0)
            waits.append(time.perf_counter() - started)

    watching = asyncio.create_task(watch())
    receive_inflated = inflating(receive, "gzip", LIMIT_BYTES)
    while (await receive_inflated())["more_body"]:
        pass
    watching.cancel()
    return max(waits)


def test_no_header_is_no_coding() -> None:
    assert coding_of({}) == ""
