"""A multipart form of many files, taken apart while it comes: each file is there as soon as it is complete."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from app.errors import CLOSE, Problem
from app.routes.upload import too_large

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_PIECE_BYTES = 16 * 1024  # what is all boundaries takes 0.2 ms a kB
_NAME_CHARACTERS = 255
FIELD = "files"
_CURL = f"curl -F {FIELD}=@a.jpg -F {FIELD}=@b.jpg"


@dataclass
class File:
    """`name`: the first 255 characters of the client's own; `size` in bytes, none of them kept beyond the limit."""

    name: str
    size: int = 0
    received: bytearray = field(default_factory=bytearray)

    def content(self, max_bytes: int) -> bytes:
        """The encoded picture, once: it is not kept here. Raises Problem: empty_body, upload_too_large."""
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        if not self.size:
            raise Problem("empty_body", "The file has no bytes.")
        received, self.received = self.received, bytearray()
        return bytes(received)


class FilesForm:
    """The files of the field `files`; `begun` counts them, `complete` holds those that nobody has taken yet.

    `ended`: after the form's end nothing counts any more.
    """

    def __init__(self, content_type: bytes, max_file_bytes: int, max_files: int) -> None:
        """Raises Problem where the type is not that of a form."""
        self.begun = 0
        self.complete: deque[File] = deque()
        self.ended = False
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._empty = True
        self._file = File("")
        self._header, self._value, self._disposition = b"", b"", b""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Problem("malformed_body", f"Send the pictures as a form (multipart/form-data): {_CURL}.", CLOSE)
        callbacks: MultipartCallbacks = {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise _malformed(str(error), CLOSE) from error

    def write(self, piece: bytes) -> None:
        """The next bytes of the body. Raises Problem: malformed_body, bad_field, too_many_files."""
        if self.ended:
            return
        self._empty = False
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error), CLOSE) from error

    def close(self) -> None:
        """The body is over. Raises Problem where the form is not, or has no file."""
        if self._empty:
            raise Problem("empty_body", f"Send the pictures as the multipart field `{FIELD}`: {_CURL}.")
        if not self.ended:
            raise _malformed("it ends in the middle")
        if not self.begun:
            raise Problem("bad_field", f"Expected files in the field `{FIELD}`, but the form is empty.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        name = _text(options.get(b"name", b""))[:64]
        if b"filename" not in options:
            hint = f" (curl needs the @: {_CURL})" if name == FIELD else ""
            raise Problem("bad_field", f"Expected only files in the form, but `{name}` is text{hint}.", CLOSE)
        if name != FIELD:
            detail = f"Expected files in the field `{FIELD}`, but one is in the field `{name}`."
            raise Problem("bad_field", detail, CLOSE)
        if self.begun == self._max_files:
            detail = f"At most {self._max_files:,} files at once; send the others in further requests."
            raise Problem("too_many_files", detail, CLOSE, limit_files=self._max_files)
        self.begun += 1
        self._file = File(_text(options[b"filename"])[:_NAME_CHARACTERS])

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._file.size += end - start
        if self._file.size > self._max_file_bytes:
            self._file.received.clear()  # and the rest is skipped
        else:
            self._file.received += data[start:end]

    def _on_part_end(self) -> None:
        self.complete.append(self._file)

    def _on_end(self) -> None:
        self.ended = True


async def slices(receive: Receive) -> AsyncIterator[bytes]:
    """The body in pieces that are quickly taken apart, whatever is in them. Raises Problem: disconnected."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("disconnected", "The connection closed before the whole body had come.")
        more = message.get("more_body", False)
        body = message.get("body", b"")
        for place in range(0, len(body), _PIECE_BYTES):
            yield body[place : place + _PIECE_BYTES]
            await asyncio.sleep(0)


def _malformed(why: str, headers: dict[str, str] | None = None) -> Problem:
    return Problem("malformed_body", f"The multipart body cannot be read: {why}.", headers)


def _text(sent: bytes) -> str:
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent.decode("latin-1")
