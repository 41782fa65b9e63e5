"""The memory that images may take, from the container's limit: without it one large photo kills a small container."""

import ctypes
import sys

from app import machine
from app.artifact.decoder import confined
from app.artifact.decoder.confined import PROCESS_BYTES
from app.settings import SettingsError

# Of what is free once the model is loaded; the rest is for the allocator's gaps and the kernel's buffers.
_DECODING = 0.6
_UPLOADS = 0.3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 4 * 2**20
_LEAST_BYTES = 16_000_000  # free for images; with less, ordinary ones are refused


class Memory:
    """`decoding_bytes` and `upload_bytes` are what images may take altogether."""

    def __init__(self, free_bytes: int) -> None:
        """`free_bytes`: what may be allocated on top of what the process holds now."""
        self.decoding_bytes = int(free_bytes * _DECODING)
        self.upload_bytes = int(free_bytes * _UPLOADS)

    @classmethod
    def of_worker(cls, workers: int) -> "Memory":
        """This worker's share of the container's limit, or of the machine's memory. Raises SettingsError."""
        keep_little_of_what_is_freed()
        limit, taken = machine.memory_bytes(), machine.resident_bytes()
        processes = workers if workers == 1 else workers + 1  # several have a parent, as large as they are
        free = (limit - processes * taken) // workers - (PROCESS_BYTES if confined.possible() else 0)
        if free < _LEAST_BYTES:
            raise SettingsError(
                f"{workers} worker{'s' if workers > 1 else ''} of {taken / 1e6:.0f} MB, and room for images, "
                f"do not fit into {limit / 1e6:.0f} MB of memory"
            )
        return cls(free)


def keep_little_of_what_is_freed() -> None:
    """Tell glibc that blocks from 4 MB up go back to the system when they are freed, and an arena's end beyond 4 MB.

    By default the first bound rises to 32 MB with use: images of which nothing is left then stay resident, 50 MB
    a thread. With a bound of 1 MB every upload of 1.5 MB is given new pages, 400 page faults a request.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
