"""Every colour mode that a file can have -> RGB or grey with 8 bits, as one sees it on white paper."""

import numpy as np
from PIL import Image

from app.artifact.header import BrokenImage


def on_white(image: Image.Image) -> Image.Image:
    """The whole picture as RGB or grey, on white; without a copy where it is that already: at 64 MP, 250 MB each."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255 instead of scaling
        return _eight_bits(image)
    if image.mode in ("I", "F"):
        raise BrokenImage("32-bit pixels have no defined range; save the picture with 8 or 16 bits per channel")
    if image.has_transparency_data:
        # before resizing: bicubic overshoot of colours and of alpha, each clipped, do not make the overshoot of both
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey by its high byte; a grey value that the file declares transparent is white."""
    deep = np.asarray(image)
    grey = (deep >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[deep == clear] = 255
    return Image.fromarray(grey)
