"""The golden files: always the same, and of every kind that services stumble over."""

import io

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import InputSpec, decode
from training.variants.golden import golden_files

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [Image.open(io.BytesIO(file)) for file in golden_files()]


def test_they_are_the_same_every_time() -> None:
    assert golden_files() == golden_files()


def test_all_of_them_differ() -> None:
    assert len(set(golden_files())) == 16


def test_small_and_large_jpegs_are_among_them(images: list[Image.Image]) -> None:
    sides = [max(image.size) for image in images if image.format == "JPEG"]
    assert min(sides) <= 32
    assert max(sides) >= 1600


def test_half_and_quarter_turns_are_among_them(images: list[Image.Image]) -> None:
    assert {3, 5, 6, 8} <= {image.getexif().get(ORIENTATION) for image in images}


def test_every_troublesome_colour_mode_is_among_them(images: list[Image.Image]) -> None:
    assert {("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")} <= {
        (image.format, image.mode) for image in images
    }


def test_sixteen_bit_uses_the_whole_range(images: list[Image.Image]) -> None:
    values = next(np.asarray(image) for image in images if image.mode == "I;16")
    assert values.max() > 0x8000


def test_they_decode_to_images_that_tell_channels_apart() -> None:
    """A swapped channel must show in most of them."""
    spec = InputSpec(
        width=32, height=32, channels=3, crop_fraction=1, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
    )
    decoded = [decode(file, spec).pixels.astype(int) for file in golden_files()]
    assert all(each.std() > 5 for each in decoded)
    assert sum(np.abs(each[..., 0] - each[..., 2]).mean() > 10 for each in decoded) >= 12
