"""What the protocol does that a client over a socket can hardly hit: the turn of the loop between answer and packet."""

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from app.connection import _Gathering


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_whose_client_has_just_left_is_dropped_in_silence(loops: Any) -> None:
    troubles: list[dict[str, Any]] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, trouble: troubles.append(trouble))
        mine, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=mine)
            gathering = _Gathering(transport, loop, lambda: False)
            transport.abort()
            await asyncio.sleep(0.05)
            gathering.write(b"an answer")
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(scene())
    assert troubles == []
