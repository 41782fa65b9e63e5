"""The batcher from its warm-up to its stop: nobody is left waiting."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines import EngineError, Outputs
from app.inference.batcher import Answer, Batcher
from tests.app.inference.echo import Echo, batching, held, image, outcomes, play


def test_stopping_leaves_nobody_hanging() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine, 2) as batcher:
            callers = await held(engine, batcher, 0, 1, 2, 3, 4, 5)
            asyncio.get_running_loop().call_soon(engine.gate.set)
            await batcher.stop()
            answers = await outcomes(callers)
            assert all(isinstance(answer, Answer | EngineError) for answer in answers)
            assert sum(isinstance(answer, EngineError) for answer in answers) >= 5
            assert not batcher.alive
            assert batcher.waiting == 0

    play(scene())


def test_whoever_comes_after_the_stop_is_told_so() -> None:
    async def scene() -> None:
        async with batching(Echo()) as batcher:
            await batcher.submit(image(0))
            await batcher.stop()
            with pytest.raises(EngineError):
                await batcher.submit(image(1))

    play(scene())


def test_a_batcher_is_alive_from_start_to_stop() -> None:
    async def scene() -> None:
        batcher = Batcher(Echo(), 4)
        assert not batcher.alive
        await batcher.start()
        assert batcher.alive
        await batcher.stop()
        assert not batcher.alive

    play(scene())


def test_a_batcher_that_was_never_started_can_be_stopped() -> None:
    play(Batcher(Echo(), 4).stop())


def test_every_size_of_batch_is_run_before_the_first_image_comes() -> None:
    """On a GPU, where the first run of a size takes up to a second."""
    sizes: list[int] = []

    class Sized(Echo):
        def run(self, pixels: NDArray[np.uint8]) -> Outputs:
            sizes.append(len(pixels))
            return self.answer(np.zeros(len(pixels), np.float32))

    async def scene() -> None:
        batcher = Batcher(Sized(), 5)
        await batcher.warm(image(7))
        await batcher.start()
        await batcher.stop()

    play(scene())
    assert sizes == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
