"""What the first bytes of a file tell: its kind, its scans and segments, and whether it is decoded at once."""

import struct
import warnings
import zlib

import pytest

from app.artifact.decoder import header
from app.artifact.decoder.decode import BrokenImage, UnsupportedImage, decode
from tests.images import difference, drawing, encode, spec


@pytest.mark.parametrize("kind", ["AVIF", "ICO", "PDF", "PPM", "JPEG2000", "TGA"])
def test_what_pillow_could_read_but_is_not_accepted_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImage):
        decode(encode(drawing(), kind), spec())


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM" + bytes(12) + b"\x28",
        b"II*\x00",
        b"MM\x00*",
        b"RIFF....WEBP",
    ],
)
def test_a_bare_signature_is_broken(header: bytes) -> None:
    with pytest.raises(BrokenImage), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        decode(header, spec())


@pytest.mark.parametrize("text", [b"BM", b"BMW", b"BM is how it begins"])
def test_a_text_that_begins_like_a_bitmap_is_none(text: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decode(text, spec())


def test_a_jpeg_of_a_thousand_scans_is_refused_for_each_passes_over_every_pixel() -> None:
    """At 64 MP a scan of 95 bytes costs 40 ms: an upload of 10 MB would keep a core busy for an hour."""
    file = encode(drawing(64, 48), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    assert decode(file, spec()).format == "JPEG"
    assert 2 <= file.count(b"\xff\xda") <= 20
    with pytest.raises(BrokenImage):
        decode(file[:-2] + file[last:-2] * 1000 + file[-2:], spec())


def test_what_looks_like_scans_in_a_photos_metadata_does_not_count() -> None:
    plain = encode(drawing(64, 48), "JPEG")
    metadata = b"\xff\xda" * 30_000
    annotated = plain[:2] + b"\xff\xed" + struct.pack(">H", len(metadata) + 2) + metadata + plain[2:]
    assert difference(decode(annotated, spec()), decode(plain, spec())) == 0


def test_a_jpeg_of_thousands_of_segments_is_refused() -> None:
    plain = encode(drawing(), "JPEG")
    segment = b"\xff\xe5\x00\x02"
    assert decode(plain[:2] + segment * 900 + plain[2:], spec()).format == "JPEG"
    with pytest.raises(BrokenImage, match="segments"):
        decode(plain[:2] + segment * 16_000 + plain[2:], spec())


def _chunks(count: int, kind: bytes = b"prVt") -> bytes:
    chunk = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    plain = encode(drawing(), "PNG")
    return plain[:33] + chunk * count + plain[33:]


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        (encode(drawing(), "JPEG"), True),
        (encode(drawing(), "PNG"), True),
        (encode(drawing(), "JPEG", orientation=6), True),
        (_chunks(20), True),
        (_chunks(5000), False),
        (_chunks(1, b"iTXt"), False),
        (_chunks(1, b"eXIf"), False),
        (encode(drawing(), "JPEG", progressive=True), False),
        (encode(drawing(), "JPEG")[:2] + b"\xff\xe1\x20\x02" + bytes(8192) + encode(drawing(), "JPEG")[2:], False),
        (encode(drawing(), "JPEG")[:2] + b"\xff\xe5\x00\x02" * 100 + encode(drawing(), "JPEG")[2:], False),
        (encode(drawing(), "JPEG", icc_profile=b"x" * 200), False),
        (encode(drawing(), "BMP"), False),
        (encode(drawing(), "GIF"), False),
        (encode(drawing(), "TIFF"), False),
        (encode(drawing(), "WEBP"), False),
        (b"\x89PNG\r\n\x1a\n", True),  # quickly refused
        (b"", False),
    ],
)
def test_what_a_small_file_costs_is_known_before_it_is_decoded(data: bytes, quick: bool) -> None:
    try:
        found = header.inspect_quickly(data, spec(), header.MAX_PIXELS, small=True)
    except header.ImageError:
        assert quick
    else:
        assert (found is not None) is quick
