"""A budget: no more is taken than there is, in the order of who came first, and nothing is lost by who leaves."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from app.limits.budget import Budget


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 10))


def test_what_does_not_fit_is_not_taken() -> None:
    budget = Budget(3, 100)
    assert budget.try_take(1, 60)
    assert not budget.try_take(1, 41)
    assert not budget.try_take(3, 1)
    assert budget.taken == (1, 60)
    budget.give(1, 60)
    assert budget.try_take(3, 100)


def test_who_has_waited_longest_comes_first_and_nobody_passes() -> None:
    async def scene() -> None:
        budget, order = Budget(100), list[int]()
        await budget.take(60)

        async def wait(amount: int) -> None:
            await budget.take(amount)
            order.append(amount)
            budget.give(amount)

        tasks = [asyncio.create_task(wait(amount)) for amount in (50, 10, 90)]
        await asyncio.sleep(0)
        assert not budget.try_take(1)  # there would be room, but others have waited
        budget.give(60)
        await asyncio.gather(*tasks)
        assert order == [50, 10, 90]
        assert budget.taken == (0,)

    play(scene())


def test_what_is_given_back_is_taken_in_the_same_moment() -> None:
    async def scene() -> None:
        budget = Budget(1)
        await budget.take(1)
        waiting = asyncio.create_task(budget.take(1))
        await asyncio.sleep(0)
        budget.give(1)
        assert not budget.try_take(1)
        await waiting
        assert budget.taken == (1,)

    play(scene())


def test_who_leaves_the_line_leaves_what_it_would_have_had() -> None:
    async def scene() -> None:
        budget = Budget(10)
        await budget.take(10)
        left, left_just_then, stays = (asyncio.create_task(budget.take(10)) for _ in range(3))
        await asyncio.sleep(0)
        left.cancel()
        budget.give(10)  # gives `left_just_then` its part before it can take it
        left_just_then.cancel()
        await stays
        assert budget.taken == (10,)

    play(scene())


def test_who_is_behind_one_that_left_and_wants_less_is_served() -> None:
    async def scene() -> None:
        budget = Budget(10)
        await budget.take(5)
        large, small = asyncio.create_task(budget.take(6)), asyncio.create_task(budget.take(5))
        await asyncio.sleep(0)
        large.cancel()
        await small
        assert budget.taken == (10,)

    play(scene())


def test_in_a_storm_of_takers_and_leavers_nothing_is_lost_nor_taken_twice() -> None:
    async def scene() -> None:
        budget, dice, most = Budget(4, 60), random.Random(0), 0

        async def work(amount: int) -> None:
            nonlocal most
            await budget.take(1, amount)
            try:
                most = max(most, budget.taken[1])
                assert budget.taken[0] <= 4 and budget.taken[1] <= 60
                await asyncio.sleep(0)
            finally:
                budget.give(1, amount)

        tasks = [asyncio.create_task(work(dice.choice([60, 40, 25, 10]))) for _ in range(400)]
        while not all(task.done() for task in tasks):
            dice.choice(tasks).cancel()
            await asyncio.sleep(0)
        assert most == 60
        assert budget.taken == (0, 0)
        assert sum(not task.cancelled() for task in tasks) > 100

    play(scene())
