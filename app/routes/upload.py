"""The picture of a request: a multipart field `file` or the raw body, in memory and never larger than the limit."""

import sys
from collections.abc import AsyncGenerator, Callable

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.errors import Problem

Hold = Callable[[int], None]
_FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and part headers around the file


class _InMemoryParser(MultiPartParser):
    # Starlette spools to a file above 1 MB, and answers 400 where no temporary directory is writable
    spool_max_size = sys.maxsize


async def read_picture(request: Request, max_bytes: int, hold: Hold) -> bytes:
    """The encoded picture. A multipart body is taken apart; any other body is the picture, whatever its type says.

    `hold` is told the size of each piece as it comes, and may raise.

    Raises Problem: upload_too_large before the excess is read, empty_body, malformed_body, bad_field.
    """
    multipart = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    allowed = max_bytes + _FORM_OVERHEAD_BYTES if multipart else max_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > allowed:
        raise _too_large(int(announced), max_bytes)
    body = _bounded(request, allowed, max_bytes, hold)
    picture = await _form_file(request, body) if multipart else b"".join([chunk async for chunk in body])
    if not picture:
        raise Problem("empty_body", "Send the picture as the body, or as the multipart field `file`.")
    if len(picture) > max_bytes:
        raise _too_large(len(picture), max_bytes)
    return picture


async def _form_file(request: Request, body: AsyncGenerator[bytes, None]) -> bytes:
    """The content of the one file in the field `file`."""
    try:
        form = await _InMemoryParser(request.headers, body, max_files=10, max_fields=10).parse()
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


async def _bounded(request: Request, allowed: int, max_bytes: int, hold: Hold) -> AsyncGenerator[bytes, None]:
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > allowed:
                raise _too_large(received, max_bytes)
            hold(len(chunk))
            yield chunk
    except ClientDisconnect as error:
        raise Problem("disconnected", "The connection closed before the whole body had come.") from error


def _too_large(received: int, limit: int) -> Problem:
    detail = f"{received / 1e6:.1f} MB; the limit is {limit / 1e6:g} MB (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    return Problem("upload_too_large", detail, {"Connection": "close"}, limit_bytes=limit, received_bytes=received)
