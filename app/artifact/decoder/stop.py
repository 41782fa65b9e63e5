"""How a decode ends before its pixels are there, because nobody waits for them any more."""

import io
import threading
from collections.abc import Callable


class Stopped(Exception):
    """Nobody waits for the pixels any more."""


class Stop:
    """Set by one thread, for another that decodes: it raises Stopped at the next piece of the file that it reads, or
    loses the process that does it."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None

    def set(self) -> None:
        """Stop now."""
        with self._lock:
            self.is_set = True
            act = self._act
        if act:
            act()

    def act(self, act: Callable[[], None]) -> None:
        """What ends that which cannot look here; at once where that is already to end."""
        with self._lock:
            self._act = act
        if self.is_set:
            act()


class Source(io.BytesIO):
    """A file that can no longer be read when `stop` is set: Pillow's decoders read 64 kB at a time."""

    def __init__(self, data: bytes, stop: Stop) -> None:
        super().__init__(data)
        self._stop = stop

    def read(self, size: int | None = -1, /) -> bytes:
        """See BytesIO. Raises Stopped."""
        if self._stop.is_set:
            raise Stopped
        return super().read(size)
