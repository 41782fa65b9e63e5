"""The body of a request in small pieces, as it was before it was compressed (RFC 9110, section 8.4)."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping

from starlette.types import Message, Receive

from app.errors import CLOSE, Problem

SLICE_BYTES = 16 * 1024  # what is all boundaries takes 0.2 ms a kB, what is all empty gzip members as long
_INFLATED_BYTES = 64 * 1024  # 0.2 ms
_MAGIC = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_NAMES = {b"gzip": "gzip", b"x-gzip": "gzip", b"deflate": "deflate"}
_MOST_INFLATION = 100  # beyond an upload's size: images inflate to a few times as much, and zlib's limit is 1,032


async def slices(receive: Receive) -> AsyncIterator[bytes]:
    """The body in pieces that are quickly taken apart, whatever is in them. Raises Problem: disconnected."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("disconnected", "The connection closed before the whole body had come.")
        more = message.get("more_body", False)
        body = message.get("body", b"")
        for place in range(0, len(body), SLICE_BYTES):
            yield body[place : place + SLICE_BYTES]
            await asyncio.sleep(0)


def coding_of(headers: Mapping[bytes, bytes]) -> str:
    """`gzip`, `deflate`, or empty for a body as it is. Raises Problem: unsupported_encoding."""
    sent = headers.get(b"content-encoding", b"").lower()
    codings = [coding for each in sent.split(b",") if (coding := each.strip()) not in (b"", b"identity")]
    if codings and (len(codings) > 1 or codings[0] not in _NAMES):
        detail = f"Content-Encoding: {sent[:40].decode('latin-1')}: this service takes gzip, deflate or none."
        raise Problem("unsupported_encoding", detail, {"Accept-Encoding": "gzip, deflate", **CLOSE})
    return _NAMES[codings[0]] if codings else ""


def inflating(receive: Receive, coding: str, max_bytes: int) -> Receive:
    """What gives the same body as `receive`, but decompressed and in pieces of at most 64 kB.

    It raises Problem: malformed_body where the stream is damaged, and upload_too_large where what came of it is both
    larger than `max_bytes` and a hundred times as large as what was sent: the rest is for the reader to bound.
    """
    pieces = _inflated(receive, coding, max_bytes)

    async def receive_inflated() -> Message:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return receive_inflated


async def _inflated(receive: Receive, coding: str, max_bytes: int) -> AsyncIterator[bytes]:
    """Of gzip also several streams, one after the other (RFC 1952, section 2.2)."""
    stream, sent, came, waiting = None, 0, 0, b""
    try:
        async for data in slices(receive):
            sent += len(data)
            data, waiting, held_back = waiting + data, b"", False
            if stream is None and len(data) < len(_MAGIC):
                waiting = data
                continue
            while data or held_back:
                if stream is None or stream.eof:
                    if stream and (coding != "gzip" or not _MAGIC.startswith(data[:2])):
                        raise _malformed(f"The body's {coding} stream goes on after its end.")
                    stream = zlib.decompressobj(_bits(coding, data))
                piece = stream.decompress(data, _INFLATED_BYTES)
                data = stream.unconsumed_tail or stream.unused_data
                held_back = len(piece) == _INFLATED_BYTES and not stream.eof
                came += len(piece)
                if came > max_bytes + _MOST_INFLATION * sent:
                    raise too_large_inflated(max_bytes)
                if piece:
                    yield piece
                    await asyncio.sleep(0)
    except zlib.error as error:
        raise _malformed(f"The body is no {coding}: {error}.") from error
    if stream is None or not stream.eof:
        raise _malformed(f"The body's {coding} stream ends too early.")


def _bits(coding: str, data: bytes) -> int:
    """Deflate is zlib's format, but for clients that have taken its name at its word (RFC 9110, section 8.4.1.2)."""
    if coding == "gzip":
        return _GZIP_BITS
    return _ZLIB_BITS if data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0 else _RAW_BITS


def _malformed(detail: str) -> Problem:
    return Problem("malformed_body", detail, CLOSE)


def too_large(received: int, limit: int) -> Problem:
    """What such a file is answered with; sizes in bytes."""
    detail = f"{received / 1e6:.1f} MB; the limit is {limit / 1e6:g} MB (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    return Problem("upload_too_large", detail, CLOSE, limit_bytes=limit, received_bytes=received)


def too_large_inflated(limit: int) -> Problem:
    """The same of a compressed one, of which nobody knows how large it would have become."""
    detail = f"More than the limit of {limit / 1e6:g} MB once it is decompressed (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    return Problem("upload_too_large", detail, CLOSE, limit_bytes=limit)
