"""The decoder: any picture a client may send becomes the right pixels or a refusal in words, and nothing else."""

import io
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact import header
from app.artifact import image as decoder
from app.artifact.image import (
    ACCEPTED,
    BrokenImage,
    Decoded,
    ImageError,
    InputSpec,
    TooManyPixels,
    UnsupportedImage,
    decode,
)
from tests.pictures import FORMATS, ORIENTATION, encode, picture

Pixels = NDArray[np.uint8]
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


def spec(width: int = 20, height: int = 12, crop_fraction: float = 1.0, bicubic: bool = False) -> InputSpec:
    return InputSpec(
        width=width,
        height=height,
        channels=3,
        crop_fraction=crop_fraction,
        interpolation="bicubic" if bicubic else "bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def difference(one: Decoded | Pixels, other: Decoded | Pixels) -> int:
    """The largest distance of a channel of a pixel."""
    a, b = (each.pixels if isinstance(each, Decoded) else each for each in (one, other))
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def turned(stored: Image.Image, orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(TURN[orientation](np.asarray(stored))))


def as_stored(image: Image.Image, kind: str) -> Image.Image:
    """What the encoder left of a picture."""
    with Image.open(io.BytesIO(encode(image, kind, **EXACT.get(kind, {})))) as stored:
        return stored.convert("RGB")


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A hand-made PNG: kinds that Pillow does not write, and headers that lie. `rows` is uint8 rows after filter 0."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _rows(pixels: NDArray[Any]) -> bytes:
    return b"".join(b"\x00" + row.tobytes() for row in pixels)


def identical(image: Image.Image) -> InputSpec:
    """A model input of the picture's own size: decoding then neither crops nor resizes."""
    return spec(*image.size)


# --- orientation and geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", TURN)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_a_rotated_file_decodes_like_the_same_picture_turned_by_hand(kind: str, orientation: int) -> None:
    for size in ((64, 48), (37, 91)):
        rotated = encode(picture(*size), kind, orientation, **EXACT.get(kind, {}))
        upright = encode(turned(as_stored(picture(*size), kind), orientation))
        for model in (spec(20, 12, 0.875), spec(9, 30), spec(16, 16, bicubic=True)):
            found, expected = decode(rotated, model), decode(upright, model)
            assert difference(found, expected) <= 1  # the two directions are resized in the other order, in 8 bits
            assert found.geometry == expected.geometry


def test_the_eight_orientations_of_one_file_are_eight_different_pictures() -> None:
    answers = [decode(encode(picture(), "JPEG", orientation), spec(16, 16)).pixels for orientation in TURN]
    assert len({answer.tobytes() for answer in answers}) == 8


@pytest.mark.parametrize("orientation", TURN)
def test_a_rotated_photo_that_is_decoded_at_reduced_scale_is_still_turned(orientation: int) -> None:
    stored = picture(1200, 800)
    found = decode(encode(stored, "JPEG", orientation, quality=95), spec(24, 16, 0.875))
    expected = decode(encode(turned(stored, orientation)), spec(24, 16, 0.875))
    assert difference(found, expected) <= 4
    assert found.geometry == expected.geometry


def test_an_orientation_chunk_behind_the_pixels_of_a_png_counts() -> None:
    file = encode(picture(), "PNG", 6)
    start = file.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(file[start : start + 4])
    moved = file[:start] + file[end:-12] + file[start:end] + file[-12:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    assert difference(decode(moved, spec()), decode(file, spec())) == 0
    assert decode(moved, spec()).geometry.width == 48


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_outside_1_to_8_means_upright(value: int) -> None:
    assert difference(decode(encode(picture(), "JPEG", value), spec()), decode(encode(picture(), "JPEG"), spec())) == 0


@pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\x00", b"MM\x00*\xff\xff\xff\xff"])
def test_a_damaged_exif_block_does_not_make_a_good_png_bad(exif: bytes) -> None:
    pixels = np.asarray(picture(24, 18))
    damaged, plain = (png(24, 18, 8, 2, _rows(pixels), *extra) for extra in ([_chunk(b"eXIf", exif)], []))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        assert difference(decode(damaged, spec()), decode(plain, spec())) == 0


@pytest.mark.parametrize(
    "exif", [b"", b"garbage", b"II*\x00", b"II*\x00\x08\x00\x00\x00\x05\x00\x12\x01", b"MM\x00*\xff\xff\xff\xff"]
)
def test_a_damaged_exif_block_does_not_make_a_good_photo_bad(exif: bytes) -> None:
    plain = encode(picture(), "JPEG")
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
    """The displayed picture's red is x and its green is y; so each model pixel says where it comes from."""
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
    """A white picture in a black frame of 1/16 on each side; antialiasing carries a little across the crop's edge."""
    framed = Image.new("L", (160, 160), "black")
    framed.paste("white", (10, 10, 150, 150))
    corners = {share: int(decode(encode(framed), spec(16, 16, share)).pixels[0, 0, 0]) for share in (0.875, 1.0)}
    assert corners[0.875] > 180
    assert corners[1.0] < 30


@pytest.mark.parametrize("side", [7, 28, 100, 224, 299])
def test_no_size_of_picture_rounds_the_crop_beyond_its_edge(side: int) -> None:
    for size in (*range(1, 130), 176, 225, 450, 900):
        assert decode(encode(Image.new("L", (size, size + 3))), spec(side, side)).pixels.shape == (side, side, 3)


# --- sizes and formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "limit"), [("JPEG", 6.0), ("PNG", 0.0), ("WEBP", 6.0), ("BMP", 0.0), ("GIF", 6.0), ("TIFF", 0.0)]
)
def test_every_accepted_format_gives_about_the_same_pixels(kind: str, limit: float) -> None:
    answer = decode(encode(picture(), kind), spec())
    assert answer.format == kind
    assert np.abs(answer.pixels.astype(int) - decode(encode(picture()), spec()).pixels).mean() <= limit


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (20000, 10), (10, 20000)])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_of_any_shape_keeps_its_colour(kind: str, size: tuple[int, int]) -> None:
    if kind == "WEBP":  # holds 16383 pixels a side
        size = (min(size[0], 16383), min(size[1], 16383))
    answer = decode(encode(Image.new("RGB", size, (200, 30, 90)), kind), spec(20, 12, 0.875))
    assert answer.pixels.dtype == np.uint8
    assert difference(answer, np.full((12, 20, 3), (200, 30, 90), np.uint8)) <= 4


@pytest.mark.parametrize("bicubic", [False, True])
def test_pixels_are_resized_with_antialiasing_as_the_spec_says(bicubic: bool) -> None:
    shown = picture(200, 160, seed=3)
    method = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    expected = shown.resize((16, 16), method, box=(20, 0, 180, 160))
    assert difference(decode(encode(shown), spec(16, 16, bicubic=bicubic)), np.asarray(expected)) == 0


def test_decoding_in_many_threads_gives_what_one_thread_gives() -> None:
    files = [encode(picture(90, 70, seed), kind) for seed, kind in enumerate(FORMATS * 8)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda file: decode(file, spec()).pixels, files))
    for file, found in zip(files, together, strict=True):
        assert difference(found, decode(file, spec())) == 0


# --- colour modes -------------------------------------------------------------------------------------------------


def _on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    share = alpha[..., None] / 255
    return np.asarray((colour * share + 255 * (1 - share)).round(), np.uint8)


def _grey(image: Image.Image) -> Pixels:
    return np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=2)


def _modes() -> Iterator[Any]:
    """name, file, expected pixels, tolerance"""
    rgb = picture(24, 18, seed=5)
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
def test_a_picture_of_any_colour_mode_becomes_its_rgb_on_white(file: bytes, expected: Pixels, limit: int) -> None:
    with Image.open(io.BytesIO(file)) as image:
        model = identical(image)
    assert difference(decode(file, model), expected) <= limit


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("alpha", ["gradient", "edge", "grain"])
def test_a_clear_picture_gives_the_pixels_of_its_flattened_copy(alpha: str, bicubic: bool) -> None:
    """Whoever lays it on white before sending it gets the same answer."""
    size = (80, 60)
    gradient = Image.linear_gradient("L").resize(size)
    masks = {
        "gradient": gradient,
        "edge": gradient.point(lambda value: 255 * (value > 100)),
        "grain": Image.fromarray(np.random.default_rng(2).integers(0, 256, size[::-1], dtype=np.uint8)),
    }
    clear, flat = picture(*size), Image.new("RGB", size, "white")
    flat.paste(clear, mask=masks[alpha])
    clear.putalpha(masks[alpha])
    for model in (spec(16, 16, bicubic=bicubic), spec(48, 32, 0.875, bicubic)):
        assert difference(decode(encode(clear), model), decode(encode(flat), model)) <= 3


def _sixteen_bit(kind: str) -> bytes:
    grey = np.asarray(picture(24, 18, seed=5).convert("L")).astype(np.uint16) * 257
    if kind == "TIFF, big-endian":
        image = Image.frombytes("I;16B", (24, 18), grey.astype(">u2").tobytes())
        return encode(image, "TIFF")
    return encode(Image.fromarray(grey), kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, big-endian"])
def test_sixteen_bit_grey_equals_its_eight_bit_copy_exactly(kind: str) -> None:
    eight = encode(picture(24, 18, seed=5).convert("L"))
    for model in (spec(24, 18), spec(7, 9, 0.875)):
        assert difference(decode(_sixteen_bit(kind), model), decode(eight, model)) == 0


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_and_alpha_equal_their_eight_bit_copies(colour_type: int, channels: int) -> None:
    eight = np.random.default_rng(4).integers(0, 256, (18, 24, channels), dtype=np.uint8)
    sixteen = (eight.astype(np.uint16) * 257).astype(">u2")
    files = png(24, 18, 16, colour_type, _rows(sixteen)), png(24, 18, 8, colour_type, _rows(eight))
    assert difference(*(decode(file, spec(24, 18)) for file in files)) == 0


def test_a_clear_grey_is_white_at_sixteen_bits_as_at_eight() -> None:
    eight = np.repeat(np.arange(18, dtype=np.uint8)[:, None], 24, axis=1) * 10
    sixteen = (eight.astype(np.uint16) * 257).astype(">u2")
    clear = [_chunk(b"tRNS", struct.pack(">H", value)) for value in (50, 50 * 257)]
    files = png(24, 18, 8, 0, _rows(eight), clear[0]), png(24, 18, 16, 0, _rows(sixteen), clear[1])
    answers = [decode(file, spec(24, 18)) for file in files]
    assert answers[0].pixels[5].min() == 255
    assert difference(*answers) == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_picture_of_32_bit_pixels_is_refused_because_they_have_no_range(dtype: type) -> None:
    with pytest.raises(BrokenImage, match="8 or 16 bits"):
        decode(encode(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF"), spec())


def test_a_palette_picture_without_its_palette_is_broken() -> None:
    with pytest.raises(BrokenImage):
        decode(png(8, 8, 8, 3, _rows(np.zeros((8, 8), np.uint8))), spec())


# --- more than one picture in a file ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_a_file_of_several_pictures_gives_the_first(kind: str) -> None:
    first, second = Image.new("RGB", (40, 30), (220, 20, 20)), Image.new("RGB", (40, 30), (20, 20, 220))
    several = encode(first, kind, save_all=True, append_images=[second])
    with Image.open(io.BytesIO(several)) as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]  # else this file tests nothing
    assert difference(decode(several, spec()), np.full((12, 20, 3), (220, 20, 20), np.uint8)) <= 3


# --- large JPEGs --------------------------------------------------------------------------------------------------


def _photo(width: int, height: int) -> Image.Image:
    """With the fine grain of a camera, which a coarse shortcut would turn into other pixels."""
    grain = np.random.default_rng(1).normal(0, 12, (height, width, 1))
    return Image.fromarray((np.asarray(picture(width, height)) + grain).clip(0, 255).astype(np.uint8))


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
    with Image.open(io.BytesIO(encode(Image.new("L", size), "JPEG"))) as image:
        assert decoder._reduce(image, model) == divisor
        assert image.size == tuple(-(-edge // divisor) for edge in size)
        assert np.asarray(image).shape == image.size[::-1]


def test_a_reduced_jpeg_costs_a_fraction_of_a_full_decode() -> None:
    file = encode(_photo(2400, 1800), "JPEG", quality=90)

    def cpu_seconds(side: int) -> float:
        started = time.process_time()
        decode(file, spec(side, side))
        return time.process_time() - started

    reduced, full = (min(cpu_seconds(side) for _ in range(3)) for side in (32, 901))
    assert reduced < 0.6 * full


# --- refusals -----------------------------------------------------------------------------------------------------

FOREIGN = {
    "text": (b"I am a cat, says the file named cat.jpg", "no known image type"),
    "nothing": (b"", "no known image type"),
    "a signature's half": (b"\x89PNG", "no known image type"),
    "HEIC": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "is HEIC"),
    "HEIC of another brand": (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "is HEIC"),
    "MP4": (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00", "an ISO media file"),
    "PDF": (b"%PDF-1.7\n", "is PDF"),
    "SVG": (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG"),
    "SVG with a prolog": (b"<?xml version='1.0'?><svg/>", "XML or SVG"),
    "ZIP": (b"PK\x03\x04\x14\x00", "a ZIP archive"),
    "WAV, RIFF as WebP is": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "no known image type"),
}


@pytest.mark.parametrize(("file", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_by_its_name(file: bytes, words: str) -> None:
    with pytest.raises(UnsupportedImage) as refusal:
        decode(file, spec())
    assert words in str(refusal.value)
    assert str(refusal.value).endswith(f"accepted: {', '.join(ACCEPTED)}")


@pytest.mark.parametrize("kind", ["AVIF", "ICO", "PDF", "PPM", "JPEG2000", "TGA"])
def test_what_pillow_could_read_but_is_not_accepted_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImage):
        decode(encode(picture(), kind), spec())


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_broken_and_the_sentence_names_the_format(kind: str, share: float) -> None:
    file = encode(picture(), kind)
    with pytest.raises(BrokenImage) as refusal:
        decode(file[: int(len(file) * share)], spec())
    assert kind in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "object at 0x" not in str(refusal.value)  # Python's name of a buffer tells a client nothing


@pytest.mark.parametrize(
    "header", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*", b"RIFF....WEBP"]
)
def test_a_bare_signature_is_broken(header: bytes) -> None:
    with pytest.raises(BrokenImage), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        decode(header, spec())


def _announcing(kind: str, width: int, height: int) -> bytes:
    """A small file whose header announces width x height; decoding it would find that the pixels are not there."""
    if kind == "PNG":
        return png(width, height, 1, 0, b"\x00")
    file = bytearray(encode(picture(), kind))
    if kind == "GIF":
        file[6:10] = struct.pack("<HH", width, height)
    elif kind == "BMP":
        file[18:26] = struct.pack("<ii", width, height)
    else:
        frame = file.index(b"\xff\xc0")  # JPEG's start of frame: length, precision, height, width
        file[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(file)


@pytest.mark.parametrize("size", [(9000, 9000), (20000, 20000), (60000, 60000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_too_many_pixels_are_refused_from_the_header_alone(kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels) as refusal:
        decode(_announcing(kind, *size), spec(), max_pixels=64_000_000)
    assert f"{size[0]} x {size[1]}" in str(refusal.value)
    assert "64 MP" in str(refusal.value)


def test_a_gif_frame_larger_than_its_screen_counts_as_the_picture() -> None:
    file = bytearray(encode(picture(64, 48), "GIF"))
    frame = file.index(b"\x2c\x00\x00\x00\x00" + struct.pack("<HH", 64, 48))
    file[frame + 5 : frame + 9] = struct.pack("<HH", 20000, 20000)
    with pytest.raises(TooManyPixels, match="20000 x 20000"):
        decode(bytes(file), spec(), max_pixels=64_000_000)


def _tiled_tiff(width: int, height: int, tile: int) -> bytes:
    """A deflated TIFF whose one tile is `tile` pixels square, however small the picture."""
    data = zlib.compress(bytes(tile * tile), 9)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(tags)) + entries + b"\x00" * 4 + data


def test_the_tiles_of_a_tiff_count_as_pixels_for_they_are_decoded_whole() -> None:
    """A file of 0.8 MB took 770 MB and 3.6 s: one tile of 16384 x 16384, for a picture of 64 x 48."""
    assert decode(_tiled_tiff(64, 48, 64), spec(), max_pixels=1_000_000).geometry.width == 64
    with pytest.raises(TooManyPixels):
        decode(_tiled_tiff(64, 48, 1024), spec(), max_pixels=1_000_000)


def test_a_jpeg_of_a_thousand_scans_is_refused_for_each_passes_over_every_pixel() -> None:
    """At 64 MP a scan of 95 bytes costs 40 ms: an upload of 10 MB would keep a core busy for an hour."""
    file = encode(picture(64, 48), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    assert decode(file, spec()).format == "JPEG"
    assert 2 <= file.count(b"\xff\xda") <= 20
    with pytest.raises(BrokenImage):
        decode(file[:-2] + file[last:-2] * 1000 + file[-2:], spec())


def test_what_looks_like_scans_in_a_photos_metadata_does_not_count() -> None:
    plain = encode(picture(64, 48), "JPEG")
    metadata = b"\xff\xda" * 30_000
    annotated = plain[:2] + b"\xff\xed" + struct.pack(">H", len(metadata) + 2) + metadata + plain[2:]
    assert difference(decode(annotated, spec()), decode(plain, spec())) == 0


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize(("size", "limit"), [((7000, 7000), 64_000_000), ((12000, 9000), decoder.MAX_PIXELS)])
def test_up_to_the_limit_a_picture_is_decoded(kind: str, size: tuple[int, int], limit: int) -> None:
    """That its pixels are missed shows that they were looked for."""
    with pytest.raises(BrokenImage):
        decode(_announcing(kind, *size), spec(), max_pixels=limit)


def test_the_limit_itself_is_allowed_and_one_pixel_more_is_not() -> None:
    file = encode(picture(64, 48))
    assert decode(file, spec(), max_pixels=64 * 48).geometry.width == 64
    with pytest.raises(TooManyPixels):
        decode(file, spec(), max_pixels=64 * 48 - 1)


# --- anything at all ----------------------------------------------------------------------------------------------


def _seeds() -> list[bytes]:
    """Valid files of every format and of many modes, compressions and layouts."""
    rgb = picture(40, 30)
    palette, grey = rgb.quantize(16), rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(128)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    two = {"save_all": True, "append_images": [rgb.rotate(90)]}
    files = [encode(rgb, "JPEG", orientation) for orientation in (1, 6)]
    files += [encode(rgb, "JPEG", progressive=True), encode(grey, "JPEG"), encode(rgb.convert("CMYK"), "JPEG")]
    files += [encode(picture(300, 200), "JPEG", 5), encode(rgb, "MPO", **two)]
    files += [encode(each, "PNG", 6) for each in (rgb, rgba, grey, grey.convert("LA"), palette, sixteen)]
    files += [encode(rgb.convert("1")), encode(palette, transparency=3), encode(rgb, **two)]
    files += [encode(rgb, "WEBP"), encode(rgba, "WEBP", 8, lossless=True), encode(rgb, "WEBP", **two)]
    files += [encode(each, "BMP") for each in (rgb, rgba, grey, palette, rgb.convert("1"))]
    files += [encode(palette, "GIF"), encode(palette, "GIF", transparency=3, interlace=1), encode(rgb, "GIF", **two)]
    files += [encode(each, "TIFF", 6) for each in (rgb, rgba, palette, sixteen, rgb.convert("CMYK"), grey.convert("F"))]
    files += [encode(rgb, "TIFF", compression=each) for each in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    return [*files, encode(rgb.convert("1"), "TIFF", compression="group4")]


def _mutated(file: bytes, dice: random.Random) -> bytes:
    """A few bits flipped, bytes set, cut out or put in; near the header half of the time."""
    damaged = bytearray(file)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        place = dice.randrange(len(damaged) if dice.random() < 0.5 else min(len(damaged), 160))
        match dice.randrange(5):
            case 0:
                damaged[place] ^= 1 << dice.randrange(8)
            case 1:
                damaged[place] = dice.choice((0, 1, 127, 128, 255))
            case 2:
                del damaged[max(16, dice.randrange(len(damaged))) :]
            case 3:
                damaged[place:place] = dice.randbytes(dice.choice((1, 2, 16)))
            case _:
                del damaged[place : place + dice.choice((1, 2, 50))]
        if len(damaged) < 16:
            break
    return _with_checksums(bytes(damaged)) if dice.random() < 0.7 else bytes(damaged)


def _with_checksums(file: bytes) -> bytes:
    """A PNG's checksums made right, or nearly every change would be caught by them and never reach a decoder."""
    if not file.startswith(b"\x89PNG\r\n\x1a\n"):
        return file
    parts, place = [file[:8]], 8
    while place + 12 <= len(file) and (size := int.from_bytes(file[place : place + 4])) <= len(file) - place - 12:
        parts.append(_chunk(file[place + 4 : place + 8], file[place + 8 : place + 8 + size]))
        place += 12 + size
    return b"".join(parts) + file[place:]


def test_five_thousand_damaged_files_each_become_pixels_or_a_refusal() -> None:
    """Any other exception fails here. 400,000 such files were tried in all; see _DAMAGE."""
    dice, seeds = random.Random(2026), _seeds()
    outcomes = dict.fromkeys((Decoded, UnsupportedImage, BrokenImage, TooManyPixels), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata that it could do without
        for _ in range(5_000):
            file = _mutated(dice.choice(seeds), dice)
            try:
                answer = decode(file, spec(16, 12, 0.875), max_pixels=1_000_000)
                assert (answer.pixels.shape, answer.pixels.dtype) == ((12, 16, 3), np.uint8)
                outcomes[Decoded] += 1
            except ImageError as refusal:
                assert str(refusal)
                outcomes[type(refusal)] += 1
    assert all(count >= 10 for count in outcomes.values()), outcomes  # else the mutations are too gentle or too rude


def test_the_orientation_tag_of_the_tests_is_the_exif_standards() -> None:
    assert ORIENTATION == 0x0112 == decoder._ORIENTATION_TAG


def test_a_tiff_whose_tile_size_has_an_odd_type_is_refused() -> None:
    """Pillow gives such a tag as bytes, which counted as no tile at all, and libtiff decodes what it says."""
    whole = _tiled_tiff(240, 480, 240)
    entry = struct.pack("<HHI", 322, 4, 1)
    assert entry in whole
    with pytest.raises(BrokenImage, match="tiles"):
        decode(whole.replace(entry, struct.pack("<HHI", 322, 1, 1)), spec())


def test_a_jpeg_of_thousands_of_segments_is_refused() -> None:
    plain = encode(picture(), "JPEG")
    segment = b"\xff\xe5\x00\x02"
    assert decode(plain[:2] + segment * 900 + plain[2:], spec()).format == "JPEG"
    with pytest.raises(BrokenImage, match="segments"):
        decode(plain[:2] + segment * 16_000 + plain[2:], spec())


def test_a_png_that_inflates_to_much_text_is_refused() -> None:
    plain = encode(picture(), "PNG")
    text = b"k\x00\x00" + zlib.compress(b"x" * 1_000_000)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    assert decode(plain[:33] + chunk + plain[33:], spec()).format == "PNG"
    with pytest.raises(BrokenImage):
        decode(plain[:33] + chunk * 6 + plain[33:], spec())


def _chunks(count: int, kind: bytes = b"prVt") -> bytes:
    chunk = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    plain = encode(picture(), "PNG")
    return plain[:33] + chunk * count + plain[33:]


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        (encode(picture(), "JPEG"), True),
        (encode(picture(), "PNG"), True),
        (encode(picture(), "JPEG", orientation=6), True),
        (_chunks(20), True),
        (_chunks(5000), False),
        (_chunks(1, b"iTXt"), False),
        (_chunks(1, b"eXIf"), False),
        (encode(picture(), "JPEG", progressive=True), False),
        (encode(picture(), "JPEG")[:2] + b"\xff\xe1\x20\x02" + bytes(8192) + encode(picture(), "JPEG")[2:], False),
        (encode(picture(), "JPEG")[:2] + b"\xff\xe5\x00\x02" * 100 + encode(picture(), "JPEG")[2:], False),
        (encode(picture(), "BMP"), False),
        (encode(picture(), "GIF"), False),
        (encode(picture(), "TIFF"), False),
        (encode(picture(), "WEBP"), False),
        (b"\x89PNG\r\n\x1a\n", True),  # quickly refused
        (b"", False),
    ],
)
def test_what_a_small_file_costs_is_known_before_it_is_decoded(data: bytes, quick: bool) -> None:
    assert header.is_quick(data) is quick
