"""How heat looks over an image as displayed: drawn by the service, by `sightglass explain` and in reports alike.

It lies here and not in `app.inference`, because this is the package that training may import too.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.geometry import Box, Geometry

# Of "inferno", whose lightness rises evenly with the value (N. Smith and S. van der Walt for matplotlib, 2015; CC0).
_INFERNO = (
    *("000004", "0c0826", "240c4f", "420a68", "5d126e", "781c6d", "932667", "ae305c"),
    *("c73e4c", "dd513a", "ed6925", "f8850f", "fca50a", "fac62d", "f2e661", "fcffa4"),
)
_OPAQUE = 0.65  # where the heat is greatest: the image is seen through it
_REACH = 2  # places to each side that bicubic interpolation looks at
DIM = 0.6  # of the brightness, where the model did not look


def palette() -> NDArray[np.uint8]:
    """uint8[256, 3]: RGB of each heat, between the colours of the table."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _INFERNO])
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.round(channels).T.astype(np.uint8)


def opacity() -> list[int]:
    """Of each heat: 0..255."""
    return [round(255 * _OPAQUE * (heat / 255) ** 0.8) for heat in range(256)]


def layer(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """float32[h, w] in 0..1 -> uint8[h, w, 4], RGBA: a pixel a place, for whoever enlarges it and lays it over."""
    colours = np.concatenate([palette(), np.array(opacity(), np.uint8)[:, None]], axis=1)
    painted: NDArray[np.uint8] = colours[np.round(heat * 255).astype(np.uint8)]
    return painted


def paint(image: Image.Image, geometry: Geometry, box: Box, heat: NDArray[np.float32]) -> Image.Image:
    """`heat`, float32[h, w] in 0..1, over `image`: as colour that covers the more the more there is, smooth between the
    middles of its places. What the model did not see is dimmed.

    `geometry` says what it saw, and `box` where the grid lies, both in pixels of the image as displayed, which `image`
    shows whole, in any size.
    """
    seen = geometry.seen
    x, y = image.width / geometry.width, image.height / geometry.height
    corner = min(image.width - 1, round(seen.left * x)), min(image.height - 1, round(seen.top * y))
    # in whole pixels, and at least one
    window = *corner, max(corner[0] + 1, round(seen.right * x)), max(corner[1] + 1, round(seen.bottom * y))
    left, top, right, bottom = box
    rows, columns = heat.shape
    across, down = columns / (right - left), rows / (bottom - top)
    # what the model saw, in places of the grid
    saw = np.array([(seen.left - left) * across, (seen.top - top) * down])
    saw_to = np.array([(seen.right - left) * across, (seen.bottom - top) * down])
    # with the outermost places repeated: where the kernel is cut off, Pillow puts the peak at the image's edge
    margin = _REACH + math.ceil(max(0.0, *-saw, *(saw_to - [columns, rows])))
    grid = Image.fromarray(np.pad(heat * 255, margin, mode="edge"))
    under = image.crop(window)
    values = grid.resize(under.size, Image.Resampling.BICUBIC, (*(saw + margin), *(saw_to + margin))).convert("L")
    colours = values.copy()
    colours.putpalette(palette().tobytes())
    warm = Image.composite(colours.convert("RGB"), under, values.point(opacity()))
    if warm.size == image.size:
        return warm
    painted = image.point([round(value * DIM) for value in range(256)] * 3)
    painted.paste(warm, window)
    return painted
