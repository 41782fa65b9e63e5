"""The body of a request as it was before it was compressed, never larger than the limit."""

import zlib
from collections.abc import Mapping

from app.errors import Problem

_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_PIECE_BYTES = 256 * 1024
_MOST_INFLATION = 1032  # zlib's format allows no more


def encoding_of(headers: Mapping[bytes, bytes]) -> bytes:
    """`gzip`, `x-gzip`, `deflate`, or empty for a body as it is. Raises Problem."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in (b"", b"identity"):
        return b""
    if encoding not in _WINDOW_BITS:
        shown = encoding[:20].decode("latin-1")
        raise Problem("bad_parameter", f"Content-Encoding: {shown}: this service takes gzip, deflate or none.")
    return encoding


def most_inflated(compressed_bytes: int, max_bytes: int) -> int:
    """How large `inflate` can become."""
    return min(compressed_bytes * _MOST_INFLATION, max_bytes)


def inflate(data: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """What was compressed. Raises Problem at the first byte above `max_bytes`, or where it is damaged."""
    stream, pieces, size = zlib.decompressobj(_WINDOW_BITS[encoding]), [], 0
    try:
        while data and not stream.eof:
            piece = stream.decompress(data, _PIECE_BYTES)
            data = stream.unconsumed_tail
            size += len(piece)
            if size > max_bytes:
                detail = f"More than the limit of {max_bytes / 1e6:g} MB once it is decompressed"
                raise Problem("upload_too_large", f"{detail} (SIGHTGLASS_MAX_UPLOAD_BYTES).", limit_bytes=max_bytes)
            pieces.append(piece)
    except zlib.error as error:
        raise Problem("bad_tensor", f"The body is no {encoding.decode()}: {error}.") from error
    if not stream.eof or stream.unused_data:
        what = "goes on after its end" if stream.eof else "ends too early"
        raise Problem("bad_tensor", f"The body's {encoding.decode()} stream {what}.")
    return b"".join(pieces)
