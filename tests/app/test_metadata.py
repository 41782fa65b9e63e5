"""The decoder: a whole picture with odd or damaged metadata is the same picture."""

import itertools
import random
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from app.artifact.image import BrokenImage, decode
from tests.pictures import chunk, difference, encode, picture, spec

RGB = picture(40, 30, seed=5)
PNG, JPEG, GIF = (encode(RGB, kind) for kind in ("PNG", "JPEG", "GIF"))
PROGRESSIVE = encode(RGB, "JPEG", progressive=True)
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


def _same(found: bytes, plain: bytes) -> None:
    assert difference(decode(found, spec()), decode(plain, spec())) == 0


# --- PNG ----------------------------------------------------------------------------------------------------------


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
                _same(plain[:place] + odd + plain[place:], plain)


def test_a_png_with_many_damaged_chunks_and_no_end_is_whole() -> None:
    odd = b"".join(chunk(kind, content)[:-1] + b"?" for kind, content in itertools.product(ANCILLARY, CONTENTS))
    _same(PNG[:33] + odd + PNG[33:-12] + odd, PNG)


def test_the_first_whole_chunk_counts_behind_damaged_ones() -> None:
    """Transparency and orientation are no metadata that decoding could do without."""
    palette = RGB.quantize(64)
    clear = encode(palette, transparency=bytes(range(0, 256, 4)))
    place = clear.index(b"tRNS") - 4
    _same(clear[:place] + chunk(b"tRNS", b"\0\0")[:-1] + b"?" + clear[place:], clear)
    turned = encode(RGB, "PNG", 6)
    place = turned.index(b"eXIf") - 4
    _same(turned[:place] + chunk(b"eXIf", b"MM\0*")[:-1] + b"?" + turned[place:], turned)


@pytest.mark.parametrize("kind", [b"prVt", b"IDAT"])
def test_a_png_of_chunks_without_end_is_refused_before_they_cost_a_second(kind: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(BrokenImage, match="100000 chunks"):
        decode(PNG[:33] + chunk(kind, b"") * 800_000 + PNG[33:], spec())
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"tEXt", b"eXIf"])
def test_thousands_of_compressed_chunks_are_not_inflated(kind: bytes) -> None:
    """10 MB of them took 21 s, a megabyte of zeros each."""
    flood = chunk(kind, b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 2000
    started = time.thread_time()
    _same(PNG[:33] + flood + PNG[33:], PNG)
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize("share", [0.3, 0.9, 0.97])
def test_pixels_that_are_cut_stay_refused_whatever_stands_before_them(share: float) -> None:
    odd = PNG[:33] + chunk(b"gAMA", b"") + PNG[33:]
    for file in (PNG, odd):
        with pytest.raises(BrokenImage, match=r"PNG file cannot be decoded: .*(truncated|Truncated|damaged)"):
            decode(file[: int(len(file) * share)], spec())


# --- JPEG ---------------------------------------------------------------------------------------------------------


def _segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content


EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
NAMES = [b"JFIF\0", b"JFXX\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"FPXR\0", b"MPF\0"]
NAMES += [b"Photoshop 3.0\0", b"Adobe", b"Ducky", b""]


@pytest.mark.parametrize("plain", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_no_application_segment_costs_a_jpeg(plain: bytes) -> None:
    bare = plain[:2] + plain[4 + int.from_bytes(plain[4:6]) :]  # without its JFIF
    tails = [b"", b"\0", b"\1\2", b"\xff", b"MM\0*", b"8BIM\x03\xed\0\0\0\0\xff\xff", EXIF[6:], b"\1\1" + bytes(200)]
    for code, name, tail in itertools.product([*range(0xE0, 0xF0), 0xFE], NAMES, tails):
        if (code, name) == (0xEE, b"Adobe") and len(tail) >= 7:
            continue  # this says which colours the numbers are
        odd = _segment(code, name + tail)
        _same(plain[:2] + odd + plain[2:], plain)
        _same(bare[:2] + odd + _segment(0xE1, EXIF) + bare[2:], plain)


def _exifs() -> Iterator[bytes]:
    """One that is damaged in every byte, and cut everywhere."""
    whole = encode(RGB, "JPEG", 1, dpi=(72, 72))
    at = whole.index(b"Exif\0\0")
    exif = bytearray(whole[at : at - 2 + int.from_bytes(whole[at - 2 : at])])
    exif += b"\1\x1a\0\5\0\0\0\1" + bytes(40)
    for place in range(6, len(exif)):
        yield bytes(exif[:place])
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            yield bytes(exif[:place]) + bytes([value]) + bytes(exif[place + 1 :])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Tag data larger")
def test_a_damaged_exif_segment_costs_no_jpeg_and_no_orientation_comes_from_it() -> None:
    bare = JPEG[:2] + JPEG[4 + int.from_bytes(JPEG[4:6]) :]
    for exif in _exifs():
        found = decode(bare[:2] + _segment(0xE1, exif) + bare[2:], spec())
        assert found.format == "JPEG"


@pytest.mark.parametrize(
    "between", [b"\0", b"\0\0\0", b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0", b"\0\xff\0", b"stray"]
)
def test_what_stands_between_two_segments_is_passed_over(between: bytes) -> None:
    second = 4 + int.from_bytes(JPEG[4:6])
    for place in (second, JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")):
        _same(JPEG[:place] + between + JPEG[place:], JPEG)
    if between[:1] in b"\0\xff":  # what a JPEG is, is seen by its first bytes
        _same(JPEG[:2] + between + JPEG[2:], JPEG)


JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "fine": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize(
    "end", [b"", b"\0\0", b"\xff", b"\0" * 5000, b"\n"], ids=["none", "zeros", "half", "pad", "line"]
)
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_whole(mode: str, options: dict[str, Any], end: bytes) -> None:
    for size in ((40, 30), (333, 200), (1200, 801)):
        file = encode(picture(*size, seed=1).convert(mode), "JPEG", **options)
        _same(file[:-2] + end, file)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_that_ends_in_its_pixels_stays_refused(options: dict[str, Any]) -> None:
    file = encode(picture(333, 200, seed=1), "JPEG", **options)
    start, chance = file.index(b"\xff\xda") + 14, random.Random(0)
    scans = [at for at in range(start, len(file)) if file[at : at + 2] in (b"\xff\xda", b"\xff\xc4", b"\xff\xd1")]
    for cut in [*scans, *(chance.randrange(start, len(file) - 40) for _ in range(40))]:
        for end in (b"", b"\0\0"):
            with pytest.raises(BrokenImage, match="ends in the middle of its pixels"):
                decode(file[:cut] + end, spec())


# --- GIF and WebP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension",
    [
        b"\xf9\1\0\0",
        b"\xf9\0",
        b"\xf9\3\1\0\0\0",
        b"\xf9\5\0\0\0\0\0\0",
        b"\xf9\4\0\0\0\0\4\0\0\0\0\0",
        b"\x99\3abc\0",
        b"\x99\0",
        b"\xff\0",
        b"\xff\x0bNETSCAPE2.0\0",
        b"\xff\x0bNETSCAPE2.0\1\1\0",
        b"\xff\3abc\0",
        b"\xfe\0",
        b"\xfe\xff" + b"c" * 255 + b"\0",
        b"\1\0",
        b"\1\x0c" + bytes(12) + b"\1x\0",
    ],
    ids=repr,
)
def test_no_extension_costs_a_gif(extension: bytes) -> None:
    """Graphic controls of 1, 0, 3, 5 and twice 4 bytes, unknown, application, comment and text extensions."""
    screen = 13 + (3 << (GIF[10] & 7) + 1)
    pixels = GIF.index(b"\x2c", screen)
    for place in (screen, pixels):
        _same(GIF[:place] + b"\x21" + extension + GIF[place:], GIF)
        _same(GIF[:place] + b"\0\x21" + extension + GIF[place:], GIF)
        _same(GIF[:place] + b"\x21" + extension + GIF[place:-1], GIF)


def test_the_clear_colour_of_a_gif_survives_a_short_control_behind_it() -> None:
    clear = encode(RGB.quantize(16), "GIF", transparency=3)
    pixels = clear.index(b"\x21\xf9\4") + 8
    assert difference(decode(clear, spec()), decode(encode(RGB.quantize(16), "GIF"), spec())) > 0
    _same(clear[:pixels] + b"\x21\xf9\1\0\0" + clear[pixels:], clear)


@pytest.mark.parametrize("comments", [b"\x21\xfe" + b"\1a" * 4_000_000 + b"\0", b"\x21\xfe\0" * 3_000_000])
def test_a_gif_of_comments_without_end_is_refused_at_once(comments: bytes) -> None:
    screen = 13 + (3 << (GIF[10] & 7) + 1)
    flood = GIF[:screen] + comments + GIF[screen:]
    started = time.thread_time()
    with pytest.raises(BrokenImage, match="65536 parts"):
        decode(flood, spec())
    assert time.thread_time() - started < 0.3


def _riff(*chunks: bytes) -> bytes:
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _part(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _odd_webps(pixels: bytes, alpha: int) -> dict[str, bytes]:
    def head(flags: int, width: int = 40) -> bytes:
        return _part(b"VP8X", struct.pack("<I", flags | alpha) + (width - 1).to_bytes(3, "little") + b"\x1d\0\0")

    whole = _riff(head(0), pixels)
    sizes = {f"size {size}": whole[:4] + struct.pack("<I", size) + whole[8:] for size in (0, 40, 100_000, 2**32 - 1)}
    return sizes | {
        "more behind": whole + b"more",
        "flags without their chunks": _riff(head(0x2C), pixels),
        "animation that is none": _riff(head(2), pixels),
        "reserved flags": _riff(head(0xFFFFFFC1), pixels),
        "canvas of another size": _riff(head(0, 41), pixels),
        "header twice": _riff(head(0), head(0), pixels),
        "unknown chunks": _riff(head(0), _part(b"abcd", b"123"), pixels, _part(b"abcd", b"")),
        "unknown chunk of no length": _riff(head(0), pixels) + b"abcd\xff\xff\xff\xff",
        "EXIF": _riff(head(8), pixels, _part(b"EXIF", b"\0\1junk"), _part(b"EXIF", b"MM\0*")),
        "EXIF that is cut": _riff(head(8), pixels) + b"EXIF\xff\0\0\0ab",
        "EXIF before the pixels": _riff(head(0), _part(b"EXIF", b"Exif\0\0II*\0"), pixels),
        "profile": _riff(head(0x20), _part(b"ICCP", b"nonsense"), pixels),
        "profile behind the pixels": _riff(head(0), pixels, _part(b"ICCP", b"")),
        "XMP": _riff(head(4), pixels, _part(b"XMP ", b'<x tiff:Orientation="6"')),
        "frames for no animation": _riff(head(0), _part(b"ANIM", bytes(6)), pixels),
        "no header": _riff(_part(b"abcd", b"12"), pixels, _part(b"EXIF", b"MM")),
    }


@pytest.mark.parametrize("case", _odd_webps(b"", 0))
@pytest.mark.parametrize("kind", ["lossy", "lossless", "alpha"])
def test_no_chunk_costs_a_webp(kind: str, case: str) -> None:
    shown = RGB.copy()
    if kind == "alpha":
        shown.putalpha(Image.linear_gradient("L").resize(RGB.size))
    plain = encode(shown, "WEBP", lossless=kind == "lossless")
    _same(_odd_webps(plain[30:] if kind == "alpha" else plain[12:], 0x10 * (kind == "alpha"))[case], plain)


def test_the_first_frame_of_an_animation_stays_whole_where_the_second_is_cut() -> None:
    moving = encode(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)], lossless=True)
    _same(moving[:-200], moving)
    assert difference(decode(moving, spec()), decode(PNG, spec())) == 0


# --- what a refusal says ------------------------------------------------------------------------------------------

SAYINGS = {
    "JPEG of 12 bits": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "12-bit"),
    "bitmap that holds a JPEG": (encode(RGB, "BMP")[:30] + b"\4" + encode(RGB, "BMP")[31:], "compression"),
    "bitmap of 2 bits": (encode(RGB, "BMP")[:28] + b"\2" + encode(RGB, "BMP")[29:], r"pixel depth \(2\)"),
    "PNG said to be interlaced": (
        PNG[:8]
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 1))
        + chunk(b"IDAT", zlib.compress(bytes(1 + 64 * 3) * 64))
        + chunk(b"IEND", b""),
        "pixels",
    ),
    "PNG without its header": (PNG[:8] + PNG[33:], "header"),
}


@pytest.mark.parametrize(("file", "words"), SAYINGS.values(), ids=SAYINGS)
def test_a_refusal_is_about_the_picture_and_not_about_objects(file: bytes, words: str) -> None:
    with pytest.raises(BrokenImage, match=words) as refusal:
        decode(file, spec())
    assert not any(word in str(refusal.value) for word in ("argument", "NoneType", "object", "index", "unpack"))


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
    _same(PNG[:33] + chunk(b"PLTE", bytes(size)) + PNG[33:], PNG)


@pytest.mark.parametrize("size", [0, 4])
def test_a_palette_without_whole_colours_is_refused(size: int) -> None:
    file = encode(RGB.quantize(16), "PNG")
    at = file.index(b"PLTE")
    length = int.from_bytes(file[at - 4 : at])
    with pytest.raises(BrokenImage, match="palette"):
        decode(file[: at - 4] + chunk(b"PLTE", bytes(size)) + file[at + 8 + length :], spec())
