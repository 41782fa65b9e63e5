"""The only decoder: encoded bytes in, model pixels out; training, export and service all call it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder import icc_profile, reader
from app.artifact.decoder.colour_modes import check_deep, is_deep, on_white
from app.artifact.decoder.errors import BrokenImage, ImageError, TooManyPixels, UnsupportedImage
from app.artifact.decoder.geometry import TRANSPOSE, Box, Geometry, Size, margins, turned
from app.artifact.decoder.header import MAX_PIXELS, Header, inspect, read
from app.artifact.decoder.input_spec import InputSpec, Preview
from app.artifact.decoder.kind import ACCEPTED

__all__ = [
    "ACCEPTED",
    "MAX_PIXELS",
    "BrokenImage",
    "Decoded",
    "Geometry",
    "Header",
    "ImageError",
    "InputSpec",
    "Preview",
    "TooManyPixels",
    "UnsupportedImage",
    "decode",
    "inspect",
]

# What `fit = "pad"` lays around an image: the mean of ImageNet's images, 0.449 of 255, which says little either way
_PADDING = "#727272"
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Decoded(NamedTuple):
    """`pixels`: uint8[H, W, 3] RGB, of the model's input size or a preview's; `format`: Pillow's name of the type."""

    pixels: NDArray[np.uint8]
    geometry: Geometry
    format: str


def decode(data: bytes, header: Header | InputSpec | Preview, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode the first frame of `data`, whose header `inspect` has read; given what it is to become, inspect it here.

    Gives uint8[spec.height, spec.width, 3] RGB, or a preview. EXIF orientation is applied, transparency is laid on
    white, 16-bit grey is scaled to 8 bits. Large JPEGs are decoded at a reduced DCT scale that keeps at least twice
    the model's resolution.

    Raises UnsupportedImage, BrokenImage or TooManyPixels, all ImageError; DecoderLost; Stopped.
    """
    if not isinstance(header, Header):
        header = inspect(data, header, max_pixels)
    if header.confined:
        said, pixels = header.confined.pixels()
        return Decoded(pixels, Geometry(*said["geometry"]), said["kind"])
    if header.mode:
        # Straight to libjpeg: Pillow's file object reads the markers in Python, which takes as long as 32 x 32 pixels.
        size = math.ceil(header.size[0] / header.scale), math.ceil(header.size[1] / header.scale)
        try:
            image = Image.frombytes(header.mode, size, data, "jpeg", header.mode, "", header.scale, 0)
            return _finish(image, header, 1)
        except (OSError, ValueError):
            header = read(data, header.spec)  # what fails here fails again below, with Pillow's own words for it
    kind, content, stop = header.kind, header.content, header.stop
    with reader.in_words(kind, data), header.image or reader.open_image(kind, content, stop) as image:
        if is_deep(image):
            check_deep(image, lambda: reader.open_image(kind, content, stop))
        if header.cut:
            reader.check_end(content)
        return _finish(on_white(image), header, header.orientation)


def _finish(image: Image.Image, header: Header, orientation: int) -> Decoded:
    """What was stored with `header.size`, of which `image` is the `scale`-th part, as it is wanted."""
    spec = header.spec
    width, height = turned(header.size, orientation)
    if isinstance(spec, Preview):
        small = image.resize(spec.size_of(header.size), Image.Resampling.BICUBIC)
        geometry = Geometry(width, height, 0, 0, width, height)
    else:
        # turning the small image is the same as turning the large one, because the box is centred
        box, size = spec.box(header.size, orientation), turned((spec.width, spec.height), orientation)
        small = _resized(image, size, box, header.scale, spec)
        geometry = Geometry(width, height, *(box if orientation == 1 else spec.box((width, height))))
    small = icc_profile.in_srgb(small)
    pixels = np.array(small.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else small)
    return Decoded(pixels, geometry, header.kind)


def _resized(image: Image.Image, size: Size, box: Box, scale: int, spec: InputSpec) -> Image.Image:
    """What is inside of `box`, which is of an image `scale` times as large, and padding where that is outside."""
    left, top, right, bottom = box
    if spec.fit == "pad" and (margin := margins(box, size)) != (0, 0):
        inside = max(0.0, left), max(0.0, top), right + min(0.0, left), bottom + min(0.0, top)
        shown = size[0] - 2 * margin[0], size[1] - 2 * margin[1]
        small = icc_profile.in_srgb(_resized(image, shown, inside, scale, spec))  # or the padding is of its colours
        padded = Image.new(small.mode, size, _PADDING)
        padded.paste(small, margin)
        return padded
    # the edges, against rounding beyond them
    width, height = image.size
    reduced = max(0.0, left / scale), max(0.0, top / scale), min(right / scale, width), min(bottom / scale, height)
    if size == (width, height) and reduced == (0, 0, width, height):
        return image
    return image.resize(size, _RESAMPLING[spec.interpolation], box=reduced)
