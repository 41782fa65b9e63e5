"""The decoder: values of few bits in a wider file are never taken for full ones, and dark images not for those."""

import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact.decoder.decode import BrokenImage, decode
from tests.app.artifact.decoder.formats.tiffs import BLACK_IS_ZERO, DEFLATE, TRUE_COLOUR, WHITE_IS_ZERO, Layout, tiff
from tests.images import chunk, difference, drawing, encode, png, rows, spec

SIZE = WIDTH, HEIGHT = 24, 18
RGB = np.asarray(drawing(*SIZE, seed=5))
GREY = np.asarray(drawing(*SIZE, seed=5).convert("L"))[..., None]
COLOURS = {0: GREY, 2: RGB, 4: np.dstack([GREY, GREY * 0 + 255]), 6: np.dstack([RGB, GREY * 0 + 255])}


def _sixteen(values: NDArray[Any], *extra: bytes) -> bytes:
    """A PNG of 16 bits with those values."""
    colour = {1: 0, 3: 2, 2: 4, 4: 6}[values.shape[2]]
    return png(*SIZE, 16, colour, rows(values.astype(">u2")), *extra)


def _few(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """With an alpha of 16 bits, which programs write also beside values of fewer."""
    few = values.astype(np.uint32) * (2**bits - 1) // 255
    if values.shape[2] in (2, 4):
        few[..., -1] = 65535
    return few


@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 13, 14])
@pytest.mark.parametrize("colour", COLOURS)
def test_few_bits_that_nothing_speaks_of_are_refused_by_their_number(colour: int, bits: int) -> None:
    with pytest.raises(BrokenImage, match="16 bits end at"):
        decode(_sixteen(_few(COLOURS[colour], bits)), spec(*SIZE))


@pytest.mark.parametrize(
    ("photometric", "planes", "compression", "order"), list(itertools.product((0, 1, 2), (1, 2), (1, DEFLATE), "<>"))
)
def test_few_bits_in_a_tiff_are_refused_as_well(photometric: int, planes: int, compression: int, order: str) -> None:
    values = _few(RGB if photometric == TRUE_COLOUR else GREY, 12)
    file = tiff(values, Layout(photometric, 16, order, planes, compression))
    with pytest.raises(BrokenImage, match="as of 12 bits"):
        decode(file, spec(*SIZE))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_few_bits_that_the_file_declares_are_read(bits: int) -> None:
    said = chunk(b"sBIT", bytes([bits]))
    assert difference(decode(_sixteen(_few(GREY, bits), said), spec(*SIZE)), GREY.repeat(3, 2)) <= 1
    # what fills its 16 bits is read by them, whatever is said
    assert difference(decode(_sixteen(GREY.astype(np.uint32) * 257, said), spec(*SIZE)), GREY.repeat(3, 2)) == 0


@pytest.mark.parametrize("step", [257, 256], ids=["copied", "shifted"])
@pytest.mark.parametrize("colour", [0, 2, 6])
def test_a_dark_image_that_was_made_from_8_bits_is_what_it_was(colour: int, step: int) -> None:
    dark = COLOURS[colour] // 16
    if colour == 6:
        dark[..., -1] = 255
    eight = png(*SIZE, 8, colour, rows(dark))
    found = decode(_sixteen(dark.astype(np.uint32) * step), spec(*SIZE))
    assert difference(found, decode(eight, spec(*SIZE))) == 0


def test_black_is_black() -> None:
    for values in COLOURS.values():
        black = values.astype(np.uint32) * 0
        if values.shape[2] in (2, 4):
            black[..., -1] = 65535
        assert decode(_sixteen(black), spec(*SIZE)).pixels.max() == 0


def test_a_dark_image_that_says_it_has_16_bits_is_dark() -> None:
    values = GREY.astype(np.uint32) * 13 + 5
    found = decode(_sixteen(values, chunk(b"sBIT", b"\x10")), spec(*SIZE))
    assert difference(found, (values >> 8).astype(np.uint8).repeat(3, 2)) == 0


def test_a_clear_colour_of_16_bits_is_compared_in_all_of_them() -> None:
    values = RGB.astype(np.uint32) * 256 + np.random.default_rng(0).integers(0, 256, RGB.shape)
    values[:9] = values[0, 0]
    clear = chunk(b"tRNS", struct.pack(">HHH", *map(int, values[0, 0])))
    near = chunk(b"tRNS", struct.pack(">HHH", *(int(value) ^ 1 for value in values[0, 0])))
    shown = (values >> 8).astype(np.uint8)
    assert difference(decode(_sixteen(values, near), spec(*SIZE)), shown) == 0
    shown[:9] = 255
    assert difference(decode(_sixteen(values, clear), spec(*SIZE)), shown) == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_clear_grey_is_white_at_every_depth(bits: int, interlaced: bool) -> None:
    values = GREY.astype(np.uint32) * (2**bits - 1) // 255
    key = int(values[5, 5, 0])
    file = _png_of_bits(values, bits, interlaced, chunk(b"tRNS", struct.pack(">H", key)))
    shown = (values * 255 / (2**bits - 1)).astype(np.uint8)
    assert difference(decode(file, spec(*SIZE)), np.where(values == key, np.uint8(255), shown).repeat(3, 2)) <= 1


def _png_of_bits(values: NDArray[Any], bits: int, interlaced: bool, *extra: bytes) -> bytes:
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    passes = [values[top::down, left::right] for left, top, right, down in (steps if interlaced else [(0, 0, 1, 1)])]
    data = b""
    for each in passes:
        spread = (each.reshape(len(each), -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
        lines = np.packbits(spread.astype(np.uint8).reshape(len(each), -1), axis=1)
        data += b"".join(b"\0" + line.tobytes() for line in lines)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, 0, 0, 0, interlaced))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


# --- alpha that is none -------------------------------------------------------------------------------------------


def _bmp(alpha: int, header: int) -> bytes:
    """32 bits with that fourth byte everywhere, behind a header that has a mask for it (124, 108, 56) or has not."""
    pixels = np.dstack([RGB[::-1, :, ::-1], np.full_like(GREY, alpha)]).tobytes()
    compression = 3 if header > 40 else 0
    head = struct.pack("<IiiHHIIiiII", header, *SIZE, 1, 32, compression, len(pixels), 0, 0, 0, 0)
    if header > 40:
        head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = head.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


@pytest.mark.parametrize("header", [40, 56, 108, 124])
def test_a_fourth_byte_that_is_zero_everywhere_is_not_alpha_in_a_bitmap(header: int) -> None:
    assert difference(decode(_bmp(0, header), spec(*SIZE)), RGB) == 0
    assert difference(decode(_bmp(255, header), spec(*SIZE)), RGB) == 0


def test_alpha_that_is_zero_everywhere_is_white_where_it_is_declared() -> None:
    clear = drawing(*SIZE)
    clear.putalpha(0)
    for kind in ("PNG", "TIFF", "WEBP"):
        assert decode(encode(clear, kind), spec(*SIZE)).pixels.min() == 255


@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_twelve_bits_are_read_by_the_highest_eight(photometric: int) -> None:
    values = GREY.astype(np.uint32) * 4095 // 255
    file = tiff(4095 - values if photometric == WHITE_IS_ZERO else values, Layout(photometric, 12))
    assert difference(decode(file, spec(*SIZE)), GREY.repeat(3, 2)) <= 1
