"""Every colour mode that a file can have -> 8 bits, as one sees it on white paper."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from app.artifact import profile, tiff
from app.artifact.header import BrokenImage

SIGNIFICANT_BITS = "significant_bits"  # in `info`: of a value of 16 bits, where the file says so
# Colours are mixed in sRGB, as a viewer does it, where to convert each pixel takes at most 45 ms.
_CONVERTED_WHOLE = 2**20
_MOST_FEW = 14  # bits that a sensor has, and writes into 16 as they are
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B"}  # Pillow's names of byte orders; N is little-endian on what we run on


def on_white(file: Image.Image) -> Image.Image:
    """The whole picture as RGB, grey or CIELab, or as CMYK where its profile says which, on white; without a copy where
    it is that already: at 64 MP, 250 MB each.

    A small one in sRGB; the `info` of a large one keeps the profile, for profile.in_srgb to convert what is left of it.
    """
    white = _on_white(file)
    small = white.width * white.height <= _CONVERTED_WHOLE
    return profile.in_srgb(white) if small and profile.applies(white) else white


def _on_white(file: Image.Image) -> Image.Image:
    image = file
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255 instead of scaling
        return _eight_bits(image)
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # an unused byte: nobody saves a picture of which nothing is to be seen
    if image.has_transparency_data:
        # before resizing: bicubic overshoot of colours and of alpha, each clipped, do not make the overshoot of both
        image = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        return _flat(image, isinstance(file, TiffImageFile) and tiff.is_premultiplied(file))
    if image.mode in ("RGB", "L", "LAB") or (image.mode == "CMYK" and profile.applies(image)):
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
    bits = said if said >= 8 and highest < 2**said else 16
    if bits == 16 and said <= _MOST_FEW and highest < 2**_MOST_FEW:
        _refuse_few_bits(deep >> 8, deep & 255)
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
    return image.mode in ("RGB", "RGBA") and ";16" in _rawmode(image)


def check_deep(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> None:
    """Load colours of 16 bits, of which Pillow gives the high bytes. `again` opens the same file.

    Raises BrokenImage where the values have fewer bits.
    """
    rawmode = _rawmode(image)
    grey = rawmode.startswith("LA")

    def bytes_of_values() -> tuple[NDArray[Any], NDArray[Any]]:
        if isinstance(image, TiffImageFile) and tiff.is_planar(image):  # the order of whose bytes is libtiff's affair
            high = np.asarray(image)[..., :3]
            return high, np.full_like(high, 255 * high.any())
        low = again()
        # a pixel of grey and alpha has the bytes of one of RGBA: the second is grey's low one
        other = "RGBA" if grey else rawmode[:-1] + _OTHER_BYTE[rawmode[-1]]
        tile = low.tile[0]
        low.tile = [tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)]
        bands = slice(1, 2) if grey else slice(3)
        return np.asarray(image)[..., bands], np.asarray(low)[..., bands]

    image.load()
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        high, low = bytes_of_values()
        seen = (high * np.uint16(256) + low != clear).any(axis=2)
        image.putalpha(Image.fromarray(seen.astype(np.uint8) * 255))
        del image.info["transparency"]
    highest = max(image.getchannel(band).getextrema()[1] for band in range(3))
    if highest < 2 ** (_MOST_FEW - 8):
        _refuse_few_bits(*bytes_of_values())


def _rawmode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args if image.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _refuse_few_bits(high: NDArray[Any], low: NDArray[Any]) -> None:
    """Nearly black to whoever takes 16 bits for 16 bits, and nothing says what they are: the scale of one picture
    would be another's. What was made from 8 bits has the same high and low bytes, or no low bytes, however dark."""
    if (high == low).all() or (high.any() and not low.any()):
        return
    highest = int((high * np.uint16(256) + low).max())
    raise BrokenImage(
        f"the values of 16 bits end at {highest}, as of {max(8, highest.bit_length())} bits, and the file does not say "
        "how many they have; scale them to 16 bits, or save the picture with 8"
    )
