"""The decoder: images come out as they are displayed, and the geometry says where in that each pixel lies."""

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import InputSpec, decode
from tests.images import ORIENTATION, Pixels, chunk, difference, drawing, encode, png, rows, spec

WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")
EXACT: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
# The EXIF standard's eight orientations: stored pixels -> displayed pixels.
TURN: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
BACK = {**{number: number for number in range(1, 9)}, 6: 8, 8: 6}


def turned(stored: Image.Image, orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(TURN[orientation](np.asarray(stored))))


def as_stored(image: Image.Image, kind: str) -> Image.Image:
    """What the encoder left of an image."""
    with Image.open(io.BytesIO(encode(image, kind, **EXACT.get(kind, {})))) as stored:
        return stored.convert("RGB")


@pytest.mark.parametrize("orientation", TURN)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_a_rotated_file_decodes_like_the_same_image_turned_by_hand(kind: str, orientation: int) -> None:
    for size in ((64, 48), (37, 91)):
        rotated = encode(drawing(*size), kind, orientation, **EXACT.get(kind, {}))
        upright = encode(turned(as_stored(drawing(*size), kind), orientation))
        for model in (spec(20, 12, 0.875), spec(9, 30), spec(16, 16, bicubic=True)):
            found, expected = decode(rotated, model), decode(upright, model)
            assert difference(found, expected) <= 1  # the two directions are resized in the other order, in 8 bits
            assert found.geometry == expected.geometry


def test_the_eight_orientations_of_one_file_are_eight_different_images() -> None:
    answers = [decode(encode(drawing(), "JPEG", orientation), spec(16, 16)).pixels for orientation in TURN]
    assert len({answer.tobytes() for answer in answers}) == 8


@pytest.mark.parametrize("orientation", TURN)
def test_a_rotated_photo_that_is_decoded_at_reduced_scale_is_still_turned(orientation: int) -> None:
    stored = drawing(1200, 800)
    found = decode(encode(stored, "JPEG", orientation, quality=95), spec(24, 16, 0.875))
    expected = decode(encode(turned(stored, orientation)), spec(24, 16, 0.875))
    assert difference(found, expected) <= 4
    assert found.geometry == expected.geometry


def test_an_orientation_chunk_behind_the_pixels_of_a_png_counts() -> None:
    file = encode(drawing(), "PNG", 6)
    start = file.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(file[start : start + 4])
    moved = file[:start] + file[end:-12] + file[start:end] + file[-12:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    assert difference(decode(moved, spec()), decode(file, spec())) == 0
    assert decode(moved, spec()).geometry.width == 48


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_outside_1_to_8_means_upright(value: int) -> None:
    assert difference(decode(encode(drawing(), "JPEG", value), spec()), decode(encode(drawing(), "JPEG"), spec())) == 0


@pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\x00", b"MM\x00*\xff\xff\xff\xff"])
def test_a_damaged_exif_block_does_not_make_a_good_png_bad(exif: bytes) -> None:
    pixels = np.asarray(drawing(24, 18))
    damaged, plain = (png(24, 18, 8, 2, rows(pixels), *extra) for extra in ([chunk(b"eXIf", exif)], []))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        assert difference(decode(damaged, spec()), decode(plain, spec())) == 0


@pytest.mark.parametrize(
    "exif", [b"", b"garbage", b"II*\x00", b"II*\x00\x08\x00\x00\x00\x05\x00\x12\x01", b"MM\x00*\xff\xff\xff\xff"]
)
def test_a_damaged_exif_block_does_not_make_a_good_photo_bad(exif: bytes) -> None:
    plain = encode(drawing(), "JPEG")
    segment = b"Exif\x00\x00" + exif
    damaged = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Corrupt EXIF data")  # Pillow's word for it, on stderr once a process
        assert difference(decode(damaged, spec()), decode(plain, spec())) == 0


GEOMETRIES = [
    # stored size, orientation, model, displayed size, left, top, right, bottom
    ((400, 300), 1, spec(224, 224, 0.875), (400, 300), (68.75, 18.75, 331.25, 281.25)),
    ((300, 400), 1, spec(224, 224, 0.875), (300, 400), (18.75, 68.75, 281.25, 331.25)),
    ((400, 300), 6, spec(224, 224, 0.875), (300, 400), (18.75, 68.75, 281.25, 331.25)),
    ((400, 300), 3, spec(224, 224, 0.875), (400, 300), (68.75, 18.75, 331.25, 281.25)),
    ((100, 100), 1, spec(20, 10), (100, 100), (0, 25, 100, 75)),
    ((100, 100), 8, spec(10, 20), (100, 100), (25, 0, 75, 100)),
    ((1000, 10), 1, spec(16, 16), (1000, 10), (495, 0, 505, 10)),
    ((1000, 10), 5, spec(16, 16), (10, 1000), (0, 495, 10, 505)),
    ((640, 480), 1, spec(4, 3), (640, 480), (0, 0, 640, 480)),
    ((1, 1), 1, spec(16, 16, 0.5), (1, 1), (0.25, 0.25, 0.75, 0.75)),
]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("stored", "orientation", "model", "displayed", "box"), GEOMETRIES)
def test_geometry_is_the_centred_crop_in_displayed_pixels(
    kind: str,
    stored: tuple[int, int],
    orientation: int,
    model: InputSpec,
    displayed: tuple[int, int],
    box: tuple[float, ...],
) -> None:
    found = decode(encode(Image.new("RGB", stored), kind, orientation), model).geometry
    assert (found.width, found.height) == displayed
    assert (found.left, found.top, found.right, found.bottom) == pytest.approx(box)


@pytest.mark.parametrize("orientation", TURN)
@pytest.mark.parametrize(("kind", "size"), [("PNG", (180, 120)), ("JPEG", (1800, 1200))])
def test_geometry_leads_every_model_pixel_back_to_its_place(kind: str, size: tuple[int, int], orientation: int) -> None:
    """The displayed image's red is x and its green is y; so each model pixel says where it comes from."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    shown = np.stack([x * 255, y * 255, np.full_like(x, 128)], axis=2).round().astype(np.uint8)
    stored = Image.fromarray(np.ascontiguousarray(TURN[BACK[orientation]](shown)))
    answer = decode(encode(stored, kind, orientation), spec(15, 15, 0.875))
    at = answer.geometry
    across = at.left + (np.arange(15) + 0.5) * (at.right - at.left) / 15
    down = at.top + (np.arange(15) + 0.5) * (at.bottom - at.top) / 15
    assert (at.width, at.height) == size
    assert answer.pixels[7, :, 0] == pytest.approx(across / width * 255, abs=3)
    assert answer.pixels[:, 7, 1] == pytest.approx(down / height * 255, abs=3)


def test_the_crop_keeps_the_models_share_of_the_shorter_side() -> None:
    """A white image in a black frame of 1/16 on each side; antialiasing carries a little across the crop's edge."""
    framed = Image.new("L", (160, 160), "black")
    framed.paste("white", (10, 10, 150, 150))
    corners = {share: int(decode(encode(framed), spec(16, 16, share)).pixels[0, 0, 0]) for share in (0.875, 1.0)}
    assert corners[0.875] > 180
    assert corners[1.0] < 30


@pytest.mark.parametrize("side", [7, 28, 100, 224, 299])
def test_no_size_of_image_rounds_the_crop_beyond_its_edge(side: int) -> None:
    for size in (*range(1, 130), 176, 225, 450, 900):
        assert decode(encode(Image.new("L", (size, size + 3))), spec(side, side)).pixels.shape == (side, side, 3)


def test_the_orientation_tag_of_the_tests_is_the_exif_standards() -> None:
    assert ORIENTATION == 0x0112
