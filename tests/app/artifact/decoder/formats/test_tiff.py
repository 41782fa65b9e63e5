"""The decoder and TIFF: every layout gives its image, or is refused by its name; none gives another image."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.decode import BrokenImage, UnsupportedImage, decode
from tests.app.artifact.decoder.formats.tiffs import (
    ALPHA,
    BLACK_IS_ZERO,
    CIELAB,
    CMYK,
    DEFLATE,
    LZW,
    PACKBITS,
    PALETTE,
    PREMULTIPLIED,
    RAW,
    TRUE_COLOUR,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    tiff,
)
from tests.images import difference, drawing, encode, spec

Values = NDArray[Any]
WIDTH, HEIGHT = 21, 11  # neither a multiple of a tile, of a strip nor of 8
RGB = np.asarray(drawing(WIDTH, HEIGHT, seed=5))
GREY = np.asarray(drawing(WIDTH, HEIGHT, seed=5).convert("L"))[..., None]
RAMP = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))[..., None]  # of alpha


class Kind(NamedTuple):
    """Samples as they are in the file, and the image that they are, 0..255; None: it may only be refused."""

    layout: Layout
    samples: Values
    shown: Values | None
    is_read: bool  # whether it must be, where samples lie together and the highest bit comes first


def _deep(values: Values, bits: int) -> Values:
    return (values.astype(np.uint64) * (2**bits - 1) // 255).astype(np.uint32)


def _shown(values: Values, bits: int) -> Values:
    return np.broadcast_to(values * (255 / (2**bits - 1)), (HEIGHT, WIDTH, 3))


def _white(values: Values, alpha: Values) -> Values:
    return values * (alpha / 255) + 255 - alpha


def _kinds() -> Iterator[Kind]:
    for bits in (1, 2, 4, 8, 12, 14, 16, 32):
        grey, rgb, alpha = (_deep(each, bits) for each in (GREY, RGB, RAMP))
        clear, high = _shown(alpha, bits), 2**bits - 1
        yield Kind(Layout(BLACK_IS_ZERO, bits), grey, _shown(grey, bits), bits in (1, 2, 4, 8, 12, 16))
        yield Kind(Layout(WHITE_IS_ZERO, bits), high - grey, _shown(grey, bits), bits in (1, 2, 4, 8, 12, 16))
        yield Kind(Layout(TRUE_COLOUR, bits), rgb, _shown(rgb, bits), bits in (8, 16))
        for signed in (2, 4):
            yield Kind(Layout(BLACK_IS_ZERO, bits, sample_format=signed), grey, None, False)
            yield Kind(Layout(TRUE_COLOUR, bits, sample_format=signed), rgb, None, False)
        for extra in (None, (UNSPECIFIED,), (PREMULTIPLIED,), (ALPHA,), (ALPHA, UNSPECIFIED), (UNSPECIFIED, ALPHA)):
            more = [alpha] * (len(extra) if extra else 1)
            plain = extra in (None, (UNSPECIFIED,))
            for photometric, colour in ((BLACK_IS_ZERO, grey), (WHITE_IS_ZERO, high - grey), (TRUE_COLOUR, rgb)):
                shown: Values | None = _shown(grey if photometric == WHITE_IS_ZERO else colour, bits)
                if extra == (PREMULTIPLIED,):
                    colour = (colour * (alpha / high)).astype(np.uint32)
                    shown = None if photometric == WHITE_IS_ZERO else _shown(colour, bits) + 255 - clear
                elif not plain:
                    shown = _white(shown, clear)
                read = bits in (8, 16) and photometric == TRUE_COLOUR and extra not in ((ALPHA, 0), (0, ALPHA))
                yield Kind(Layout(photometric, bits, extra=extra), np.concatenate([colour, *more], 2), shown, read)


def _other_kinds() -> Iterator[Kind]:
    for bits, wide in itertools.product((1, 2, 4, 8), (257, 1)):
        index = (np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH)) % 2**bits)[..., None]
        colours = np.random.default_rng(1).integers(0, 256, (2**bits, 3))
        colours[0] = (10, 200, 255)
        entry = (320, 3, (colours * wide).T.ravel().tolist())
        yield Kind(Layout(PALETTE, bits, more=(entry,)), index, colours[index[..., 0]], True)
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK")).copy()
    inks[..., 3] = inks[..., :3].min(axis=2) // 2
    paper = (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    for bits in (8, 16):
        yield Kind(Layout(CMYK, bits), _deep(inks, bits), paper, True)
        extra = np.concatenate([_deep(inks, bits), _deep(RAMP, bits)], axis=2)
        yield Kind(Layout(CMYK, bits, extra=(UNSPECIFIED,)), extra, paper, bits == 8)
    luma = np.asarray(Image.fromarray(RGB).convert("YCbCr")).astype(float)
    y, cb, cr = luma[..., 0], luma[..., 1] - 128, luma[..., 2] - 128
    rgb = np.dstack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]).clip(0, 255)
    yield Kind(Layout(YCBCR, 8, more=((530, 3, (1, 1)),)), luma.astype(np.uint32), rgb, True)
    lab = np.random.default_rng(0).integers((110, -15, -15), (200, 15, 15), (HEIGHT, WIDTH, 3))
    yield Kind(Layout(CIELAB, 8), (lab & 255).astype(np.uint32), _from_lab(lab), True)
    yield Kind(Layout(4, 1), _deep(GREY, 1), None, False)
    yield Kind(Layout(9, 8), RGB.astype(np.uint32), None, False)


def _from_lab(lab: Values) -> Values:
    """CIE 15, D50, to sRGB by the matrix adapted with Bradford's method."""
    y = (lab[..., 0] / 255 * 100 + 16) / 116
    at = np.dstack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200])
    xyz = np.where(at > 6 / 29, at**3, 3 * (6 / 29) ** 2 * (at - 4 / 29)) * (0.9642, 1, 0.8249)
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = (xyz @ np.asarray(matrix).T).clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def _layouts(kind: Kind) -> Iterator[Layout]:
    compressions, tiles = ((RAW, LZW, DEFLATE, PACKBITS), (0, 16)) if kind.is_read else ((RAW, LZW), (0,))
    for order, planes, compression, tile in itertools.product("<>", (1, 2), compressions, tiles):
        plain = replace(kind.layout, order=order, planes=planes, compression=compression, tile=tile)
        yield plain
        yield replace(plain, fill=2)
        if compression in (LZW, DEFLATE) and kind.layout.bits in (8, 16, 32):
            yield replace(plain, predictor=2)
        if not tile:
            yield replace(plain, rows=HEIGHT, big=True)


def _name(kind: Kind) -> str:
    layout = kind.layout
    signed = {2: "signed", 4: "undefined"}.get(layout.sample_format, "")
    return f"{layout.photometric} x {layout.bits} {signed} {layout.extra or ''} {len(layout.more)}"


@pytest.mark.parametrize("kind", [*_kinds(), *_other_kinds()], ids=_name)
def test_every_layout_gives_its_image_or_is_refused_by_name(kind: Kind) -> None:
    """Depth x photometric x planes x compression x predictor x byte order x bit order x strips, tiles, BigTIFF."""
    outcomes: Counter[str] = Counter()
    for layout in _layouts(kind):
        usual = layout.planes == 1 and layout.fill == 1 and not (layout.big and layout.order == ">")
        try:
            found = decode(tiff(kind.samples, layout), spec(WIDTH, HEIGHT)).pixels
        except UnsupportedImage as refusal:
            assert layout.big
            assert "BigTIFF" in str(refusal)
            continue
        except BrokenImage as refusal:
            assert not (kind.is_read and usual), layout
            assert f"{layout.bits} bits" in str(refusal), layout
            outcomes["refused"] += 1
            continue
        assert kind.shown is not None, layout
        assert np.abs(found - kind.shown).max() <= 1.01, layout
        outcomes["right"] += 1
    assert sum(outcomes.values()) >= (50 if kind.is_read else 20)
    assert bool(outcomes["right"]) or not kind.is_read


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "lzma", "zstd", "tiff_lzw", "packbits"])
def test_compressions_that_a_library_writes_lose_nothing(compression: str) -> None:
    mode = "1" if compression in ("group3", "group4", "tiff_ccitt") else "RGB"
    shown = drawing(WIDTH, HEIGHT, seed=5).convert(mode)
    file = encode(shown, "TIFF", compression=compression)
    assert difference(decode(file, spec(WIDTH, HEIGHT)), np.asarray(shown.convert("RGB"))) == 0


@pytest.mark.parametrize("compression", [34712, 34887, 34925, 50001, 50002, 60000])
def test_a_compression_that_is_not_read_is_named(compression: int) -> None:
    """JPEG 2000, LERC, LZMA whose data is none, WebP, JPEG XL, unknown."""
    with pytest.raises(BrokenImage, match=rf"compression {compression}|pixels are damaged"):
        decode(tiff(RGB, Layout(TRUE_COLOUR, 8, compression=compression)), spec())


TAGS: dict[str, tuple[int, int, Sequence[int]]] = {
    "resolution that is no fraction": (282, 3, [0]),
    "unit of resolution": (296, 3, [99]),
    "profile": (34675, 1, b"no profile"),
    "EXIF behind the end": (34665, 4, [2**31]),
    "subdirectory": (330, 4, [9]),
    "orientation 0": (274, 3, [0]),
    "orientation 9": (274, 3, [9]),
    "XMP": (700, 1, b"<x"),
    "Photoshop": (34377, 1, b"8BIM\xff"),
    "page": (297, 3, [0]),
    "name": (269, 1, b""),
    "transfer function": (301, 3, [1, 2]),
    "least signed value": (340, 3, [5]),
    "highest value": (281, 3, [0]),
    "private": (65000, 4, [1, 2, 3]),
}


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_no_tag_that_decoding_does_without_costs_an_image(tag: tuple[int, int, Sequence[int]]) -> None:
    for order, compression, big in (("<", RAW, False), (">", RAW, False), ("<", DEFLATE, False), ("<", RAW, True)):
        file = tiff(RGB, Layout(TRUE_COLOUR, 8, order, compression=compression, big=big, more=(tag,)))
        assert difference(decode(file, spec(WIDTH, HEIGHT)), RGB) == 0
