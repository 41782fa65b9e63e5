"""The decoder: what would take more memory than the limit allows is refused before it does."""

import struct
import time
import zlib

import pytest

from app.artifact.decoder import decode as decoder
from app.artifact.decoder.decode import BrokenImage, TooManyPixels, decode
from tests.images import drawing, encode, png, spec


def _announcing(kind: str, width: int, height: int) -> bytes:
    """A small file whose header announces width x height; decoding it would find that the pixels are not there."""
    if kind == "PNG":
        return png(width, height, 1, 0, b"\x00")
    file = bytearray(encode(drawing(), kind))
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


def test_a_gif_frame_larger_than_its_screen_counts_as_the_image() -> None:
    file = bytearray(encode(drawing(64, 48), "GIF"))
    frame = file.index(b"\x2c\x00\x00\x00\x00" + struct.pack("<HH", 64, 48))
    file[frame + 5 : frame + 9] = struct.pack("<HH", 20000, 20000)
    with pytest.raises(TooManyPixels, match="20000 x 20000"):
        decode(bytes(file), spec(), max_pixels=64_000_000)


def _tiled_tiff(width: int, height: int, tile: int) -> bytes:
    """A deflated TIFF whose one tile is `tile` pixels square, however small the image."""
    data = zlib.compress(bytes(tile * tile), 9)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(tags)) + entries + b"\x00" * 4 + data


def test_the_tiles_of_a_tiff_count_as_pixels_for_they_are_decoded_whole() -> None:
    """A file of 0.8 MB took 770 MB and 3.6 s: one tile of 16384 x 16384, for an image of 64 x 48."""
    assert decode(_tiled_tiff(64, 48, 64), spec(), max_pixels=1_000_000).geometry.width == 64
    with pytest.raises(TooManyPixels):
        decode(_tiled_tiff(64, 48, 1024), spec(), max_pixels=1_000_000)


def test_a_tiff_whose_tile_size_has_an_odd_type_is_refused() -> None:
    """Pillow gives such a tag as bytes, which counted as no tile at all, and libtiff decodes what it says."""
    whole = _tiled_tiff(240, 480, 240)
    entry = struct.pack("<HHI", 322, 4, 1)
    assert entry in whole
    with pytest.raises(BrokenImage, match="tiles"):
        decode(whole.replace(entry, struct.pack("<HHI", 322, 1, 1)), spec())


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize(("size", "limit"), [((7000, 7000), 64_000_000), ((12000, 9000), decoder.MAX_PIXELS)])
def test_up_to_the_limit_an_image_is_decoded(kind: str, size: tuple[int, int], limit: int) -> None:
    """That its pixels are missed shows that they were looked for."""
    with pytest.raises(BrokenImage):
        decode(_announcing(kind, *size), spec(), max_pixels=limit)


def test_the_limit_itself_is_allowed_and_one_pixel_more_is_not() -> None:
    file = encode(drawing(64, 48))
    assert decode(file, spec(), max_pixels=64 * 48).geometry.width == 64
    with pytest.raises(TooManyPixels):
        decode(file, spec(), max_pixels=64 * 48 - 1)


def test_a_png_that_would_inflate_to_much_text_is_not_inflated() -> None:
    plain = encode(drawing(), "PNG")
    text = b"k\x00\x00" + zlib.compress(b"x" * 1_000_000)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    started = time.thread_time()
    assert decode(plain[:33] + chunk * 1000 + plain[33:], spec()).format == "PNG"
    assert time.thread_time() - started < 0.3  # a gigabyte would take seconds
