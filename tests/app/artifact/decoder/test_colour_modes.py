"""The decoder: grey, palettes, transparency, CMYK and 16 bits become RGB on white."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.decode import BrokenImage, InputSpec, decode
from tests.images import Pixels, chunk, difference, drawing, encode, png, rows, spec


def identical(image: Image.Image) -> InputSpec:
    """A model input of the image's own size: decoding then neither crops nor resizes."""
    return spec(*image.size)


def _on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    share = alpha[..., None] / 255
    return np.asarray((colour * share + 255 * (1 - share)).round(), np.uint8)


def _grey(image: Image.Image) -> Pixels:
    return np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=2)


def _modes() -> Iterator[Any]:
    """name, file, expected pixels, tolerance"""
    rgb = drawing(24, 18, seed=5)
    palette = rgb.quantize(16)
    index, colours = np.asarray(palette), np.asarray(palette.convert("RGB"))
    ramp = np.asarray(Image.linear_gradient("L").resize(rgb.size))
    rgba, la = rgb.copy(), rgb.convert("L")
    rgba.putalpha(Image.fromarray(ramp))
    la.putalpha(Image.fromarray(ramp))
    clear = np.where(index == 3, 0, 255)
    steps = bytes(range(0, 256, 16))
    yield "palette", encode(palette), colours, 0
    yield "palette with a clear entry", encode(palette, transparency=3), _on_white(colours, clear), 0
    yield "palette with alpha", encode(palette, transparency=steps), _on_white(colours, index.astype(int) * 16), 1
    yield "palette BMP", encode(palette, "BMP"), colours, 0
    yield "GIF with a clear entry", encode(palette, "GIF", transparency=3), _on_white(colours, clear), 0
    for kind in ("PNG", "TIFF", "WEBP"):
        file = encode(rgba, kind, lossless=True, exact=True) if kind == "WEBP" else encode(rgba, kind)
        yield f"RGBA {kind}", file, _on_white(np.asarray(rgb), ramp), 1
    yield "LA", encode(la), _on_white(_grey(rgb), ramp), 1
    yield "RGB with a clear colour", encode(rgb, transparency=rgb.getpixel((0, 0))), _keyed(rgb), 0
    yield "grey PNG", encode(rgb.convert("L")), _grey(rgb), 0
    yield "grey JPEG", encode(rgb.convert("L"), "JPEG", quality=100), _grey(rgb), 2
    yield "1 bit PNG", encode(rgb.convert("1")), _grey(rgb.convert("1")), 0
    yield "1 bit TIFF", encode(rgb.convert("1"), "TIFF", compression="group4"), _grey(rgb.convert("1")), 0
    cmyk = rgb.convert("CMYK")
    yield "CMYK TIFF", encode(cmyk, "TIFF"), np.asarray(rgb), 1
    yield "CMYK JPEG", encode(cmyk, "JPEG", quality=100, subsampling=0), np.asarray(rgb), 6
    yield "YCbCr TIFF", encode(rgb.convert("YCbCr"), "TIFF"), np.asarray(rgb), 3


def _keyed(rgb: Image.Image) -> Pixels:
    pixels = np.array(rgb)
    pixels[(pixels == pixels[0, 0]).all(axis=2)] = 255
    return pixels


@pytest.mark.parametrize(("file", "expected", "limit"), [pytest.param(*row[1:], id=row[0]) for row in _modes()])
def test_an_image_of_any_colour_mode_becomes_its_rgb_on_white(file: bytes, expected: Pixels, limit: int) -> None:
    with Image.open(io.BytesIO(file)) as image:
        model = identical(image)
    assert difference(decode(file, model), expected) <= limit


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("alpha", ["gradient", "edge", "grain"])
def test_a_clear_image_gives_the_pixels_of_its_flattened_copy(alpha: str, bicubic: bool) -> None:
    """Whoever lays it on white before sending it gets the same answer."""
    size = (80, 60)
    gradient = Image.linear_gradient("L").resize(size)
    masks = {
        "gradient": gradient,
        "edge": gradient.point(lambda value: 255 * (value > 100)),
        "grain": Image.fromarray(np.random.default_rng(2).integers(0, 256, size[::-1], dtype=np.uint8)),
    }
    clear, flat = drawing(*size), Image.new("RGB", size, "white")
    flat.paste(clear, mask=masks[alpha])
    clear.putalpha(masks[alpha])
    for model in (spec(16, 16, bicubic=bicubic), spec(48, 32, 0.875, bicubic)):
        assert difference(decode(encode(clear), model), decode(encode(flat), model)) <= 3


def _sixteen_bit(kind: str) -> bytes:
    grey = np.asarray(drawing(24, 18, seed=5).convert("L")).astype(np.uint16) * 257
    if kind == "TIFF, big-endian":
        image = Image.frombytes("I;16B", (24, 18), grey.astype(">u2").tobytes())
        return encode(image, "TIFF")
    return encode(Image.fromarray(grey), kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, big-endian"])
def test_sixteen_bit_grey_equals_its_eight_bit_copy_exactly(kind: str) -> None:
    eight = encode(drawing(24, 18, seed=5).convert("L"))
    for model in (spec(24, 18), spec(7, 9, 0.875)):
        assert difference(decode(_sixteen_bit(kind), model), decode(eight, model)) == 0


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_and_alpha_equal_their_eight_bit_copies(colour_type: int, channels: int) -> None:
    eight = np.random.default_rng(4).integers(0, 256, (18, 24, channels), dtype=np.uint8)
    sixteen = (eight.astype(np.uint16) * 257).astype(">u2")
    files = png(24, 18, 16, colour_type, rows(sixteen)), png(24, 18, 8, colour_type, rows(eight))
    assert difference(*(decode(file, spec(24, 18)) for file in files)) == 0


def test_a_clear_grey_is_white_at_sixteen_bits_as_at_eight() -> None:
    eight = np.repeat(np.arange(18, dtype=np.uint8)[:, None], 24, axis=1) * 10
    sixteen = (eight.astype(np.uint16) * 257).astype(">u2")
    clear = [chunk(b"tRNS", struct.pack(">H", value)) for value in (50, 50 * 257)]
    files = png(24, 18, 8, 0, rows(eight), clear[0]), png(24, 18, 16, 0, rows(sixteen), clear[1])
    answers = [decode(file, spec(24, 18)) for file in files]
    assert answers[0].pixels[5].min() == 255
    assert difference(*answers) == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_image_of_32_bit_pixels_is_refused_because_they_have_no_range(dtype: type) -> None:
    with pytest.raises(BrokenImage, match=r"32 bits, .* is not read; save it as RGB or grey with 8 bits"):
        decode(encode(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF"), spec())


def test_a_palette_image_without_its_palette_is_broken() -> None:
    with pytest.raises(BrokenImage):
        decode(png(8, 8, 8, 3, rows(np.zeros((8, 8), np.uint8))), spec())
