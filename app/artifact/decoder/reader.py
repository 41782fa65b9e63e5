"""Files as Pillow opens them: with what decoding needs of them, and refused in words that are about the image."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.artifact.decoder import colour_modes
from app.artifact.decoder.errors import BrokenImage, ImageError, UnsupportedImage
from app.artifact.decoder.formats import bmp, gif, jpeg, png, tiff, webp
from app.artifact.decoder.geometry import Size
from app.artifact.decoder.kind import ACCEPTED, refuse_text
from app.artifact.decoder.stop import Source, Stop

# Pillow's own guard warns at half of MAX_PIXELS and its refusal names no sizes; `inspect` checks every header itself.
Image.MAX_IMAGE_PIXELS = None

# What Pillow's plugins raise on damaged files: the first row by fuzzing (tests/app), the second by reading them.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, AssertionError),
    *(EOFError, IndexError, KeyError, OverflowError, struct.error, zlib.error),
)
# Image.open would say of each that it cannot identify the file, and keep the reason to itself.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": tiff.Tiff,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
_STRIP: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "GIF": gif.strip,
    "JPEG": jpeg.strip,
    "PNG": png.strip,
    "TIFF": tiff.strip,
    "WEBP": webp.strip,
}
_MOST_SCANS = 20  # of a file that is decoded three times
_SHRUGS = (
    "not identified by this driver",
    "image file is truncated (0 bytes",
    "decoder error",
    "unrecognized data stream",
    "broken data stream",
)


def strip(kind: str, data: bytes) -> tuple[bytes, int]:
    """The file without what decoding can do without, which Pillow would read, and refuse the image where it is odd:
    itself where there is nothing of that, else a copy. And EXIF's orientation, 1..8. Raises BrokenImage."""
    return _STRIP[kind](data) if kind in _STRIP else (data, 1)


def said_size(kind: str, data: bytes) -> Size | None:
    """Width and height by the head of a file of those kinds that have them in one place; None of others."""
    if kind == "GIF" and len(data) >= 10:
        return struct.unpack_from("<HH", data, 6)
    return bmp.size(data) if kind == "BMP" else None


def open_image(kind: str, data: bytes, stop: Stop | None = None) -> ImageFile.ImageFile:
    """The file with its header read.

    Raises BrokenImage, also for what would be read as something else, and UnsupportedImage.
    """
    if data.startswith(b"MM\0+"):  # of BigTIFFs Pillow reads the little-endian ones
        raise UnsupportedImage(f"the file is BigTIFF in big-endian order; accepted: {', '.join(ACCEPTED)}")
    try:
        image = _PLUGINS[kind](Source(data, stop) if stop else io.BytesIO(data))
    except DAMAGE as error:
        if kind == "TIFF" and (named := tiff.name(data)):
            raise BrokenImage(named) from error
        raise _broken(kind, error, "its header is damaged") from error
    if kind == "BMP":
        bmp.expand(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if named := tiff.refusal(image):
            raise BrokenImage(named)
        if image.mode == "P" and (eight_bits := tiff.palette(image)):
            image.palette = ImagePalette.raw("RGB;L", eight_bits)
    if kind == "PNG" and image.mode.startswith("I;16"):
        image.info[colour_modes.SIGNIFICANT_BITS] = png.significant_bits(data)
    return image


def check_end(data: bytes) -> None:
    """Raises BrokenImage where a JPEG lacks more than its end marker: then its pixels change with what follows."""
    complete = len(jpeg.scans(data)) <= _MOST_SCANS and jpeg.has_all_scans(data)
    with open_image("JPEG", data + jpeg.END) as one, open_image("JPEG", data.rstrip(b"\xff") + jpeg.OTHER_END) as other:
        width, height = one.size
        strips = ((0, top, width, min(top + 64, height)) for top in range(0, height, 64))
        if not complete or any(one.crop(box).tobytes() != other.crop(box).tobytes() for box in strips):
            raise BrokenImage("the JPEG file cannot be decoded: it ends in the middle of its pixels")


class in_words:  # noqa: N801  # a generator takes 2 us more, of 70 that a small PNG takes
    """What libraries raise on a damaged file becomes a refusal in words. Raises BrokenImage, or UnsupportedImage where
    it was text on its way."""

    def __init__(self, kind: str, data: bytes) -> None:
        self._kind = kind
        self._data = data

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, BrokenImage):
            refuse_text(self._data)
        # an ImageError is a ValueError, as some damage is
        elif isinstance(error, DAMAGE) and not isinstance(error, ImageError):
            refuse_text(self._data)
            raise _broken(self._kind, error, "its pixels are damaged") from error


def _broken(kind: str, error: BaseException, otherwise: str) -> BrokenImage:
    """The refusal in Pillow's words, where they are about the file and not about Python's objects."""
    said = str(error) if isinstance(error, OSError | SyntaxError) and not error.__cause__ else ""
    about = otherwise if not said or said.startswith(_SHRUGS) else said
    return BrokenImage(f"the {kind} file cannot be decoded: {about}")
