"""The only decoder: encoded bytes in, model pixels out; training, export and service all call it."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from app.artifact.decoder import header, icc_profile, memory_cost, reader
from app.artifact.decoder.colour_modes import check_deep, is_deep, on_white
from app.artifact.decoder.formats import jpeg
from app.artifact.decoder.geometry import TRANSPOSE, Box, Fit, Geometry, Size, centre, margins, turned
from app.artifact.decoder.header import ACCEPTED, BrokenImage, ImageError, PlainJpeg, UnsupportedImage

__all__ = [
    "ACCEPTED",
    "MAX_PIXELS",
    "BrokenImage",
    "Claim",
    "Decoded",
    "Geometry",
    "ImageError",
    "InputSpec",
    "TooManyPixels",
    "UnsupportedImage",
    "decode",
    "decode_quick",
    "display",
]

MAX_PIXELS = 178_956_970  # 512 MiB as RGB; the service sets a lower limit
# Pillow's own guard warns at half of that and its refusal names no sizes; `decode` checks every header itself.
Image.MAX_IMAGE_PIXELS = None
_ORIENTATION_TAG = 0x0112
# What `fit = "pad"` lays around an image: the mean of ImageNet's images, 0.449 of 255, which says little either way
_PADDING = "#727272"
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Positive = Annotated[float, Field(gt=0)]


class InputSpec(BaseModel):
    """What the network expects of an image. `decode` does the geometry, the exported graph the rest.

    `fit` brings the image as displayed to the model's aspect ratio: `crop` cuts off what sticks out, centred;
    `squash` changes its shape; `pad` lays grey, 114 of 255, around it. The middle `crop_fraction` of that is kept (the
    usual "shorter side to 256, centre 224" is 0.875) and resized to `width` x `height` with antialiasing. `mean` and
    `std` are per channel, in units of 0..1. One-channel networks see Rec. 601 luma.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: Annotated[int, Field(ge=1, le=4096)]
    height: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    # left out where it says what all artifacts did before there was a choice: their digests and contracts stay
    fit: Annotated[Fit, Field(exclude_if=lambda fit: fit == "crop")] = "crop"


class Decoded(NamedTuple):
    """`pixels`: uint8[H, W, 3] RGB at the model's input size; `format`: Pillow's name of the file type."""

    pixels: NDArray[np.uint8]
    geometry: Geometry
    format: str


class TooManyPixels(ImageError):
    """The header announces more pixels than the limit; nothing was decoded."""


_RESIZED_BYTES = 4  # a pixel, of what is resized in one direction, and then in the other
_T = TypeVar("_T")
Claim = Callable[[int], AbstractContextManager[object]]


def decode(
    data: bytes,
    spec: InputSpec,
    max_pixels: int = MAX_PIXELS,
    claim: Claim = nullcontext,
) -> Decoded:
    """Decode the first frame of `data` to uint8[spec.height, spec.width, 3] RGB.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits. Large JPEGs are
    decoded at a reduced DCT scale that keeps at least twice the model's resolution. `claim` is entered with the bytes
    that decoding takes at most, for as long as it takes them.

    Raises UnsupportedImage, BrokenImage or TooManyPixels, all ImageError.
    """
    return _decode_any(data, header.plain_jpeg(data), spec, max_pixels, claim)


def decode_quick(data: bytes, spec: InputSpec, max_pixels: int, most_bytes: int) -> Decoded | None:
    """As `decode`, but None, and nothing decoded, where that takes more memory or a time that the size does not tell.

    See `header.is_quick`.
    """
    plain = header.plain_jpeg(data)
    if not plain and not header.is_quick(data):
        return None

    def claim(needed: int) -> AbstractContextManager[None]:
        if needed > most_bytes:
            raise _NotQuick
        return nullcontext()

    with suppress(_NotQuick):
        return _decode_any(data, plain, spec, max_pixels, claim)
    return None


class _NotQuick(Exception):
    """The header announces more than is decoded at once."""


def _decode_any(data: bytes, plain: PlainJpeg | None, spec: InputSpec, max_pixels: int, claim: Claim) -> Decoded:
    if plain:
        # what fails here fails again below, with Pillow's own words for it
        with suppress(OSError, ValueError):
            return _decode_plain(data, plain, spec, max_pixels, claim)
    return _read(
        data,
        max_pixels,
        claim,
        lambda image: _reduce(image, spec),
        lambda image, stored, scale: _decode(image, stored, spec, scale),
    )


def display(
    data: bytes, longest_side: int, max_pixels: int = MAX_PIXELS, claim: Claim = nullcontext
) -> NDArray[np.uint8]:
    """The image as displayed, for people to look at: uint8[h, w, 3] RGB, no side longer than `longest_side`.

    Colours, limits, claims and errors are `decode`'s; h and w are those of its geometry, reduced and never enlarged.
    """
    return _read(
        data,
        max_pixels,
        claim,
        lambda image: _draft(image, max(image.size) / longest_side),
        lambda image, stored, _scale: _display(image, stored, longest_side),
        longest_side,
    )


def _read(
    data: bytes,
    max_pixels: int,
    claim: Claim,
    reduce: Callable[[Image.Image], int],
    finish: Callable[[Image.Image, Size, int], _T],
    longest_side: int = 0,
) -> _T:
    """What `finish` makes of the opened file, of its stored size and of what its sides are divided by, if `reduce` has
    so asked; `longest_side` of what is made, where that is not small."""
    kind = header.kind_of(data)
    sent = data
    try:
        data = reader.needed(kind, sent)
        scans = header.scans(data) if kind == "JPEG" else []
        cut = kind == "JPEG" and not jpeg.is_ended(data)
        # Pillow makes a WebP's canvases while it opens it: 38 bytes of file took 66 MB before anybody had seen its size
        copied = 0 if data is sent else len(data)
        canvases = len(data) + copied + header.webp_pixels(data) * memory_cost.WEBP_BYTES if kind == "WEBP" else 0
        opening = claim(canvases) if canvases else nullcontext()
        with opening, reader.opened(kind, data + jpeg.END * cut) as image:
            width, height = image.size
            pixels = max(width * height, memory_cost.tile_pixels(image))
            if pixels > max_pixels:
                raise TooManyPixels(
                    f"{width} x {height} pixels = {width * height / 1e6:.1f} MP; the limit is {max_pixels / 1e6:g} MP"
                )
            scale = reduce(image)
            made = _RESIZED_BYTES * min(longest_side, max(width, height)) * (max(width, height) // scale)
            needed = made + pixels * memory_cost.bytes_per_pixel(image, scale, scans) + copied
            if cut:
                needed += 2 * (pixels * memory_cost.bytes_per_pixel(image, 1, scans) + len(data))
            with nullcontext() if canvases else claim(int(needed)):
                if is_deep(image):
                    check_deep(image, lambda: reader.opened(kind, data))
                if cut:
                    reader.check_end(data)
                return finish(image, (width, height), scale)
    except BrokenImage:
        header.refuse_text(sent)
        raise
    except ImageError:  # a ValueError, as some damage is
        raise
    except reader.DAMAGE as error:
        header.refuse_text(sent)
        raise reader.broken(kind, error) from error


def _decode_plain(data: bytes, plain: PlainJpeg, spec: InputSpec, max_pixels: int, claim: Claim) -> Decoded:
    """Straight to libjpeg. Pillow's file object reads the markers in Python, which takes as long as 32 x 32 pixels."""
    mode, width, height = plain
    if width * height > max_pixels:
        raise ValueError
    target = spec.width, spec.height
    box = centre((width, height), target, spec.crop_fraction, spec.fit)
    scale = _divisor((width, height), _most(box, target))
    size = math.ceil(width / scale), math.ceil(height / scale)
    with claim(int(width * height * memory_cost.JPEG_BYTES / scale**2)):
        image = Image.frombytes(mode, size, data, "jpeg", mode, "", scale, 0)
        pixels = _upright(_resized(image, target, box, scale, spec), 1)
    return Decoded(pixels, Geometry(width, height, *box), "JPEG")


def _decode(image: Image.Image, stored: Size, spec: InputSpec, scale: int) -> Decoded:
    """`stored` is the width and height in the file, of which the decoder gives the `scale`-th part."""
    orientation = _orientation(image)
    size = turned((spec.width, spec.height), orientation)
    box = centre(stored, size, spec.crop_fraction, spec.fit)
    width, height = turned(stored, orientation)
    shown = centre((width, height), (spec.width, spec.height), spec.crop_fraction, spec.fit)
    small = _resized(on_white(image), size, box, scale, spec)
    # turning the small image is the same as turning the large one, because the box is centred
    return Decoded(_upright(small, orientation), Geometry(width, height, *shown), image.format or "JPEG")


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


def _display(image: Image.Image, stored: Size, longest_side: int) -> NDArray[np.uint8]:
    share = min(1.0, longest_side / max(stored))
    size = max(1, round(stored[0] * share)), max(1, round(stored[1] * share))
    orientation = _orientation(image)
    return _upright(on_white(image).resize(size, Image.Resampling.BICUBIC), orientation)


def _upright(small: Image.Image, orientation: int) -> NDArray[np.uint8]:
    small = icc_profile.in_srgb(small)
    return np.array(small.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else small)


def _orientation(image: Image.Image) -> int:
    """1..8. A damaged EXIF block does not make a good image bad. Of a PNG it loads the pixels: it may come last."""
    # a plain JPEG's pixels, without a file, have none; a TIFF's own tag Pillow applies while loading
    if image.format in (None, "TIFF"):
        return 1
    if image.format == "PNG":
        image.load()  # or getexif does, and damaged pixels would be passed over with damaged EXIF: black, and no error
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except reader.DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _reduce(image: Image.Image, spec: InputSpec) -> int:
    """Ask a JPEG for a smaller decode while twice the target stays; answers the divisor: 1, 2, 4 or 8."""
    if image.format != "JPEG":
        return 1
    target = turned((spec.width, spec.height), _orientation(image))
    return _draft(image, _most(centre(image.size, target, spec.crop_fraction, spec.fit), target))


def _most(box: Box, target: Size) -> float:
    """By how much an image may be decoded smaller while twice the target stays of what is inside of `box`."""
    left, top, right, bottom = box
    return min((right - left) / target[0], (bottom - top) / target[1]) / 2


def _divisor(size: Size, most: float) -> int:
    """What libjpeg can divide sides by, up to `most`: 1, 2, 4 or 8."""
    return next((d for d in (8, 4, 2) if min(most, *size) >= d), 1)


def _draft(image: Image.Image, most: float) -> int:
    """Ask a JPEG for its `most`-th part, or the next larger that there is; answers the divisor: 1, 2, 4 or 8."""
    divisor = _divisor(image.size, most) if image.format == "JPEG" else 1
    width, height = image.size
    drafted = divisor > 1 and image.draft(None, (width // divisor, height // divisor))
    return divisor if drafted else 1
