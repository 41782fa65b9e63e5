"""Corrupted photographs: that they are what is served, stronger by steps, and the same each time."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from app.artifact.decoder.decode import InputSpec, decode
from training.data import corruptions
from training.data.corruptions import CORRUPTIONS, Corruption, corrupted

SPEC = InputSpec(
    width=64, height=64, channels=3, crop_fraction=0.875, interpolation="bicubic", mean=(0,) * 3, std=(1,) * 3
)


def encoded(kind: str, side: int = 427, orientation: int = 1) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(load_sample_image("china.jpg")[:side, : side + 60]).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def test_each_step_is_further_from_the_image_than_the_one_before() -> None:
    file = encoded("JPEG")
    clean = decode(file, SPEC).pixels.astype(float)
    found = list(corrupted(file, SPEC, seed=0))
    assert len(found) == len(CORRUPTIONS)
    for corruption, images in zip(CORRUPTIONS, found, strict=True):
        assert [image.shape for image in images] == [(64, 64, 3)] * 5
        far = [float(np.abs(image - clean).mean()) for image in images]
        assert all(one < next_ for one, next_ in pairwise(far)), (corruption.name, far)
        assert far[-1] > 5


def test_what_is_random_follows_from_the_seed_alone() -> None:
    file = encoded("PNG", 90)
    first, again, other = (list(corrupted(file, SPEC, seed)) for seed in (1, 1, 2))
    assert all(
        np.array_equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    differ = [not np.array_equal(one[0], two[0]) for one, two in zip(first, other, strict=True)]
    assert differ[1]  # noise
    assert not differ[0]  # a blur has nothing random


@pytest.mark.parametrize(("kind", "side", "orientation"), [("PNG", 100, 1), ("PNG", 100, 6), ("JPEG", 427, 8)])
def test_an_image_that_nothing_happens_to_is_the_served_one(
    kind: str, side: int, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the fall in accuracy would be, in part, of resizing twice or of EXIF's orientation lost on the way."""
    nothing = Corruption("nothing", "", (0,), lambda image, *_: corruptions._bmp(Image.fromarray(image)))
    monkeypatch.setattr(corruptions, "CORRUPTIONS", (nothing,))
    file = encoded(kind, side, orientation)
    [[image]] = corrupted(file, SPEC, seed=0)
    served = decode(file, SPEC).pixels
    difference = np.abs(image.astype(int) - served)
    assert difference.max() == 0 if side == 100 else difference.mean() < 3  # the large one is reduced in two steps


def test_a_blur_is_as_wide_in_a_large_image_as_in_a_small_one() -> None:
    """In what the model gets: sigmas are stated for 224 pixels across it."""
    small = Image.fromarray(load_sample_image("flower.jpg")[:420, :420])
    means = []
    for side in (73, 146, 1680):  # of 64 of the model the first two stay as they are, the last becomes twice that
        buffer = io.BytesIO()
        small.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        blurred = next(corrupted(buffer.getvalue(), SPEC, seed=0))[-1]
        means.append(float(np.abs(np.diff(blurred.astype(float), axis=1)).mean()))
    assert means == pytest.approx([means[0]] * 3, rel=0.1)
