"""What is odd beside a JPEG's pixels costs no image; pixels that are cut are refused."""

import itertools
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from app.artifact.decoder.decode import BrokenImage, decode
from tests.app.artifact.decoder.formats.plain_files import JPEG, PROGRESSIVE, RGB, same
from tests.images import drawing, encode, spec


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
        same(plain[:2] + odd + plain[2:], plain)
        same(bare[:2] + odd + _segment(0xE1, EXIF) + bare[2:], plain)


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
        same(JPEG[:place] + between + JPEG[place:], JPEG)
    if between[:1] in b"\0\xff":  # what a JPEG is, is seen by its first bytes
        same(JPEG[:2] + between + JPEG[2:], JPEG)


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
        file = encode(drawing(*size, seed=1).convert(mode), "JPEG", **options)
        same(file[:-2] + end, file)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_that_ends_in_its_pixels_stays_refused(options: dict[str, Any]) -> None:
    file = encode(drawing(333, 200, seed=1), "JPEG", **options)
    start, chance = file.index(b"\xff\xda") + 14, random.Random(0)
    scans = [at for at in range(start, len(file)) if file[at : at + 2] in (b"\xff\xda", b"\xff\xc4", b"\xff\xd1")]
    for cut in [*scans, *(chance.randrange(start, len(file) - 40) for _ in range(40))]:
        for end in (b"", b"\0\0"):
            with pytest.raises(BrokenImage, match="ends in the middle of its pixels"):
                decode(file[:cut] + end, spec())
