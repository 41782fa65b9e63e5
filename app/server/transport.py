"""A transport that writes once a turn of the event loop, and closes as RFC 9112, 9.6 asks."""

import asyncio
from collections.abc import Callable
from typing import Any

_LINGER_SECONDS = 5  # for what its client is still sending, which is thrown away


class CoalescingTransport:
    """To close while an upload is under way resets the connection, and its client may never see the answer: a 413.

    `closed`: nothing more will be written.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_sending: Callable[[], bool]
    ) -> None:
        """`is_sending`: whether the client may be."""
        self.closed = False
        self.is_closing = transport.is_closing  # asked for each answer: __getattr__ would take longer than the question
        self._transport = transport
        self._loop = loop
        self._is_sending = is_sending
        self._lingering: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        """See asyncio.Transport."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)

    def close(self) -> None:
        """See asyncio.Transport; of a client that is sending only our half is closed, for some seconds."""
        self._flush()
        self.closed = True
        if self._lingering or not self._is_sending() or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write_eof()
        self._lingering = self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    def end_lingering(self) -> None:
        """The client has sent everything."""
        if self._lingering:
            self._lingering.cancel()
            self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self.closed and not self._transport.is_closing():  # the client may have closed since
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
