"""Pictures that tests make: drawn with a seed, encoded as any accepted format."""

import io
from typing import Any

import numpy as np
from PIL import Image

from training.drawings import draw

ORIENTATION = 0x0112
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
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
