"""An engine whose answers say which image they belong to, and callers who wait for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import EngineError, Outputs
from app.inference.batcher import Answer, Batcher

Pixels = NDArray[np.uint8]
PATIENCE_SECONDS = 10  # nothing waits for this; it turns "hangs for ever" into a failure


def image(number: int) -> Pixels:
    """An image that carries its number, below 2**24, in its first pixel."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0] = number >> 16, number >> 8 & 255, number & 255
    return pixels


def numbers_in(batch: Pixels) -> list[int]:
    return [int(red) << 16 | int(green) << 8 | int(blue) for red, green, blue in batch[:, 0, 0]]


class Echo:
    """An engine whose row says which image it is the answer to. It stops in front of a closed `gate`."""

    device = "cpu"

    def __init__(self, fail_on: Iterable[int] = (), error: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()
        self._fail_on = set(fail_on)
        self._error = error or EngineError("out of memory")

    def run(self, pixels: Pixels) -> Outputs:
        numbers = numbers_in(pixels)
        self.batches.append(numbers)
        self.threads.add(threading.current_thread().name)
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._came.set)
        assert self.gate.wait(PATIENCE_SECONDS)
        if self._fail_on & set(numbers):
            raise self._error
        return self.answer(np.array(numbers, np.float32))

    def answer(self, numbers: NDArray[np.float32]) -> Outputs:
        return Outputs(numbers[:, None], -numbers[:, None], np.tile(numbers[:, None, None, None], (1, 1, 2, 2)))

    async def entered(self, batches: int) -> None:
        """Wait until that many batches have come to the engine."""
        while len(self.batches) < batches:
            self._came.clear()
            await self._came.wait()


def play(scene: Coroutine[Any, Any, None]) -> None:
    """Run it, with an end to patience."""

    async def patiently() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scene

    asyncio.run(patiently())


@asynccontextmanager
async def batching(engine: Echo, max_batch: int = 16, **options: Any) -> AsyncIterator[Batcher]:
    engine.loop = asyncio.get_running_loop()
    batcher = Batcher(engine, max_batch, **options)
    await batcher.start()
    try:
        yield batcher
    finally:
        engine.gate.set()
        await batcher.stop()


async def submitted(batcher: Batcher, numbers: Iterable[int]) -> list[asyncio.Task[Answer]]:
    """Callers whose images are in the queue, or in the engine."""
    callers = [asyncio.create_task(batcher.submit(image(number))) for number in numbers]
    await asyncio.sleep(0)
    return callers


async def held(engine: Echo, batcher: Batcher, first: int, *rest: int) -> list[asyncio.Task[Answer]]:
    """The callers of `first`, which the engine does not answer before its gate opens, and of the `rest`, who queue."""
    engine.gate.clear()
    callers = await submitted(batcher, [first])
    await engine.entered(1)
    return callers + await submitted(batcher, rest)


async def outcomes(callers: Iterable[asyncio.Task[Answer]]) -> list[Answer | BaseException]:
    return await asyncio.gather(*callers, return_exceptions=True)
