"""A thread that decodes for nobody is told to stop, and is there for the next image."""

import asyncio
import threading

from app.artifact.decoder.stop import Stop
from app.limits.decoders import Decoders


def test_a_deadline_that_has_passed_frees_the_thread_too() -> None:
    begun, told = threading.Event(), threading.Event()

    def decode(stop: Stop) -> None:
        stop.act(told.set)
        begun.set()
        assert told.wait(60)

    async def image(decoders: Decoders) -> None:
        async with decoders.thread() as thread:
            await thread.reserve(60)
            await thread.run(decode, thread.stop)

    async def scene() -> None:
        decoders = Decoders(1, 60)
        late = asyncio.create_task(image(decoders))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        late.cancel()
        async with decoders.thread() as thread:
            await thread.reserve(60)
            assert await thread.run(int, "7") == 7
        assert told.is_set()
        decoders.stop()

    asyncio.run(asyncio.wait_for(scene(), 50))
