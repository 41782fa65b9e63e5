"""What it takes to decode an image, before it is done."""

import math

from PIL import Image, ImageFile, TiffImagePlugin

from app.artifact.decoder.colour_modes import is_deep
from app.artifact.decoder.errors import BrokenImage
from app.artifact.decoder.geometry import Size
from app.artifact.decoder.input_spec import InputSpec, Preview

WEBP_BYTES = 22  # a pixel: two canvases, the decoder's image and Pillow's, and the transparency's
JPEG_BYTES = 8  # a pixel that the decoder gives
_RESIZED_BYTES = 4  # a pixel, of what is resized in one direction, and then in the other
_ROW_BYTES, _COLUMN_BYTES = 64, 128
_BLOCK = 32  # pixels: the largest block that shares its samples, of which JPEG keeps whole ones
_WEIGHT_BYTES = 32  # a row or column: bicubic's doubles, whatever size it is resized to


def lines(size: Size, scale: int = 1) -> int:
    """What goes by rows and columns and not by pixels: a pointer for each row of each image that is made on the way,
    rows filled up to four bytes, libjpeg's rows of blocks. One pixel wide, an image takes more for these."""
    return (_ROW_BYTES * size[1] + _COLUMN_BYTES * size[0]) // scale


def resizing(spec: InputSpec | Preview, size: Size, scale: int) -> int:
    """What is between an image of `size`, decoded to the `scale`-th part, and the pixels that are wanted: Pillow
    resizes in one direction and then in the other, with weights for each row and column. Of what is cropped to the
    model's shape that is little; an image that is a pixel wide, and not cropped, takes more than its own pixels.
    """
    if isinstance(spec, InputSpec) and spec.fit == "crop":
        return 0
    longest = max(size)
    side = min(spec.longest_side, longest) if isinstance(spec, Preview) else max(spec.width, spec.height)
    return (_RESIZED_BYTES * side + 2 * _WEIGHT_BYTES) * longest // scale


def tile_pixels(image: Image.Image) -> int:
    """A TIFF's tiles are decoded whole: one of 16384 x 16384 took 770 MB, for an image of 64 x 48."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    sides = [image.tag_v2.get(tag, 0) for tag in (322, 323)]
    # of another type Pillow makes something else, and libtiff a tile
    if not all(isinstance(side, int) for side in sides):
        raise BrokenImage("the TIFF file's tiles have no size")
    return math.prod(sides)


def bytes_per_pixel(image: ImageFile.ImageFile, size: Size, scale: int, scans: list[int]) -> float:
    """What Pillow and `on_white` take at most per pixel of the file; measured on 30 MP of each kind (peak of RSS).

    `size`: as stored. `scans`: of a JPEG, see jpeg.scans.
    """
    if image.format == "JPEG":
        # several scans, or one without every component: libjpeg keeps the whole image's coefficients, 16 bits each,
        # at any scale
        bands = len(image.getbands())
        kept = scans != [bands] or bool(image.info.get("progressive"))
        whole = math.prod(-(-side // _BLOCK) * _BLOCK for side in size) / math.prod(size)
        return kept * 2 * bands * whole + JPEG_BYTES / scale**2
    library = 8 if image.format == "TIFF" else 0  # a strip can be the whole image, with 16 bits a value
    library += 8 if is_deep(image) else 0  # where they are dark or one is clear, their low bytes as well
    if image.has_transparency_data:
        return 14 + library
    return {"RGB": 5, "L": 2}.get(image.mode, 9) + library
