"""How a body comes in and an answer goes out, between the socket and ASGI."""

import asyncio
import json
import socket
from typing import Any

import httpx2
import pytest
import uvloop

from app.server.transport import CoalescingTransport
from tests.images import drawing, encode
from tests.serving import Server, connect


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000], ids="chunks of {}".format)
def test_a_body_is_the_same_in_whatever_chunks_it_comes(server: Server, size: int) -> None:
    file = encode(drawing(300, 300), "BMP")
    whole = httpx2.post(f"{server.url}/predict", content=file, timeout=60).json()
    pieces = [file[place : place + size] for place in range(0, len(file), size)]
    chunks = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces])
    with connect(server) as client:
        head = b"POST /predict HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(head + chunks + b"0\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            received = client.recv(65_536)
            assert received, answer
            answer += received
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == whole


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_whose_client_has_just_left_is_dropped_in_silence(loops: Any) -> None:
    troubles: list[dict[str, Any]] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, trouble: troubles.append(trouble))
        mine, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=mine)
            gathering = CoalescingTransport(transport, loop, lambda: False)
            transport.abort()
            await asyncio.sleep(0.05)
            gathering.write(b"an answer")
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(scene())
    assert troubles == []
