"""Occlusion: the right patch for each place, through the batcher, and never more of it than a quarter of a batch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from app.artifact.decoder.decode import InputSpec
from app.engines import EngineError, Outputs
from app.inference.batcher import Answer, Batcher
from app.inference.occlusion import Occlusion
from tests.app.inference.echo import Pixels, play
from tests.images import spec

GREY = 128
_WHITE = np.full((16, 16, 3), 255, np.uint8)


class Bright:
    """Logits: how many pixels of the image are brighter than the patch, and the opposite."""

    device = "cpu"

    def __init__(self, fail_after: int = 1_000_000) -> None:
        self.sizes: list[int] = []
        self.seen: list[Pixels] = []
        self._fail_after = fail_after

    def run(self, pixels: Pixels) -> Outputs:
        self.sizes.append(len(pixels))
        self.seen.extend(pixels)
        if len(self.seen) > self._fail_after:
            raise EngineError("out of memory")
        bright = (pixels[..., 0] > GREY).sum(axis=(1, 2)).astype(np.float32)
        logits = np.stack([bright, -bright], axis=1)
        return Outputs(logits, logits, None)


def model(width: int, height: int) -> InputSpec:
    return spec(width, height)  # whose mean of 0.5 is GREY


async def occlude(
    engine: Bright, pixels: Pixels, max_batch: int = 16, callers: int = 1
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    batcher = Batcher(engine, max_batch)
    await batcher.start()
    try:
        occlusion = Occlusion(batcher, model(pixels.shape[1], pixels.shape[0]), max_batch)
        logits = (await batcher.submit(pixels)).logits
        return await asyncio.gather(*[occlusion.maps(pixels, logits) for _ in range(callers)])
    finally:
        await batcher.stop()


def test_each_number_is_what_covering_that_place_takes_from_the_logit() -> None:
    async def scene() -> None:
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[8:12, 30:36] = 255
        ((first, second),) = await occlude(Bright(), pixels)
        assert first.shape == (8, 8)
        assert first.max() == 24 == first[2, 5]  # 4 x 6 pixels: places are 4 high and 6 wide
        expected = np.zeros((8, 8))
        expected[1:4, 4:7] = [[12, 24, 12]] * 3  # a patch is two places, and these are its halves
        expected[[1, 3]] /= 2
        assert first == pytest.approx(expected)
        assert second == pytest.approx(-first)

    play(scene())


def test_the_patch_is_the_mean_colour_and_two_places_wide() -> None:
    async def scene() -> None:
        engine = Bright()
        await occlude(engine, np.zeros((32, 32, 3), np.uint8))
        whole, *covered = engine.seen
        assert not whole.any()
        assert len(covered) == 64
        assert {tuple(colour) for each in covered for colour in each.reshape(-1, 3)} == {(0, 0, 0), (GREY,) * 3}
        areas = sorted(int((each[..., 0] == GREY).sum()) for each in covered)
        assert areas == [36] * 4 + [48] * 24 + [64] * 36  # 8 x 8, cut off at corners and edges
        together = sum((each[..., 0] == GREY).astype(int) for each in covered)
        assert together.min() > 0

    play(scene())


def test_a_grey_models_patch_is_its_one_mean() -> None:
    grey = spec(8, 8).model_copy(update={"channels": 1, "mean": (0.25,), "std": (1.0,)})
    assert Occlusion(Batcher(Bright(), 1), grey, 1)._grey.tolist() == [64, 64, 64]


@pytest.mark.parametrize(("width", "height", "shape"), [(1, 1, (1, 1)), (3, 20, (8, 3)), (224, 224, (8, 8))])
def test_there_are_no_more_places_than_pixels(width: int, height: int, shape: tuple[int, int]) -> None:
    async def scene() -> None:
        ((first, _),) = await occlude(Bright(), np.full((height, width, 3), 255, np.uint8))
        assert first.shape == shape
        assert (first > 0).all()

    play(scene())


@pytest.mark.parametrize(("max_batch", "most"), [(16, 4), (64, 16), (3, 1), (1, 1)])
def test_all_explanations_together_fill_at_most_a_quarter_of_a_batch(max_batch: int, most: int) -> None:
    async def scene() -> None:
        engine = Bright()
        found = await occlude(engine, np.full((16, 16, 3), 255, np.uint8), max_batch, callers=3)
        assert len(engine.seen) == 1 + 3 * 64
        assert max(engine.sizes) == most
        assert all(each == pytest.approx(found[0]) for each in found)

    play(scene())


@asynccontextmanager
async def _explaining(engine: Bright) -> AsyncIterator[tuple[Batcher, Occlusion, asyncio.Task[Any]]]:
    """An explanation of a white image, under way."""
    batcher = Batcher(engine, 16)
    await batcher.start()
    logits = (await batcher.submit(_WHITE)).logits
    occlusion = Occlusion(batcher, model(16, 16), 16)
    explaining = asyncio.create_task(occlusion.maps(_WHITE, logits))
    while len(engine.sizes) < 3:
        await asyncio.sleep(0)
    try:
        yield batcher, occlusion, explaining
    finally:
        await batcher.stop()


def test_an_image_to_classify_is_in_the_next_engine_run() -> None:
    async def scene() -> None:
        engine = Bright()
        async with _explaining(engine) as (batcher, _, explaining):
            asked = len(engine.sizes)
            other: Answer = await batcher.submit(np.zeros((16, 16, 3), np.uint8))
            assert other.logits.tolist() == [0, 0]
            assert len(engine.sizes) <= asked + 2  # the run that was under way, and its own
            assert not explaining.done()
            await explaining

    play(scene())


def test_a_client_that_leaves_takes_its_patches_along() -> None:
    async def scene() -> None:
        engine = Bright()
        async with _explaining(engine) as (batcher, occlusion, explaining):
            explaining.cancel()
            await asyncio.gather(explaining, return_exceptions=True)
            seen = len(engine.seen)
            logits = (await batcher.submit(_WHITE)).logits
            assert await occlusion.maps(_WHITE, logits) is not None  # no turn was lost
            assert len(engine.seen) <= seen + 4 + 1 + 64

    play(scene())


def test_an_engine_that_fails_ends_the_explanation_and_its_work() -> None:
    async def scene() -> None:
        engine = Bright(fail_after=10)
        batcher = Batcher(engine, 16)
        await batcher.start()
        logits = (await batcher.submit(_WHITE)).logits
        with pytest.raises(EngineError, match="out of memory"):
            await Occlusion(batcher, model(16, 16), 16).maps(_WHITE, logits)
        for _ in range(20):  # runs in which patches would come along
            with pytest.raises(EngineError, match="out of memory"):
                await batcher.submit(_WHITE)
        assert len(engine.seen) < 45
        await batcher.stop()

    play(scene())


def test_padding_is_not_covered_and_costs_the_engine_nothing() -> None:
    """White padding would otherwise count as what the class needs: 16 x 16 with 4 rows of it above and below."""

    async def scene() -> None:
        engine = Bright()
        batcher = Batcher(engine, 16)
        await batcher.start()
        try:
            logits = (await batcher.submit(_WHITE)).logits
            maps = await Occlusion(batcher, model(16, 16), 16).maps(_WHITE, logits, (0, 4))
        finally:
            await batcher.stop()
        # a patch is 4 rows high and goes a place, 2 rows, each time; the outermost that reach the image cover half
        assert [int(value) for value in maps[0, :, 3]] == [0, 4, 12, 16, 16, 12, 4, 0]
        assert len(engine.seen) == 1 + 6 * 8
        assert all((seen[:4] == 255).all() and (seen[12:] == 255).all() for seen in engine.seen)

    play(scene())
