"""Many numbers as JSON text, without a Python object for each at once and without holding the interpreter for long.

`json.loads` of 10 MB of nested numbers takes half a second, in which no other thread runs.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_READ_BYTES, _WRITTEN = 16_384, 1024  # a slice: 1 ms
_DATA = re.compile(rb'"data"\s*:\s*(?=\[)')
_FLAT = bytes.maketrans(b"[]", b"  ")
_SEPARATORS = b",[{"
_MOST_VALUES = 10_000  # in a request's JSON, besides the numbers of its tensor


class NumberText(NamedTuple):
    """An array of a JSON document that is numbers all through, however nested, not yet read."""

    text: bytes

    def as_uint8(self, count: int) -> NDArray[np.uint8]:
        """uint8[count], row by row. Raises ValueError or TypeError where they are not that many from 0 to 255."""
        text, start, numbers = self.text.translate(_FLAT), 0, bytearray()
        while start < len(text) and len(numbers) <= count:
            comma = text.find(b",", start + _READ_BYTES)
            end = len(text) if comma < 0 else comma
            numbers += bytes(json.loads(b"[%b]" % text[start:end]))
            start = end + 1
        if len(numbers) != count:
            raise ValueError
        return np.frombuffer(numbers, np.uint8)


def loads(text: bytes) -> Any:
    """A JSON document in which the first member `data`, where that is an array of numbers, is a NumberText.

    Raises ValueError or RecursionError where it is no JSON, or holds more than 10,000 values besides.
    """
    rest, numbers = _cut(text)
    if sum(rest.count(separator) for separator in _SEPARATORS) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values besides the tensor's numbers")

    def constant(name: str) -> NumberText:  # NaN and Infinity, which JSON itself does not have
        if numbers is None or name != "NaN":
            raise ValueError(f"{name} is no JSON")
        return numbers

    return json.loads(rest, parse_constant=constant)


def dumps(values: NDArray[np.float32]) -> Iterator[bytes]:
    """The numbers of float32[...], row by row, in pieces: each the shortest decimal that is this float32."""
    flat = values.ravel()
    for place in range(0, len(flat), _WRITTEN):
        texts = flat[place : place + _WRITTEN].astype("S16").tolist()
        yield (b"," if place else b"") + b",".join(texts)


def _cut(text: bytes) -> tuple[bytes, NumberText | None]:
    """The document with NaN in the place of its numbers, and the numbers.

    An array without strings and objects ends before the next quote or brace. Within a string the quotes of `"data"`
    would have backslashes.
    """
    found = _DATA.search(text)
    if found is None:
        return text, None
    start = found.end()
    limit = min(place if place >= 0 else len(text) for place in (text.find(mark, start) for mark in (b'"', b"}")))
    end = text.rfind(b"]", start, limit) + 1
    array = text[start:end]
    if not array or text[end:limit].strip() not in (b"", b",") or array.count(b"[") != array.count(b"]"):
        return text, None
    return text[:start] + b"NaN" + text[end:], NumberText(array)
