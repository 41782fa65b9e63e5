"""Every colour mode that a file can have -> 8 bits, as one sees it on white paper."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from app.artifact.decoder import icc_profile
from app.artifact.decoder.errors import BrokenImage
from app.artifact.decoder.formats import tiff

SIGNIFICANT_BITS = "significant_bits"  # in `info`: of a value of 16 bits, where the file says so
# Colours are mixed in sRGB, as a viewer does it, where to convert each pixel takes at most 45 ms.
_CONVERTED_WHOLE = 2**20
_STRIP_PIXELS = 2**18
Values = NDArray[Any]
_MOST_FEW = 14  # bits that a sensor has, and writes into 16 as they are
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B"}  # Pillow's names of byte orders; N is little-endian on what we run on


def on_white(file: Image.Image) -> Image.Image:
    """The whole image as RGB, grey or CIELab, or as CMYK where its profile says which, on white; without a copy where
    it is that already: at 64 MP, 250 MB each.

    A small one in sRGB; the `info` of a large one keeps the profile, for profile.in_srgb to convert what is left of it.
    """
    white = _on_white(file)
    small = white.width * white.height <= _CONVERTED_WHOLE
    return icc_profile.in_srgb(white) if small and icc_profile.applies(white) else white


def _on_white(file: Image.Image) -> Image.Image:
    image = file
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255 instead of scaling
        return _eight_bits(image)
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # an unused byte: nobody saves an image of which nothing is to be seen
    if image.has_transparency_data:
        # before resizing: bicubic overshoot of colours and of alpha, each clipped, do not make the overshoot of both
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        return _flat(image, isinstance(file, TiffImageFile) and tiff.is_premultiplied(file))
    if image.mode in ("RGB", "L", "LAB") or (image.mode == "CMYK" and icc_profile.applies(image)):
        return image
    return image.convert("RGB")


def _flat(image: Image.Image, premultiplied: bool) -> Image.Image:
    """LA or RGBA on white, as L or RGB."""
    mode, alpha = "L" if image.mode == "LA" else "RGB", image.getchannel("A")
    if premultiplied:
        rest = ImageOps.invert(alpha)
        white = ImageChops.add(image.convert(mode), Image.merge(mode, [rest] * len(mode)))
    else:
        white = Image.new(mode, image.size, "white")
        white.paste(image, mask=alpha)
    white.info = image.info
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey by its high byte, grey of fewer bits by its highest eight; a grey value that the file declares
    transparent is white."""
    deep = np.asarray(image)
    said = tiff.grey_bits(image) % 16 if isinstance(image, TiffImageFile) else image.info.get(SIGNIFICANT_BITS, 0)
    highest = int(deep.max())
    low = deep & ((1 << 16 - said) - 1)
    # values of `said` bits that fill 16 as a PNG's should: shifted, with zeros or their highest bits below
    scaled = 8 <= said < 16 and (not low.any() or bool((low == deep >> said).all()))
    bits = said if said >= 8 and highest < 2**said and not scaled else 16
    if bits == 16 and said <= _MOST_FEW and highest < 2**_MOST_FEW and not scaled:
        _refuse_few_bits([(deep >> 8, deep & 255)])
    grey = (deep >> (bits - 8)).astype(np.uint8)
    if isinstance(image, TiffImageFile) and tiff.is_inverse(image):
        grey = 255 - grey
    if isinstance(clear := image.info.get("transparency"), int):
        grey[deep == clear] = 255
    made = Image.fromarray(grey)
    made.info = image.info
    return made


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether it has colours of 16 bits, before it is loaded."""
    return image.mode in ("RGB", "RGBA", "CMYK") and ";16" in _rawmode(image)


def check_deep(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> None:
    """Load colours of 16 bits, of which Pillow gives the high bytes. `again` opens the same file.

    Raises BrokenImage where the values have fewer bits.
    """
    image.load()
    clear = image.info.get("transparency")
    highest = max(image.getchannel(band).getextrema()[1] for band in range(3))
    if not isinstance(clear, tuple) and highest >= 2 ** (_MOST_FEW - 8):
        return
    low = None if isinstance(image, TiffImageFile) and tiff.is_planar(image) else _low_bytes(again())
    if isinstance(clear, tuple) and low:
        alpha = Image.new("L", image.size)
        for box, high, rest in _strips(image, low):
            seen = (high * np.uint16(256) + rest != clear).any(axis=2)
            alpha.paste(Image.fromarray(seen.astype(np.uint8) * 255), box)
        image.putalpha(alpha)
        del image.info["transparency"]
    if highest < 2 ** (_MOST_FEW - 8):
        _refuse_few_bits((high, rest) for _, high, rest in _strips(image, low))


def _low_bytes(image: ImageFile.ImageFile) -> Image.Image:
    """The low bytes of colours where Pillow gives the high ones: those of the other byte order."""
    rawmode, tile = _rawmode(image), image.tile[0]
    # a pixel of grey and alpha has the bytes of one of RGBA: the second is grey's low one
    grey = rawmode.startswith("LA")
    other = "RGBA" if grey else rawmode[:-1] + _OTHER_BYTE[rawmode[-1]]
    image.tile = [tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)]
    return Image.merge("RGB", [image.getchannel("G")] * 3) if grey else image


def _strips(image: Image.Image, low: Image.Image | None) -> Iterator[tuple[tuple[int, int, int, int], Values, Values]]:
    """Box, high bytes and low bytes, a few rows at a time; without low ones those that make the values odd."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        high = np.asarray(image.crop(box))[..., :3]
        yield box, high, np.asarray(low.crop(box))[..., :3] if low else np.full_like(high, 255 * high.any())


def _rawmode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args if image.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _refuse_few_bits(parts: Iterable[tuple[Values, Values]]) -> None:
    """`parts` are high and low bytes. Such an image is nearly black to whoever takes 16 bits for 16 bits, and nothing
    says what they are: the scale of one image would be another's. What was made from 8 bits has the same high and low
    bytes, or no low bytes, however dark."""
    same, highs, lows, highest = True, False, False, 0
    for high, low in parts:
        same = same and bool((high == low).all())
        highs, lows = highs or bool(high.any()), lows or bool(low.any())
        highest = max(highest, int((high * np.uint16(256) + low).max()))
    if same or (highs and not lows):
        return
    raise BrokenImage(
        f"the values of 16 bits end at {highest}, as of {max(8, highest.bit_length())} bits, and which is white nobody "
        "says; scale them to 16 bits, or save the image with 8"
    )
