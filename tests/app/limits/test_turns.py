"""Turns: half of what there is, first come first served, and what nobody takes any more goes to the next."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest

from app.errors import Problem
from app.limits import stalled_uploads
from app.limits.admission import Admission


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def patiently() -> None:
        async with asyncio.timeout(10):
            await scene()

    asyncio.run(patiently())


def test_there_is_half_for_batches_and_everything_comes_back() -> None:
    queue = Admission(8, 8000)
    turns = [queue.turns.first(100, pytest.fail) for _ in range(5)]
    assert [turn is not None for turn in turns] == [True] * 4 + [False]
    assert queue.room.taken == (4, 800)  # the pieces of an upload, and the file joined of them
    for turn in turns[:4]:
        assert turn is not None
        turn.keep(30)
    assert queue.room.taken[1] == 120
    for turn in turns[:4] * 2:  # to close twice is to close once
        assert turn is not None
        turn.close()
    assert queue.room.taken == (0, 0)


def test_memory_is_shared_too_and_one_upload_always_fits() -> None:
    queue = Admission(8, 1000)
    large = queue.turns.first(10**9, pytest.fail)
    assert large is not None
    assert queue.room.taken[1] == 500
    assert queue.turns.first(1, pytest.fail) is None
    large.keep(400)
    assert queue.turns.first(50, pytest.fail) is not None
    assert queue.turns.first(1, pytest.fail) is None


def test_who_has_waited_longest_comes_first_and_nobody_passes() -> None:
    async def scene() -> None:
        queue = Admission(20, 1000)
        held = queue.turns.first(100, pytest.fail)
        assert held is not None
        order: list[int] = []

        async def wait(number: int, size: int) -> None:
            turn = await queue.turns.next(size, pytest.fail)
            order.append(number)
            turn.close()

        tasks = [asyncio.create_task(wait(number, size)) for number, size in enumerate([200, 1, 200])]
        await asyncio.sleep(0)
        assert queue.turns.first(1, pytest.fail) is None  # there would be room, but others have waited
        held.close()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]
        assert queue.room.taken == (0, 0)

    play(scene)


def test_the_turn_of_who_has_left_goes_to_the_next() -> None:
    async def scene() -> None:
        queue = Admission(2, 1000)
        held = queue.turns.first(1, pytest.fail)
        assert held is not None
        left, left_just_then, stays = (asyncio.create_task(queue.turns.next(1, pytest.fail)) for _ in range(3))
        await asyncio.sleep(0)
        left.cancel()
        held.close()  # gives `left_just_then` its turn before it can take it
        left_just_then.cancel()
        turn = await stays
        assert queue.admitted == 1
        turn.close()
        assert queue.room.taken == (0, 0)

    play(scene)


def test_what_a_lone_image_gives_back_is_for_who_waits() -> None:
    async def scene() -> None:
        admission = Admission(4, 3_000_000)
        with admission.upload(pytest.fail) as upload:
            upload.hold(1_400_000)
            upload.complete()
            waiting = asyncio.create_task(admission.turns.next(500_000, pytest.fail))
            await asyncio.sleep(0)
            assert admission.admitted == 1
        assert admission.admitted == 1  # taken at once: no image that comes later finds it free
        (await waiting).close()
        assert admission.admitted == 0

    play(scene)


def test_lone_uploads_that_keep_coming_do_not_take_what_a_batch_waits_for() -> None:
    def upload(admission: Admission, size: int) -> tuple[ExitStack, Callable[[int], None]]:
        with ExitStack() as whole:
            begun = whole.enter_context(admission.upload(pytest.fail))
            begun.hold(size)
            return whole.pop_all(), begun.hold
        raise AssertionError

    async def scene() -> None:
        admission = Admission(100, 50_000_000)
        uploads = [upload(admission, 1_000_000) for _ in range(24)]  # each is held twice
        begun, hold = upload(admission, 100_000)
        waiting = asyncio.create_task(admission.turns.next(5_000_000, pytest.fail))
        await asyncio.sleep(0)
        hold(900_000)  # what has begun may go on
        for number, (ended, _) in enumerate(uploads[:5]):
            assert not waiting.done()
            ended.close()
            with pytest.raises(Problem, match="The uploads of others fill the memory"):
                upload(admission, 1_000_000)
            await asyncio.sleep(0)
            assert waiting.done() == (number == 4)
        waiting.result().close()
        for each, _ in [*uploads[5:], upload(admission, 1_000_000)]:
            each.close()
        begun.close()
        assert admission.admitted == 0

    play(scene)


def test_a_batch_that_waits_for_other_batches_keeps_nothing_from_lone_uploads() -> None:
    async def scene() -> None:
        admission = Admission(100, 50_000_000)
        first = admission.first_turn(12_000_000, pytest.fail)
        waiting = asyncio.create_task(admission.turns.next(12_000_000, pytest.fail))
        await asyncio.sleep(0)
        with admission.upload(pytest.fail) as upload:
            upload.hold(13_000_000)
        first.close()
        (await waiting).close()

    play(scene)


@pytest.mark.parametrize("complete", [False, True])
def test_for_a_batch_only_those_are_given_up_who_hold_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    """Batches' half is full: of batches that stand still, or of images that are complete."""
    monkeypatch.setattr(stalled_uploads, "_STILL_SECONDS", 0)
    admission, given_up = Admission(4, 8000), []
    with admission.upload(pytest.fail, long=False) as lone:
        lone.hold(10)
        turns = [admission.first_turn(100, lambda number=number: given_up.append(number)) for number in range(2)]
        for turn in turns:
            if complete:
                turn.keep(30)
        if complete:
            with pytest.raises(Problem, match="as batches may add to"):
                admission.first_turn(100, pytest.fail)
        else:
            admission.first_turn(100, pytest.fail).close()
        assert given_up == ([] if complete else [0])


def test_how_long_an_upload_took_does_not_count_as_the_service_s_time() -> None:
    turn = Admission(4, 8000).first_turn(100, pytest.fail)
    begun = turn.since
    turn.keep(30)
    assert turn.since > begun, "Retry-After goes by it"
