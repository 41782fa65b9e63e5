"""Images that tests make: drawn with a seed and encoded, or PNGs by hand; and what a model wants of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.decode import Decoded, InputSpec
from training.variants.golden import draw

Pixels = NDArray[np.uint8]
ORIENTATION = 0x0112
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def drawing(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Coloured clouds with a few shapes, RGB."""
    return draw(width, height, np.random.default_rng(seed))


def encode(image: Image.Image, kind: str = "PNG", orientation: int | None = None, **options: Any) -> bytes:
    """The file's bytes, with an EXIF orientation if one is given."""
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A hand-made PNG: kinds that Pillow does not write, and headers that lie. `rows` is uint8 rows after filter 0."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rows(pixels: NDArray[Any]) -> bytes:
    return b"".join(b"\x00" + row.tobytes() for row in pixels)


def spec(width: int = 20, height: int = 12, crop_fraction: float = 1.0, bicubic: bool = False) -> InputSpec:
    return InputSpec(
        width=width,
        height=height,
        channels=3,
        crop_fraction=crop_fraction,
        interpolation="bicubic" if bicubic else "bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def difference(one: Decoded | Pixels, other: Decoded | Pixels) -> int:
    """The largest distance of a channel of a pixel."""
    a, b = (each.pixels if isinstance(each, Decoded) else each for each in (one, other))
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())
