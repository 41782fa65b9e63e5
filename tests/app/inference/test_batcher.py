"""The batcher: everyone gets the answer to their own image, also where others leave, and batches gather."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines import EngineError, Outputs
from app.inference.batcher import Answer
from tests.app.inference.echo import PATIENCE_SECONDS, Echo, batching, held, image, outcomes, play, submitted

# --- own rows -----------------------------------------------------------------------------------------------------


async def everyone_gets_their_own(engine: Echo, callers: int = 600, max_batch: int = 16) -> None:
    """Callers come at random moments and a fifth of them leave again; whoever stays must get their own number."""
    dice, answered = random.Random(1), 0

    async def call(number: int) -> None:
        nonlocal answered
        for _ in range(dice.randrange(30)):
            await asyncio.sleep(0)
        answer = await batcher.submit(image(number))
        assert answer.probabilities.tolist() == [number]
        assert answer.logits.tolist() == [-number]
        assert answer.heatmap is not None
        assert answer.heatmap.tolist() == [[[number, number], [number, number]]]
        answered += 1

    async with batching(engine, max_batch) as batcher:
        tasks = [asyncio.create_task(call(dice.randrange(2**24))) for _ in range(callers)]
        leaving = set(dice.sample(range(callers), callers // 5))
        for place in leaving:
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            tasks[place].cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):  # a cancelled caller's CancelledError is none
                raise outcome
    assert answered >= callers - len(leaving)
    assert max(map(len, engine.batches)) > 1  # else nothing could have been mixed up


@pytest.mark.parametrize("max_batch", [2, 16, 64])
def test_every_one_of_600_callers_gets_the_answer_to_their_own_image(max_batch: int) -> None:
    play(everyone_gets_their_own(Echo(), max_batch=max_batch))


class Wrong(Echo):
    """Gives rows to the wrong callers."""

    def __init__(self, mix: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__()
        self._mix = mix

    def answer(self, numbers: NDArray[np.float32]) -> Outputs:
        return super().answer(self._mix(numbers))


@pytest.mark.parametrize(
    "mix",
    [lambda rows: np.roll(rows, 1), lambda rows: rows[::-1], lambda rows: np.full_like(rows, rows[0])],
    ids=["off by one", "reversed", "the first for all"],
)
def test_the_check_above_is_red_for_rows_that_are_mixed_up(mix: Callable[[Any], Any]) -> None:
    with pytest.raises(AssertionError):
        play(everyone_gets_their_own(Wrong(mix)))


def test_an_engine_without_heat_maps_answers_without() -> None:
    class Plain(Echo):
        def answer(self, numbers: NDArray[np.float32]) -> Outputs:
            return super().answer(numbers)._replace(heatmap=None)

    async def scene() -> None:
        async with batching(Plain()) as batcher:
            assert (await batcher.submit(image(1))).heatmap is None

    play(scene())


# --- batches ------------------------------------------------------------------------------------------------------


def test_while_the_engine_runs_the_next_batch_gathers_and_is_never_above_the_limit() -> None:
    engine, observed = Echo(), []

    async def scene() -> None:
        async with batching(engine, 4, observe=lambda size, seconds: observed.append((size, seconds))) as batcher:
            first = await held(engine, batcher, 0)
            rest = await submitted(batcher, range(1, 11))
            assert batcher.waiting == 10
            engine.gate.set()
            answers = [await caller for caller in first + rest]
        assert engine.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert [answer.batch_size for answer in answers] == [1, *[4] * 8, 2, 2]
        assert [size for size, _ in observed] == [1, 4, 4, 2]
        assert all(answer.queue_seconds >= 0 and answer.inference_seconds > 0 for answer in answers)
        assert batcher.waiting == 0

    play(scene())


def test_with_a_delay_an_idle_engine_waits_for_more_but_not_once_the_batch_is_full() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine, 4, delay_seconds=10 * PATIENCE_SECONDS) as batcher:
            callers = await submitted(batcher, [0])
            await asyncio.sleep(0.01)
            assert engine.batches == []
            callers += await submitted(batcher, [1, 2])
            await asyncio.sleep(0.01)
            assert engine.batches == []
            await outcomes(callers + await submitted(batcher, [3]))
            assert engine.batches == [[0, 1, 2, 3]]

    play(scene())


def test_after_the_delay_a_batch_that_is_not_full_is_answered() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine, 4, delay_seconds=0.01) as batcher:
            for answer in await outcomes(await submitted(batcher, [0, 1])):
                assert isinstance(answer, Answer)
                assert answer.queue_seconds >= 0.01

    play(scene())
    assert engine.batches == [[0, 1]]


def test_who_waits_in_the_delay_is_not_left_hanging_when_the_service_stops() -> None:
    async def scene() -> None:
        async with batching(Echo(), delay_seconds=10 * PATIENCE_SECONDS) as batcher:
            callers = await submitted(batcher, [0])
            await asyncio.sleep(0.01)
        assert [type(answer) for answer in await outcomes(callers)] == [EngineError]

    play(scene())


def test_an_idle_engine_takes_a_single_image_at_once() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine) as batcher:
            for number in range(5):
                await batcher.submit(image(number))

    play(scene())
    assert engine.batches == [[0], [1], [2], [3], [4]]


def test_the_engine_belongs_to_one_thread_that_does_nothing_else() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine) as batcher:
            for number in range(20):
                helpers.add(await asyncio.to_thread(lambda: threading.current_thread().name))
                await batcher.submit(image(number))

    helpers = {threading.current_thread().name}
    play(scene())
    assert len(engine.threads) == 1
    assert not engine.threads & helpers


# --- callers who leave --------------------------------------------------------------------------------------------


def test_an_image_whose_caller_has_left_does_not_reach_the_engine() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine) as batcher:
            callers = await held(engine, batcher, 0, 1, 2, 3)
            callers[2].cancel()
            await asyncio.sleep(0)
            engine.gate.set()
            answers = await outcomes(callers)
        assert isinstance(answers[2], asyncio.CancelledError)
        assert [answers[place].probabilities[0] for place in (0, 1, 3)] == [0, 1, 3]  # type: ignore[union-attr]

    play(scene())
    assert engine.batches == [[0], [1, 3]]


def test_where_all_callers_have_left_the_engine_is_not_asked() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine) as batcher:
            first = await held(engine, batcher, 0)
            for caller in await submitted(batcher, [1, 2]):
                caller.cancel()
            await asyncio.sleep(0)
            engine.gate.set()
            await outcomes(first)
            await batcher.submit(image(3))

    play(scene())
    assert engine.batches == [[0], [3]]


def test_a_caller_who_leaves_while_the_engine_runs_takes_nobodys_row_along() -> None:
    engine = Echo()

    async def scene() -> None:
        async with batching(engine) as batcher:
            callers = await held(engine, batcher, 0, 1, 2, 3)
            engine.gate.set()
            await engine.entered(2)
            callers[1].cancel()
            answers = await outcomes(callers)
        assert [answers[place].probabilities[0] for place in (2, 3)] == [2, 3]  # type: ignore[union-attr]

    play(scene())
