"""The memory that pictures may take, from the container's limit: without it one large photo kills a small container."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.artifact.image import TooManyPixels
from app.engines import machine

# Of what is free once the model is loaded; the rest is for the allocator's gaps and the kernel's buffers.
_DECODING = 0.6
_UPLOADS = 0.3


class Memory:
    """Shared by all requests of a worker. `decoding_bytes` and `upload_bytes` are what pictures may take altogether."""

    def __init__(self, free_bytes: int) -> None:
        """`free_bytes`: what may be allocated on top of what the process holds now."""
        self.decoding_bytes = int(free_bytes * _DECODING)
        self.upload_bytes = int(free_bytes * _UPLOADS)
        self._free = self.decoding_bytes
        self._freed = threading.Condition()

    @classmethod
    def of_worker(cls, workers: int) -> "Memory":
        """This worker's share of the container's limit, or of the machine's memory."""
        return cls(max(0, machine.memory_bytes() // workers - machine.resident_bytes()))

    @contextmanager
    def for_decoding(self, needed: int) -> Iterator[None]:
        """Wait, in a decoder's thread, until `needed` bytes are free. Raises TooManyPixels if they never can be."""
        if needed > self.decoding_bytes:
            raise TooManyPixels(
                f"this picture needs {needed / 1e6:.0f} MB to decode; "
                f"of its memory limit the service has {self.decoding_bytes / 1e6:.0f} MB for that"
            )
        with self._freed:
            self._freed.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._freed:
                self._free += needed
                self._freed.notify_all()
