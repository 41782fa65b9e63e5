"""May an image be decoded now? It waits for a thread, and then for the memory that its header asks for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from app.artifact.decoder.decode import TooManyPixels
from app.artifact.decoder.stop import Stop
from app.limits.budget import Budget

P = ParamSpec("P")
T = TypeVar("T")


class Decoders:
    """Threads that work on images, and the memory that these share, `total_bytes`; of both first come, first served.

    Nothing waits inside of the pool, which keeps what was cancelled, and with it the upload, until its turn comes.
    """

    def __init__(self, threads: int, total_bytes: int) -> None:
        self.memory = Budget(total_bytes)
        self._threads = Budget(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @asynccontextmanager
    async def thread(self) -> AsyncIterator["DecoderThread"]:
        """A thread for one image. It and its memory are free again when nothing of it runs any more: what runs when
        the client leaves, or the deadline has passed, is told to stop."""
        await self._threads.take(1)
        thread = DecoderThread(self._pool, self.memory)

        def give(_done: object = None) -> None:
            self.memory.give(thread.reserved)
            self._threads.give(1)

        try:
            yield thread
        finally:
            loop, running = asyncio.get_running_loop(), thread.running
            if running is None or running.done():
                give()
            else:
                thread.stop.set()
                running.add_done_callback(lambda done: loop.call_soon_threadsafe(give, done))

    def stop(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(cancel_futures=True)


class DecoderThread:
    """`reserved`: bytes that it holds; `running`: what it does, or has done last; `stop` ends that early."""

    def __init__(self, pool: ThreadPoolExecutor, memory: Budget) -> None:
        self.reserved = 0
        self.stop = Stop()
        self.running: Future[object] | None = None
        self._pool = pool
        self._memory = memory

    async def reserve(self, needed: int) -> None:
        """Wait until `needed` bytes are free. Raises TooManyPixels if they never can be."""
        if needed > self._memory.total[0]:
            raise TooManyPixels(
                f"this image needs {needed / 1e6:.0f} MB to decode; "
                f"of its memory limit the service has {self._memory.total[0] / 1e6:.0f} MB for that"
            )
        await self._memory.take(needed)
        self.reserved += needed

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives."""
        running = self._pool.submit(work, *args, **kwargs)
        self.running = running  # type: ignore[assignment]  # of any type
        return await asyncio.wrap_future(running)
