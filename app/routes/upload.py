"""The picture of a request: a multipart field `file` or the raw body, in memory and never larger than the limit."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from app.errors import CLOSE, Problem

Hold = Callable[[int], None]
_PIECE_BYTES = 16 * 1024
_FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and part headers around the file
_BOUNDARY = re.compile(
    rb'multipart/form-data; ?boundary=(?:"([\w\'()+,./:=?-]{1,70})"|([\w\'+.-]{1,70}))', re.IGNORECASE
)
_FILE_HEAD = re.compile(
    rb'content-disposition: ?form-data; ?name="file"; ?filename="[^"\\\r\n]*"(?:\r\ncontent-type: ?[\w.+*/-]+)?',
    re.IGNORECASE,
)


class _InMemoryParser(MultiPartParser):
    # Starlette spools to a file above 1 MB, and answers 400 where no temporary directory is writable
    spool_max_size = sys.maxsize


async def read_picture(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int, hold: Hold) -> bytes:
    """The encoded picture. A multipart body is taken apart; any other body is the picture, whatever its type says.

    `hold` is told the size of each piece as it comes, and may raise.

    Raises Problem: upload_too_large before the excess is read, empty_body, malformed_body, bad_field.
    """
    content_type = headers.get(b"content-type", b"")
    multipart = content_type[:19].lower() == b"multipart/form-data"
    allowed = max_bytes + _FORM_OVERHEAD_BYTES if multipart else max_bytes
    pieces = await _body(headers, receive, allowed, max_bytes, hold)
    picture = _only_file_at_sight(content_type, pieces) if multipart else b"".join(pieces)
    if picture is None:
        body = b"".join(pieces)
        hold(len(body))  # the parser holds it twice more
        picture = await _form_file(content_type, body)
    if not picture:
        raise Problem("empty_body", "Send the picture as the body, or as the multipart field `file`.")
    if len(picture) > max_bytes:
        raise too_large(len(picture), max_bytes)
    return picture


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int, hold: Hold) -> bytes:
    """The body as it is, whatever its type. `hold` and the problems are those of `read_picture`."""
    return b"".join(await _body(headers, receive, max_bytes, max_bytes, hold))


async def _body(
    headers: Mapping[bytes, bytes], receive: Receive, allowed: int, max_bytes: int, hold: Hold
) -> list[bytes]:
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > allowed:
        raise too_large(int(announced), max_bytes)
    pieces, received, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("disconnected", "The connection closed before the whole body had come.")
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(piece)
        if received > allowed:
            raise too_large(received, max_bytes)
        hold(len(piece))
        if piece:
            pieces.append(piece)
    return pieces


def _only_file_at_sight(content_type: bytes, pieces: Sequence[bytes]) -> bytes | None:
    """The file of a form that holds nothing else, as curl, browsers and HTTP clients write it.

    None for anything out of that order, and where the first or last of the body's pieces is too short to tell: for the
    parser to judge.
    """
    if not pieces or not (boundary := _BOUNDARY.fullmatch(content_type)):
        return None
    delimiter = b"\r\n--" + (boundary[1] or boundary[2])
    end = delimiter + b"--\r\n"
    head_end = pieces[0].find(b"\r\n\r\n", 0, 4096)
    begins = pieces[0].startswith(delimiter[2:] + b"\r\n") and head_end > 0
    if not begins or not _FILE_HEAD.fullmatch(pieces[0], len(delimiter), head_end):
        return None
    within = [pieces[0][head_end + 4 :], *pieces[1:]]  # joined once: each copy of 4 MB takes 0.6 ms
    if not within[-1].endswith(end):
        return None
    within[-1] = within[-1][: -len(end)]
    file = b"".join(within)
    return None if delimiter in file else file


async def _form_file(content_type: bytes, body: bytes) -> bytes:
    """The content of the one file in the field `file`."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        for place in range(0, len(body), _PIECE_BYTES):
            yield body[place : place + _PIECE_BYTES]
            await asyncio.sleep(0)  # what is all boundaries takes 0.2 ms a kB

    headers = Headers(raw=[(b"content-type", content_type)])
    try:
        form = await _InMemoryParser(headers, pieces(), max_files=10, max_fields=10).parse()
    except (MultiPartException, ValueError) as error:
        raise Problem("malformed_body", f"The multipart body cannot be read: {error}") from error
    try:
        return await _only_file(form).read()
    finally:
        await form.close()


def _only_file(form: FormData) -> UploadFile:
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        text = "it is text, not a file (curl needs the @: -F file=@cat.jpg)" if "file" in form else "there is no file"
        raise Problem("bad_field", f"Expected one file in the field `file`, but {text}.")
    if len(files) > 1 or len(form.getlist("file")) > 1:
        raise Problem("bad_field", "Expected one file in the field `file`, but there are several.")
    name, file = files[0]
    if name != "file":
        raise Problem("bad_field", f"Expected one file in the field `file`, but it is in the field `{name[:64]}`.")
    return file


def too_large(received: int, limit: int) -> Problem:
    """What such a file is answered with; sizes in bytes."""
    detail = f"{received / 1e6:.1f} MB; the limit is {limit / 1e6:g} MB (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    return Problem("upload_too_large", detail, CLOSE, limit_bytes=limit, received_bytes=received)
