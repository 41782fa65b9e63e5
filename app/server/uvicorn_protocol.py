"""HTTP/1.1 as uvicorn speaks it, but an answer is one packet, a request can be told that its client has left, and what
a client may send before anybody has looked at it has bounds."""

import asyncio
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import CLOSE, Problem
from app.server import request_head
from app.server.connection_deadlines import Waiting
from app.server.request_head import Head
from app.server.transport import CoalescingTransport

HEAD_SECONDS = 20.0
_REST_SECONDS = 30  # for the rest of an upload that has been answered
_KEPT_BYTES = 65_536  # of requests behind the one that is being answered; then no more is read
_MOST_BYTES = 4096  # of a chunked body at a time
_LEAST_BYTES = 1024  # of a chunked body at a time: one that is all line ends would be parsed byte by byte
_THROWN_BYTES = 16_000_000  # what a refused client may send on so that it sees why


class Connection(HttpToolsProtocol):
    """One message is parsed at a time, and the next one when it has been answered.

    uvicorn keeps what comes meanwhile as requests, 1.5 kB for each of 25 bytes; has no bounds for a head; takes an
    offer to upgrade, which RFC 9110, 7.8 lets us ignore, for its request's end; and writes twice an answer, of which
    uvloop makes two system calls and packets: 14 % of the throughput.

    `scope["state"]["closed"]` is a future that ends with the connection: to wait for the message that ASGI has for it
    takes a task for each request, 0.04 ms. Where another server has none, what clients leave is worked at to its end.
    `scope["state"]["refused"]` is there for what never became a request: the Problem to answer.
    """

    deadline = 0.0  # see Waiter

    def __init__(self, *arguments: Any, waiting: Waiting | None = None, **named: Any) -> None:
        """`waiting` is shared by all connections of a process."""
        super().__init__(*arguments, **named)
        self._waiting = waiting or Waiting(HEAD_SECONDS)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._coalescing = CoalescingTransport(transport, self.loop, self._is_sending)
        super().connection_made(self._coalescing)  # type: ignore[arg-type]
        self.flow = self._flow = _Flow(self._coalescing)  # type: ignore[arg-type]
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._head = Head()
        self._in_head = self._in_body = self._begun = False
        self._body_left: int | None = 0  # bytes; None of one that comes in chunks
        self._framing_bytes = 0  # of chunks, since the last byte of their content
        self._rest = b""  # received, and not parsed yet
        self._refused: Problem | None = None
        self._thrown = 0  # bytes that came after a refusal
        self._wait(self._waiting.head_seconds)
        self._waiting.make_room(self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._waiting.end(self)
        super().connection_lost(exc)
        self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self._refused:
            self._rest = self._rest + data if self._rest else data
            self._parse()
            return
        self._thrown += len(data)
        if self._thrown > _THROWN_BYTES:
            self.give_way()

    def _parse(self) -> None:
        data, place = self._rest, 0
        try:
            while place < len(data):
                if self._in_body:
                    size = self._body_bytes(data, place)
                elif self._is_busy():
                    break
                else:
                    size = self._head.take(data, place)
                piece = data if size == len(data) else memoryview(data)[place : place + size]
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as offer:
                    self._ignore(offer, piece)
                place += size
        except (httptools.HttpParserError, Problem) as error:
            why = error if isinstance(error, Problem) else error.__context__
            self._refuse(why if isinstance(why, Problem) else request_head.malformed(str(why or error)))
            return
        self._rest = data[place:]
        self._flow.hold(len(self._rest) > _KEPT_BYTES)
        if (self._head.size or self._begun) and not self._in_head:  # of the next request only the beginning
            self._in_head = True
            if self.cycle is not None:  # the first one's time runs from the start of the connection
                self._wait(self._waiting.head_seconds)

    def _is_busy(self) -> bool:
        return self._coalescing.closed or (self.cycle is not None and not self.cycle.response_complete)

    def _body_bytes(self, data: bytes, place: int) -> int:
        """How many bytes from `place` on are of this body, or nearly so. Raises Problem beyond bounds."""
        left = len(data) - place
        if self._body_left is not None:
            return min(left, max(1, self._body_left))
        if self._framing_bytes > request_head.MOST_BYTES:
            raise request_head.too_much_framing()
        end = data.find(b"\r\n\r\n", place + _LEAST_BYTES)
        # what is behind the body's end must not come past the bounds of a head with it
        size = min(end + 4 - place if end >= 0 else left, _MOST_BYTES)
        self._framing_bytes += size
        return size

    def _ignore(self, offer: httptools.HttpParserUpgrade, piece: bytes | memoryview) -> None:
        """The parser ends a request at an offer to upgrade: another reads its head again without it, and goes on.

        The same one would not where the connection is to be closed, as that of HTTP/1.0 is: it has ended for good.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % line for line in self.headers if line[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # as uvicorn makes its own
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        rest = piece[offer.args[0] :]
        try:
            self.parser.feed_data(rest)
        except httptools.HttpParserUpgrade as another:
            self._ignore(another, rest)

    def on_message_begin(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_begin()
        self._begun = True
        self.scope["state"]["closed"] = self._closed

    def on_headers_complete(self) -> None:
        """See HttpToolsProtocol."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":  # whose body is another protocol
                raise Problem("method_not_allowed", "This is no proxy.", {"Allow": "GET, HEAD, POST, OPTIONS", **CLOSE})
            return
        self._body_left = request_head.body_bytes(self.parser.get_http_version, self.headers)
        self._framing_bytes = 0
        self._head.reset()
        self.url = request_head.with_path(self.url)
        super().on_headers_complete()
        self._in_head, self._in_body, self._begun = False, True, False
        self._waiting.end(self)
        self.headers = _TRAILERS

    def on_body(self, body: bytes) -> None:
        """See HttpToolsProtocol, which copies each piece into a bytearray and from there to bytes: 0.6 ms of 1.5 MB."""
        if self._body_left is None:
            self._framing_bytes = 0
        else:
            self._body_left -= len(body)
        cycle = self.cycle
        if not cycle.body:
            cycle.body = b""  # type: ignore[assignment]  # and b"" + body is body itself
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)  # to add many small pieces to bytes would copy all of them for each
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See HttpToolsProtocol."""
        if self.parser.should_upgrade():  # and has another head to come
            return
        super().on_message_complete()
        self._in_body = False
        if self._coalescing.closed:
            self._coalescing.end_lingering()
        elif self.cycle.response_complete:
            self._wait(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        """See HttpToolsProtocol, which has a timer for each answer, and reads on while others wait."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._wait(_REST_SECONDS if self._in_body else self.timeout_keep_alive)
        if self._rest:
            self._parse()

    def _refuse(self, problem: Problem) -> None:
        """Answer what never became a request, behind the answers that are owed, and close."""
        self._refused, self._rest = problem, b""
        self._flow.hold(False)
        if self._in_body:
            cycle = self.cycle
            if cycle.response_started:
                self.transport.close()
                return
            if any(cycle is behind for behind, _ in self.pipeline):
                cycle.keep_alive = False
                cycle.scope["state"]["refused"] = problem
                return
            cycle.disconnected = True  # nobody will have the rest of its body
            cycle.message_event.set()
            self.cycle = None  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"GET / HTTP/1.0\r\n\r\n")  # what the application is asked in its place
        self.scope["method"] = "-"
        self.scope["state"]["refused"] = problem

    def expire(self) -> None:
        """See Waiter."""
        if self._head.size and not self._refused:
            self._refuse(request_head.late(self._waiting.head_seconds))
        else:
            self.give_way()

    def give_way(self) -> None:
        """See Waiter."""
        self._coalescing.abort()

    def _wait(self, seconds: float) -> None:
        self._waiting.begin(self, seconds, self.loop)

    def _is_sending(self) -> bool:
        answered = self.cycle is not None and self.cycle.response_complete
        return self._refused is not None or (self._in_body and answered)


class _Flow(FlowControl):
    """Reads nothing more while too much is kept, whoever asks for it."""

    _full = False

    def hold(self, full: bool) -> None:
        if full:
            self._full = True
            self.pause_reading()
        elif self._full:
            self._full = False
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self._full:
            super().resume_reading()


class _Trailers(list[tuple[bytes, bytes]]):
    """Headers behind a body: nobody here reads them, and the application has its headers by then."""

    def append(self, _header: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS = _Trailers()
