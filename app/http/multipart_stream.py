"""A multipart form (RFC 7578), taken apart while it comes: each file is there as soon as it is complete."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import CLOSE, Problem
from app.http.body import too_large

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_NAME_CHARACTERS = 255
_MOST_FIELDS = 1_000  # besides the files; what they hold is thrown away
_AS_IT_IS = (b"", b"binary", b"8bit", b"7bit")
_OF_A_FILE = (b"image/", b"application/octet-stream")
# the library's own parser of these takes 14 ms for 4 kB of semicolons in quotes
_PARAMETER = re.compile(rb';[ \t]*([\w*-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')
_ESCAPED = re.compile(rb'\\(["\\])')
_EXTENDED = re.compile(rb"filename\*(\d{1,3}\*?)?")  # the latter in pieces, RFC 2231


@dataclass
class File:
    """`name`: the first 255 characters of the client's own; `size` in bytes, none of them kept beyond the limit."""

    name: str
    size: int = 0
    received: bytearray = field(default_factory=bytearray)

    def content(self, max_bytes: int) -> bytes:
        """The encoded image, once: it is not kept here. Raises Problem: empty_body, upload_too_large."""
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        if not self.size:
            raise Problem("empty_body", "The file has no bytes.")
        received, self.received = self.received, bytearray()
        return bytes(received)


class FilesForm:
    """The files of one field; `begun` counts them, `complete` holds those that nobody has taken yet.

    `ended`: after the form's end nothing counts any more. Text in other fields is passed over.
    """

    def __init__(self, content_type: bytes, field: str, max_file_bytes: int, max_files: int) -> None:
        """Raises Problem where the type is not that of a form."""
        self.begun = 0
        self.complete: deque[File] = deque()
        self.ended = False
        self._field = field
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._wanted = f"one file in the field `{field}`" if max_files == 1 else f"files in the field `{field}`"
        self._curl = f"-F {field}=@cat.jpg"
        self._empty, self._in_head = True, False
        self._parts = self._texts = 0
        self._file: File | None = None
        self._header, self._value = b"", b""
        self._head: dict[bytes, bytes] = {}
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise Problem("malformed_body", f"Send a form (multipart/form-data): curl {self._curl}.", CLOSE)
        self._boundary = options.get(b"boundary", b"")
        if not self._boundary:
            raise _malformed("its Content-Type names no boundary; let the HTTP library set that header")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(self._boundary, callbacks)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def write(self, piece: bytes) -> None:
        """The next bytes of the body. Raises Problem: malformed_body, bad_field, too_many_files."""
        if self.ended:
            return
        self._empty = False
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(self._why(error)) from error

    def close(self) -> None:
        """The body is over. Raises Problem where the form is not, or has no file."""
        if self._empty:
            raise Problem("empty_body", f"Send a form with {self._wanted}: curl {self._curl}.")
        if not self.ended:
            raise _malformed("it ends in the middle, without its final boundary", {})
        if not self.begun:
            raise Problem("bad_field", f"Expected {self._wanted}, but there is no file.")

    def _why(self, error: FormParserError) -> str:
        if not self._parts:
            begins = f"--{self._boundary[:70].decode('latin-1')}"
            return f"it does not begin with `{begins}` and CRLF, as its Content-Type says"
        if self._in_head:
            return f"the head of part {self._parts} is not lines of a name, a colon and a value ({error})"
        return f"the boundary after part {self._parts} is followed by neither CRLF nor `--`"

    def _on_part_begin(self) -> None:
        self._parts += 1
        self._in_head = True

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._head[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        head, self._head, self._in_head = self._head, {}, False
        parameters = {
            name.lower(): _ESCAPED.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value.strip()
            for name, value in _PARAMETER.findall(head.get(b"content-disposition", b""))
        }
        field, filename = _text(parameters.get(b"name", b"")), _filename(parameters)
        if filename is None and field == self._field and head.get(b"content-type", b"").lower().startswith(_OF_A_FILE):
            filename = ""
        if filename is None:
            self._pass_over(field)
        else:
            self._begin(field, filename, head.get(b"content-transfer-encoding", b"").strip().lower())

    def _pass_over(self, field: str) -> None:
        self._file = None
        self._texts += 1
        if field == self._field:
            detail = f"Expected {self._wanted}, but it is text, not a file (curl needs the @: {self._curl})."
            raise Problem("bad_field", detail, CLOSE)
        if self._texts > _MOST_FIELDS:
            raise Problem("bad_field", f"Expected {self._wanted}, but there are over {_MOST_FIELDS:,} others.", CLOSE)

    def _begin(self, field: str, filename: str, encoding: bytes) -> None:
        if field != self._field:
            which = f"one is in the field `{field[:64]}`" if field else "one is in a field without a name"
            raise Problem("bad_field", f"Expected {self._wanted}, but {which}.", CLOSE)
        if self.begun == self._max_files == 1:
            raise Problem("bad_field", f"Expected {self._wanted}, but there are several.", CLOSE)
        if self.begun == self._max_files:
            detail = f"At most {self._max_files:,} files at once; send the others in further requests."
            raise Problem("too_many_files", detail, CLOSE, limit_files=self._max_files)
        if encoding not in _AS_IT_IS:
            shown = encoding[:20].decode("latin-1")
            raise _malformed(f"a part has Content-Transfer-Encoding: {shown}, and forms have none; send bytes")
        self.begun += 1
        self._file = File(filename[:_NAME_CHARACTERS])

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            return
        self._file.size += end - start
        if self._file.size > self._max_file_bytes:
            self._file.received.clear()  # and the rest is skipped
        else:
            self._file.received += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            self.complete.append(self._file)

    def _on_end(self) -> None:
        self.ended = True


def _malformed(why: str, headers: dict[str, str] = CLOSE) -> Problem:
    return Problem("malformed_body", f"The multipart body cannot be read: {why}.", headers)


def _filename(parameters: dict[bytes, bytes]) -> str | None:
    """None where a part is no file. Some encoders name a file by `filename*` (RFC 8187) alone, whatever RFC 7578 says;
    beside `filename` it is the one that is not garbled."""
    value = b"".join(value for name, value in parameters.items() if _EXTENDED.fullmatch(name))
    if not value:
        return _text(parameters[b"filename"]) if b"filename" in parameters else None
    return _text(unquote_to_bytes(value.split(b"'", 2)[2] if value.count(b"'") > 1 else value))


def _text(sent: bytes) -> str:
    """UTF-8, or ISO 8859-1 where it is not: nobody sends another, whatever is announced."""
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent.decode("latin-1")
