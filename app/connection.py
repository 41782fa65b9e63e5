"""HTTP/1.1 as uvicorn speaks it, but an answer is one packet, and a request can be told that its client has left."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LINGER_SECONDS = 5  # for the rest of an upload, which is thrown away


class Connection(HttpToolsProtocol):
    """uvicorn writes twice an answer, and uvloop makes a system call and a packet of each: 14 % of the throughput.

    `scope["state"]["closed"]` is a future that ends with the connection: to wait for the message that ASGI has for it
    takes a task for each request, 0.04 ms. Where another server has none, what clients leave is worked at to its end.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._gathering = _Gathering(transport, self.loop, self._is_uploading)
        super().connection_made(self._gathering)  # type: ignore[arg-type]
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._receiving = False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._closed.set_result(None)

    def on_message_begin(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_begin()
        self._receiving = True
        self.scope["state"]["closed"] = self._closed

    def on_body(self, body: bytes) -> None:
        """See HttpToolsProtocol, which copies each piece into a bytearray and from there to bytes: 0.6 ms of 1.5 MB."""
        cycle = self.cycle
        if not cycle.body:
            cycle.body = b""  # type: ignore[assignment]  # and b"" + body is body itself
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)  # to add many small pieces to bytes would copy all of them for each
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_complete()
        self._receiving = False
        self._gathering.end_lingering()

    def _is_uploading(self) -> bool:
        return self._receiving and self.cycle is not None and self.cycle.response_complete


class _Gathering:
    """A transport that writes once a turn of the event loop, and closes as RFC 9112, 9.6 asks.

    To close while an upload is under way resets the connection, and its client may never see the answer: a 413.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_uploading: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_uploading = is_uploading
        self._lingering: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)

    def close(self) -> None:
        self._flush()
        if self._lingering or not self._is_uploading() or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write_eof()
        self._lingering = self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    def end_lingering(self) -> None:
        if self._lingering:
            self._lingering.cancel()
            self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():  # the client may have closed since
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
