"""The head of a request, its first line and its headers: how long it may be, and what it must say."""

import string
from collections.abc import Callable, Sequence

from app.errors import CLOSE, Problem

MOST_BYTES = 65_536
MOST_LINES = 256  # 65,536 bytes of `a:` and line end would be 16,000 headers, and 4 MB of Python
_END = b"\r\n\r\n"
_OF_A_HOST = f"{string.ascii_letters}{string.digits}.-_~!$&'()*+,;=%:[] \t".encode()  # RFC 3986, 3.2.2, and a port
_HTTP_2 = "Pause on PRI/Upgrade"  # what the parser says of a client that begins with it


class Head:
    """How much there has been of the head that comes next. `size`: in bytes."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The next one."""
        self.size = self._lines = 0
        self._tail = b""  # what may be the beginning of its end

    def take(self, data: bytes, place: int) -> int:
        """How many bytes of `data` from `place` on belong to it. Raises Problem, before they are parsed."""
        if not self.size:  # as nearly always: all of it at once, and too short for too many lines
            end = data.find(_END, place) + len(_END)
            if len(_END) <= end <= place + MOST_LINES * len(_END):
                self.size = end - place
                return self.size
        end = self._end(data, place)
        until = end or len(data)
        room = place + MOST_BYTES - self.size
        if until > room:
            first_line = not self._lines and data.find(b"\n", place, room) < 0
            raise _too_long("target_too_long" if first_line else "headers_too_large", f"{MOST_BYTES:,} bytes")
        self._lines += data.count(b"\n", place, until)
        if self._lines > MOST_LINES:
            raise _too_long("headers_too_large", f"{MOST_LINES} lines")
        self.size += until - place
        self._tail = b"" if end else (self._tail + data[max(place, until - 3) : until])[-3:]
        return until - place

    def _end(self, data: bytes, place: int) -> int:
        """Where in `data` it ends; 0 if not there."""
        if self._tail:
            found = (self._tail + data[place : place + 3]).find(_END)
            if found >= 0:
                return place + found + len(_END) - len(self._tail)
        found = data.find(_END, place)
        return found + len(_END) if found >= 0 else 0


def body_bytes(version: Callable[[], str], headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """How long the body is that follows these headers, with names in lower case; None where it comes in chunks.

    Raises Problem for what RFC 9112, 3.2 has refused: a Host that is missing, there twice or none.
    """
    found = dict(headers)
    host = found.get(b"host")
    if host is None:
        if version() != "1.0":
            raise malformed("the Host is missing")
    elif host.translate(None, _OF_A_HOST) or b" " in host.strip():
        raise malformed("the Host is none")
    elif len(found) < len(headers) and [name for name, _ in headers].count(b"host") > 1:
        raise malformed("there are two Hosts")
    return None if b"transfer-encoding" in found else int(found.get(b"content-length", 0))


def with_path(target: bytes) -> bytes:
    """`http://host?query` has the path `/`, which nothing that comes after would add; RFC 9112, 3.2.2."""
    scheme, mark, rest = target.partition(b"://")
    authority, question, query = rest.partition(b"?")
    if target.startswith(b"/") or not mark or b"/" in authority:
        return target
    return b"%b://%b/%b%b" % (scheme, authority, question, query)


def too_much_framing() -> Problem:
    """Of a body's chunks, in what is none of their bytes."""
    return _too_long("headers_too_large", f"{MOST_BYTES:,} bytes in chunk extensions or trailers")


def malformed(why: str) -> Problem:
    """What is no request."""
    if why == _HTTP_2:
        why = "HTTP/2 is not spoken here without an upgrade's offer, which is ignored"
    return Problem("malformed_request", f"This is no HTTP/1.1 request: {why[:1].lower()}{why[1:]}.", CLOSE)


def late(seconds: float) -> Problem:
    """A head of which only the beginning came."""
    return Problem("request_timeout", f"The request's headers were not complete within {seconds:g} s.", CLOSE)


def _too_long(code: str, most: str) -> Problem:
    return Problem(code, f"At most {most}.", CLOSE)
