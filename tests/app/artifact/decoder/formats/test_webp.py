"""What is odd beside a WebP's pixels costs no image."""

import struct

import pytest
from PIL import Image

from app.artifact.decoder.decode import decode
from tests.app.artifact.decoder.formats.plain_files import PNG, RGB, same
from tests.images import difference, encode, spec


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
    same(_odd_webps(plain[30:] if kind == "alpha" else plain[12:], 0x10 * (kind == "alpha"))[case], plain)


def test_the_first_frame_of_an_animation_stays_whole_where_the_second_is_cut() -> None:
    moving = encode(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)], lossless=True)
    same(moving[:-200], moving)
    assert difference(decode(moving, spec()), decode(PNG, spec())) == 0
