"""What is odd beside a GIF's pixels costs no image."""

import time

import pytest

from app.artifact.decoder.decode import BrokenImage, decode
from tests.app.artifact.decoder.formats.plain_files import GIF, RGB, same
from tests.images import difference, encode, spec


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
        same(GIF[:place] + b"\x21" + extension + GIF[place:], GIF)
        same(GIF[:place] + b"\0\x21" + extension + GIF[place:], GIF)
        same(GIF[:place] + b"\x21" + extension + GIF[place:-1], GIF)


def test_the_clear_colour_of_a_gif_survives_a_short_control_behind_it() -> None:
    clear = encode(RGB.quantize(16), "GIF", transparency=3)
    pixels = clear.index(b"\x21\xf9\4") + 8
    assert difference(decode(clear, spec()), decode(encode(RGB.quantize(16), "GIF"), spec())) > 0
    same(clear[:pixels] + b"\x21\xf9\1\0\0" + clear[pixels:], clear)


@pytest.mark.parametrize("comments", [b"\x21\xfe" + b"\1a" * 4_000_000 + b"\0", b"\x21\xfe\0" * 3_000_000])
def test_a_gif_of_comments_without_end_is_refused_at_once(comments: bytes) -> None:
    screen = 13 + (3 << (GIF[10] & 7) + 1)
    flood = GIF[:screen] + comments + GIF[screen:]
    started = time.thread_time()
    with pytest.raises(BrokenImage, match="65536 parts"):
        decode(flood, spec())
    assert time.thread_time() - started < 0.3
