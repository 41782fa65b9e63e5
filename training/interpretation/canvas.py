"""Images of what a network sees, drawn with Pillow: grids of tiles with captions, heat maps over photographs."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app.artifact.decoder.decode import Decoded, Geometry, InputSpec, decode
from training.metrics.lettering import Lettering, Pen

SIDE = 360  # pixels of the longer side of a photograph
GAP, PAPER, INK, LINE = 12, (255, 255, 255), (30, 30, 30), 18
Floats = NDArray[np.float32]
Tile = tuple[Image.Image, str]


def sheet(title: str, tiles: Sequence[Tile], columns: int) -> Image.Image:
    """The tiles in rows, each over its caption, below one title line."""
    captions = [caption.split("\n") for _, caption in tiles]
    pen = Pen(Lettering.of([title, *(line for lines in captions for line in lines)]), 12)
    deep = LINE * max(map(len, captions))
    wide = max(
        *(image.width for image, _ in tiles), *(math.ceil(pen.length(line)) for lines in captions for line in lines)
    )
    high = max(image.height for image, _ in tiles) + deep + GAP
    columns = min(columns, len(tiles))
    width = max(GAP + columns * (wide + GAP), 2 * GAP + math.ceil(pen.length(title)))
    page = Image.new("RGB", (width, 2 * GAP + LINE + math.ceil(len(tiles) / columns) * high), PAPER)
    draw = ImageDraw.Draw(page)
    pen.write(draw, (GAP, GAP), title, INK)
    for number, ((image, _), lines) in enumerate(zip(tiles, captions, strict=True)):
        x, y = GAP + number % columns * (wide + GAP), 2 * GAP + LINE + number // columns * high
        page.paste(image, (x, y))
        for row, text in enumerate(lines):
            pen.write(draw, (x, y + image.height + 2 + LINE * row), text, INK)
    return page


def enlarged(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """uint8[H, W] or [H, W, 3], each pixel a square, at most `side` long (as it is where it is longer already)."""
    factor = max(1, side // max(pixels.shape[:2]))
    image = Image.fromarray(pixels)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def scaled(values: Floats) -> NDArray[np.uint8]:
    """Any range to 0..255, by its own minimum and maximum; what is constant becomes black."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low or 1) * 255).round().astype(np.uint8)


def displayed(content: bytes, spec: InputSpec, decoded: Decoded) -> tuple[Image.Image, Geometry]:
    """The whole image as a viewer shows it, about `SIDE` long, and where in it the model's pixels lie.

    Through the one decoder, so that rotation, colours and transparency are as the model gets them.
    """
    at = decoded.geometry
    longer = max(at.width, at.height)
    scale = SIDE // longer if longer < SIDE else SIDE / longer  # pixels of small images stay squares
    width, height = (max(1, round(side * scale)) for side in (at.width, at.height))
    whole = {"width": min(at.width, width), "height": min(at.height, height), "crop_fraction": 1.0, "fit": "squash"}
    pixels = decode(content, spec.model_copy(update=whole)).pixels
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    x, y = width / at.width, height / at.height
    return image, Geometry(width, height, at.left * x, at.top * y, at.right * x, at.bottom * y)


def framed(image: Image.Image, at: Geometry) -> Image.Image:
    """What the model does not see is dimmed, what it sees has a frame."""
    box = _box(at.seen)
    seen = image.crop(box)
    out = Image.blend(image, Image.new("RGB", image.size, PAPER), 0.6)
    out.paste(seen, box[:2])
    ImageDraw.Draw(out).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=INK)
    return out


def overlaid(image: Image.Image, at: Geometry, heat: Floats) -> Image.Image:
    """`heat` float[h, w] >= 0 over the part of `image` that the model saw, scaled by its maximum."""
    box = _box(at)
    size = box[2] - box[0], box[3] - box[1]
    share = Image.fromarray(heat / max(float(heat.max()), 1e-12)).resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(share).clip(0, 1)
    colours = Image.fromarray((colormaps["inferno"](values)[..., :3] * 255).astype(np.uint8))
    out = framed(image, at)
    # where nothing is the image stays as it is
    mask = Image.fromarray((values * 160).astype(np.uint8))
    out.paste(colours, box[:2], mask)
    return out


def _box(at: Geometry) -> tuple[int, int, int, int]:
    """At least a pixel: of an image that is a line there is less."""
    left, top = round(at.left), round(at.top)
    return left, top, max(left + 1, round(at.right)), max(top + 1, round(at.bottom))
