"""The decoder: an image of any size, format and number of frames becomes the pixels that the model asks for."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import InputSpec, decode, inspect
from tests.images import FORMATS, difference, drawing, encode, spec

# --- sizes and formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "limit"), [("JPEG", 6.0), ("PNG", 0.0), ("WEBP", 6.0), ("BMP", 0.0), ("GIF", 6.0), ("TIFF", 0.0)]
)
def test_every_accepted_format_gives_about_the_same_pixels(kind: str, limit: float) -> None:
    answer = decode(encode(drawing(), kind), spec())
    assert answer.format == kind
    assert np.abs(answer.pixels.astype(int) - decode(encode(drawing()), spec()).pixels).mean() <= limit


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (20000, 10), (10, 20000)])
@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_of_any_shape_keeps_its_colour(kind: str, size: tuple[int, int]) -> None:
    if kind == "WEBP":  # holds 16383 pixels a side
        size = (min(size[0], 16383), min(size[1], 16383))
    answer = decode(encode(Image.new("RGB", size, (200, 30, 90)), kind), spec(20, 12, 0.875))
    assert answer.pixels.dtype == np.uint8
    assert difference(answer, np.full((12, 20, 3), (200, 30, 90), np.uint8)) <= 4


@pytest.mark.parametrize("bicubic", [False, True])
def test_pixels_are_resized_with_antialiasing_as_the_spec_says(bicubic: bool) -> None:
    shown = drawing(200, 160, seed=3)
    method = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    expected = shown.resize((16, 16), method, box=(20, 0, 180, 160))
    assert difference(decode(encode(shown), spec(16, 16, bicubic=bicubic)), np.asarray(expected)) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_of_the_models_size_is_cropped_as_any_other(kind: str) -> None:
    file = encode(drawing(32, 32, seed=3), kind)
    with Image.open(io.BytesIO(file)) as shown:
        expected = shown.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR, box=(4, 4, 28, 28))
    assert difference(decode(file, spec(32, 32, 0.75)), np.asarray(expected)) == 0


def test_decoding_in_many_threads_gives_what_one_thread_gives() -> None:
    files = [encode(drawing(90, 70, seed), kind) for seed, kind in enumerate(FORMATS * 8)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda file: decode(file, spec()).pixels, files))
    for file, found in zip(files, together, strict=True):
        assert difference(found, decode(file, spec())) == 0


# --- more than one image in a file ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_a_file_of_several_images_gives_the_first(kind: str) -> None:
    first, second = Image.new("RGB", (40, 30), (220, 20, 20)), Image.new("RGB", (40, 30), (20, 20, 220))
    several = encode(first, kind, save_all=True, append_images=[second])
    with Image.open(io.BytesIO(several)) as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]  # else this file tests nothing
    assert difference(decode(several, spec()), np.full((12, 20, 3), (220, 20, 20), np.uint8)) <= 3


# --- large JPEGs --------------------------------------------------------------------------------------------------


def _photo(width: int, height: int) -> Image.Image:
    """With the fine grain of a camera, which a coarse shortcut would turn into other pixels."""
    grain = np.random.default_rng(1).normal(0, 12, (height, width, 1))
    return Image.fromarray((np.asarray(drawing(width, height)) + grain).clip(0, 255).astype(np.uint8))


def test_a_large_jpeg_gives_nearly_the_pixels_of_a_full_decode() -> None:
    file = encode(_photo(3000, 2000), "JPEG", quality=90)
    with Image.open(io.BytesIO(file)) as image:
        full = image.convert("RGB")
    for side, box in ((224, (625, 125, 2375, 1875)), (32, (625, 125, 2375, 1875))):
        expected = np.asarray(full.resize((side, side), Image.Resampling.BILINEAR, box=box))
        found = decode(file, spec(side, side, 0.875)).pixels
        assert np.abs(found.astype(int) - expected).mean() < 0.5
        assert difference(found, expected) <= 6


@pytest.mark.parametrize(
    ("size", "model", "divisor"),
    [
        ((3000, 2000), spec(224, 224), 4),  # 2000 / 224 = 8.9 source pixels per model pixel: at 1/4, 2.2 are left
        ((3000, 2000), spec(224, 224, 0.875), 2),
        ((3000, 2000), spec(32, 32), 8),
        ((3000, 2000), spec(600, 20), 2),
        ((447, 447), spec(224, 224), 1),
        ((896, 895), spec(224, 224), 1),
        ((897, 1001), spec(224, 224), 2),
        ((1799, 3001), spec(224, 224), 4),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_keeps_twice_the_model(
    size: tuple[int, int], model: InputSpec, divisor: int
) -> None:
    plain = encode(Image.new("L", size), "JPEG")
    assert inspect(plain, model).scale == divisor
    header = inspect(encode(Image.new("L", size), "JPEG", orientation=1), model)
    assert header.scale == divisor
    assert header.image is not None
    assert header.image.size == tuple(-(-edge // divisor) for edge in size)
    assert np.asarray(header.image).shape == header.image.size[::-1]


def test_a_reduced_jpeg_costs_a_fraction_of_a_full_decode() -> None:
    file = encode(_photo(2400, 1800), "JPEG", quality=90)

    def cpu_seconds(side: int) -> float:
        started = time.process_time()
        decode(file, spec(side, side))
        return time.process_time() - started

    reduced, full = (min(cpu_seconds(side) for _ in range(3)) for side in (32, 901))
    assert reduced < 0.6 * full
