"""The decoder: a damaged file becomes pixels or a refusal in words, and nothing else."""

import random
import warnings

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import BrokenImage, Decoded, ImageError, TooManyPixels, UnsupportedImage, decode
from tests.images import FORMATS, chunk, drawing, encode, spec


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_broken_and_the_sentence_names_the_format(kind: str, share: float) -> None:
    file = encode(drawing(), kind)
    with pytest.raises(BrokenImage) as refusal:
        decode(file[: int(len(file) * share)], spec())
    assert kind in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "object at 0x" not in str(refusal.value)  # Python's name of a buffer tells a client nothing


def _seeds() -> list[bytes]:
    """Valid files of every format and of many modes, compressions and layouts."""
    rgb = drawing(40, 30)
    palette, grey = rgb.quantize(16), rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(128)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    two = {"save_all": True, "append_images": [rgb.rotate(90)]}
    files = [encode(rgb, "JPEG", orientation) for orientation in (1, 6)]
    files += [encode(rgb, "JPEG", progressive=True), encode(grey, "JPEG"), encode(rgb.convert("CMYK"), "JPEG")]
    files += [encode(drawing(300, 200), "JPEG", 5), encode(rgb, "MPO", **two)]
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
        parts.append(chunk(file[place + 4 : place + 8], file[place + 8 : place + 8 + size]))
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
