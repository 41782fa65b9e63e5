"""The batcher around an engine that fails: who hears of it, and how long."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines import EngineError, Outputs
from tests.app.inference.echo import Echo, batching, held, image, outcomes, play


def test_an_engine_error_reaches_nobody_but_the_caller_of_the_image_that_made_it() -> None:
    engine = Echo(fail_on=[2])

    async def scene() -> None:
        async with batching(engine, 2) as batcher:
            callers = await held(engine, batcher, 0, 1, 2, 3, 4)
            engine.gate.set()
            answers = await outcomes(callers)
            assert [isinstance(answer, EngineError) for answer in answers] == [False, False, True, False, False]
            assert batcher.alive

    play(scene())
    assert engine.batches == [[0], [1, 2], [1], [2], [3, 4]]


def test_an_engine_that_fails_on_everything_is_not_asked_for_each_image_of_a_batch() -> None:
    engine = Echo(fail_on=range(100))

    async def scene() -> None:
        async with batching(engine) as batcher:
            callers = await held(engine, batcher, 0, *range(1, 17))
            engine.gate.set()
            answers = await outcomes(callers)
            assert {type(answer) for answer in answers} == {EngineError}
            assert batcher.failure == "out of memory"

    play(scene())
    assert engine.batches == [[0], list(range(1, 17)), [1], [2]]


def test_one_image_that_the_engine_cannot_stand_does_not_make_it_unready() -> None:
    engine = Echo(fail_on=[4])

    async def scene() -> None:
        async with batching(engine) as batcher:
            callers = await held(engine, batcher, 0, 1, 2, 3, 4)
            engine.gate.set()
            await engine.entered(2)
            callers[2].cancel()
            await outcomes(callers)
            assert batcher.failure == ""

    play(scene())
    assert engine.batches == [[0], [1, 2, 3, 4], [1], [3], [4]]


def test_the_failure_is_told_until_the_engine_works_again() -> None:
    async def scene() -> None:
        async with batching(Echo(fail_on=[7])) as batcher:
            assert batcher.failure == ""
            with pytest.raises(EngineError, match="out of memory"):
                await batcher.submit(image(7))
            assert batcher.failure == "out of memory"
            await batcher.submit(image(8))
            assert batcher.failure == ""

    play(scene())


class TooFewRows(Echo):
    """Forgets the last row."""

    def answer(self, numbers: NDArray[np.float32]) -> Outputs:
        return super().answer(numbers[:-1])


BUGS: dict[str, Callable[[], Echo]] = {
    "an exception": lambda: Echo(fail_on=[1], error=KeyError("a bug")),
    "too few rows": TooFewRows,
}


@pytest.mark.parametrize("buggy", BUGS.values(), ids=BUGS)
def test_a_bug_in_the_engine_leaves_nobody_hanging_and_is_seen(buggy: Callable[[], Echo]) -> None:
    """Those in the batch, those behind it in the queue, and those who come later."""
    engine = buggy()

    async def scene() -> None:
        async with batching(engine, 2) as batcher:
            callers = await held(engine, batcher, 1, 2, 3, 4)
            engine.gate.set()
            answers = await outcomes(callers)
            assert all(isinstance(answer, EngineError) for answer in answers)
            assert not batcher.alive
            with pytest.raises(EngineError):
                await batcher.submit(image(5))

    play(scene())
