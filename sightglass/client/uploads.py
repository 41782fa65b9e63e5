"""The images that callers give, and the line in which many of them stand."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

from sightglass.client.errors import UnreadableFile

Image = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
_AHEAD = 1000  # results that may wait for the one before them


def read(image: Image) -> bytes:
    """Its bytes. Raises UnreadableFile."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    try:
        content = Path(image).read_bytes() if isinstance(image, str | os.PathLike) else image.read()
    except OSError as error:
        why = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        raise UnreadableFile(why, "unreadable_file") from error
    if not isinstance(content, bytes):
        raise TypeError("an image is bytes: open its file with mode 'rb'")
    return content


class _Pending(Protocol):
    def done(self) -> bool: ...


P = TypeVar("P", bound=_Pending)


class Line(Generic[P]):
    """Calls that run at once and leave in the order in which they came."""

    def __init__(self, concurrency: int) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency}: images at once, from 1")
        self.pending: deque[P] = deque()
        self._concurrency = concurrency

    def running(self) -> list[P]:
        """Those that are not done."""
        return [each for each in self.pending if not each.done()]

    def full(self) -> bool:
        """Whether the next has to wait until one is done."""
        return len(self.pending) >= _AHEAD or len(self.running()) >= self._concurrency

    def leave(self) -> Iterator[P]:
        """Those that are done, up to the first that is not."""
        while self.pending and self.pending[0].done():
            yield self.pending.popleft()
