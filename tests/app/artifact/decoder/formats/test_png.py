"""What is odd beside a PNG's pixels costs no image; what is odd in them is refused."""

import itertools
import struct
import time
import zlib
from collections.abc import Iterator

import pytest

from app.artifact.decoder.decode import BrokenImage, decode
from tests.app.artifact.decoder.formats.plain_files import PNG, RGB, same
from tests.images import chunk, encode, spec

ANCILLARY = [b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"zTXt", b"tEXt", b"iTXt", b"acTL", b"fcTL"]
ANCILLARY += [
    b"fdAT",
    b"tRNS",
    b"eXIf",
    b"pHYs",
    b"tIME",
    b"sBIT",
    b"bKGD",
    b"hIST",
    b"sPLT",
    b"sTER",
    b"oFFs",
    b"prVt",
]
CONTENTS = [
    b"",
    b"\0",
    b"\xff",
    b"\0\0\1",
    bytes(7),
    b"key\0\x01abc",
    b"name\0\0not zlib",
    b"Exif\0\0MM\0*",
    bytes(300),
]
CONTENTS += [b"\xff" * 40, b"key\0\0" + zlib.compress(bytes(2_000_000)), b"XML:com.adobe.xmp\0\1\0\0\0not zlib"]


def _damaged(kind: bytes, content: bytes) -> Iterator[bytes]:
    """A chunk as it should be, with a bad checksum, with a length too large by a little and by a lot, and too small."""
    whole = chunk(kind, content)
    yield whole
    yield whole[:-4] + b"\0\0\0\1"
    for length in (len(content) + 3, len(content) + 5000, 2**31, 2**32 - 1, max(0, len(content) - 1)):
        yield struct.pack(">I", length) + whole[4:]


@pytest.mark.parametrize("palette", [False, True], ids=["RGB", "palette"])
@pytest.mark.parametrize("kind", ANCILLARY)
def test_no_ancillary_chunk_costs_a_png(kind: bytes, palette: bool) -> None:
    plain = encode(RGB.quantize(64)) if palette else PNG
    pixels, end = plain.index(b"IDAT") - 4, len(plain) - 12
    for content in CONTENTS:
        if palette and kind == b"tRNS" and len(content) <= 64:
            continue  # this is what it says
        for odd in _damaged(kind, content):
            for place in (33, pixels, end):
                same(plain[:place] + odd + plain[place:], plain)


def test_a_png_with_many_damaged_chunks_and_no_end_is_whole() -> None:
    odd = b"".join(chunk(kind, content)[:-1] + b"?" for kind, content in itertools.product(ANCILLARY, CONTENTS))
    same(PNG[:33] + odd + PNG[33:-12] + odd, PNG)


def test_the_first_whole_chunk_counts_behind_damaged_ones() -> None:
    """Transparency and orientation are no metadata that decoding could do without."""
    palette = RGB.quantize(64)
    clear = encode(palette, transparency=bytes(range(0, 256, 4)))
    place = clear.index(b"tRNS") - 4
    same(clear[:place] + chunk(b"tRNS", b"\0\0")[:-1] + b"?" + clear[place:], clear)
    turned = encode(RGB, "PNG", 6)
    place = turned.index(b"eXIf") - 4
    same(turned[:place] + chunk(b"eXIf", b"MM\0*")[:-1] + b"?" + turned[place:], turned)


@pytest.mark.parametrize("kind", [b"prVt", b"IDAT"])
def test_a_png_of_chunks_without_end_is_refused_before_they_cost_a_second(kind: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(BrokenImage, match="20000 chunks"):
        decode(PNG[:33] + chunk(kind, b"") * 800_000 + PNG[33:], spec())
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"tEXt", b"eXIf"])
def test_thousands_of_compressed_chunks_are_not_inflated(kind: bytes) -> None:
    """10 MB of them took 21 s, a megabyte of zeros each."""
    flood = chunk(kind, b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 2000
    started = time.thread_time()
    same(PNG[:33] + flood + PNG[33:], PNG)
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize("share", [0.3, 0.9, 0.97])
def test_pixels_that_are_cut_stay_refused_whatever_stands_before_them(share: float) -> None:
    odd = PNG[:33] + chunk(b"gAMA", b"") + PNG[33:]
    for file in (PNG, odd):
        with pytest.raises(BrokenImage, match=r"PNG file cannot be decoded: .*(truncated|Truncated|damaged)"):
            decode(file[: int(len(file) * share)], spec())


@pytest.mark.parametrize("damage", ["filter", "stream", "interlace", "raw deflate"])
def test_damaged_pixels_are_refused_and_not_black(damage: str) -> None:
    """Pillow loads them with the orientation of a PNG, and where that was passed over gives black ones."""
    rows = bytearray(
        b"".join(
            b"\0" + RGB.tobytes()[at : at + 3 * RGB.width] for at in range(0, 3 * RGB.width * RGB.height, 3 * RGB.width)
        )
    )
    head = struct.pack(">IIBBBBB", RGB.width, RGB.height, 8, 2, 0, 0, damage == "interlace")
    if damage == "filter":
        rows[3 * RGB.width + 1] = 200
    pixels = zlib.compress(bytes(rows))
    if damage == "stream":
        pixels = pixels[: len(pixels) // 2] + b"\xff" * 50 + pixels[len(pixels) // 2 + 50 :]
    if damage == "raw deflate":
        pixels = pixels[2:-4]
    file = PNG[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    with pytest.raises(BrokenImage, match="pixels"):
        decode(file, spec())


@pytest.mark.parametrize("size", [0, 3, 4, 900])
def test_a_palette_that_is_only_suggested_costs_no_png(size: int) -> None:
    same(PNG[:33] + chunk(b"PLTE", bytes(size)) + PNG[33:], PNG)


@pytest.mark.parametrize("size", [0, 4])
def test_a_palette_without_whole_colours_is_refused(size: int) -> None:
    file = encode(RGB.quantize(16), "PNG")
    at = file.index(b"PLTE")
    length = int.from_bytes(file[at - 4 : at])
    with pytest.raises(BrokenImage, match="palette"):
        decode(file[: at - 4] + chunk(b"PLTE", bytes(size)) + file[at + 8 + length :], spec())
