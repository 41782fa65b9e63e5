"""Run-length coded bitmaps: Pillow fills up their lines byte by byte, so that 1,084 bytes kept Python busy for 7 s."""

import io
import struct

from PIL import ImageFile

from app.artifact.decoder.errors import BrokenImage

_MOST_CODES = 2**20  # 0.3 s; a dithered screen of 2 MP without a run longer than two has as many


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header; None where it ends before."""
    if len(data) < 26:
        return None
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def expand(image: ImageFile.ImageFile) -> None:
    """Give an opened bitmap its pixels as they are in place of its codes; nothing where it has none.

    Raises BrokenImage where there are more codes than any image has, or fewer pixels than its size says.
    """
    if not image.tile or image.tile[0].codec_name != "bmp_rle":
        return
    assert image.fp is not None
    tile = image.tile[0]
    assert isinstance(tile.args, tuple)
    _, of_four_bits, direction = tile.args
    image.fp.seek(tile.offset)
    codes = image.fp.read()
    pixels = _pixels(codes, tile.offset % 2, image.size, of_four_bits)
    if len(pixels) < image.width * image.height:
        raise BrokenImage("the BMP file cannot be decoded: its pixels are damaged")
    image.fp = io.BytesIO(pixels)
    image.tile = [ImageFile._Tile("raw", (0, 0, *image.size), 0, ("L" if image.mode in "1L" else "P", 0, direction))]


def _pixels(codes: bytes, odd: int, size: tuple[int, int], of_four_bits: bool) -> bytes:
    """A byte for each pixel, from the line that comes first. `odd`: whether the codes begin at an odd place of the
    file, where what is not coded is filled up to an even one."""
    width, most = size[0], size[0] * size[1]
    made, place, x, end = bytearray(), 0, 0, len(codes) - 1
    for _ in range(_MOST_CODES):
        if len(made) >= most or place >= end:
            return bytes(made)
        count, value = codes[place], codes[place + 1]
        place += 2
        if count:
            count = min(count, max(0, width - x))
            made += _nibbles(bytes([value]) * ((count + 1) // 2), count) if of_four_bits else bytes([value]) * count
            x += count
        elif value == 0:
            made += bytes(-len(made) % width)
            x = 0
        elif value == 1:
            return bytes(made)
        elif value == 2:
            if place >= end:
                return bytes(made)
            made += bytes(min(most - len(made), codes[place] + codes[place + 1] * width))
            place, x = place + 2, len(made) % width
        else:
            count = min(most - len(made), value)
            needed = (count + 1) // 2 if of_four_bits else count
            given = codes[place : place + needed]
            made += _nibbles(given, count) if of_four_bits else given
            if len(given) < needed:
                return bytes(made)
            x += value
            place += needed + (place + needed + odd) % 2
    raise BrokenImage(f"the BMP file has more than {_MOST_CODES} run-length codes; save it without run-length coding")


def _nibbles(packed: bytes, count: int) -> bytes:
    return bytes(each for byte in packed for each in (byte >> 4, byte & 15))[:count]
