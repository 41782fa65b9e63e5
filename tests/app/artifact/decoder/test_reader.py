"""A refusal is about the image."""

import struct
import zlib

import pytest

from app.artifact.decoder.decode import BrokenImage, decode
from tests.app.artifact.decoder.formats.plain_files import JPEG, PNG, RGB
from tests.images import chunk, encode, spec

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
def test_a_refusal_is_about_the_image_and_not_about_objects(file: bytes, words: str) -> None:
    with pytest.raises(BrokenImage, match=words) as refusal:
        decode(file, spec())
    assert not any(word in str(refusal.value) for word in ("argument", "NoneType", "object", "index", "unpack"))
