"""Small images inside the page: data: URIs, made by the decoder that also serves."""

import base64
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import machine
from app.artifact import heat
from app.artifact.decoder.decode import Geometry, InputSpec, Preview, decode
from app.engines import Runs
from training.data.pixels import Pixels

SIDE = 128
SMALL = 64  # up to here every pixel is kept, and the page enlarges them as squares
_QUALITY = 78
Percent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thumbnail:
    """`src` is a data: URI, shown `width` x `height` CSS pixels large; `crop` is where the model looks, in percent of
    the image: left, top, width, height. Where it was padded that sticks out; `seen` does not."""

    src: str
    width: int
    height: int
    pixelated: bool
    crop: Percent
    seen: Percent


def thumbnails(paths: Sequence[str], read: Callable[[str], bytes], spec: InputSpec) -> list[Thumbnail]:
    """The whole image of each file, as displayed (EXIF applied), 128 px at most. Raises ImageError, OSError."""

    def thumbnail(path: str) -> Thumbnail:
        file = read(path)
        geometry = decode(file, spec).geometry
        return shown(decode(file, Preview(SIDE)).pixels, _percent(geometry), _percent(geometry.seen))

    with ThreadPoolExecutor(machine.cores().usable) as pool:
        return list(pool.map(thumbnail, paths))


def shown(pixels: NDArray[np.uint8], crop: Percent = (0, 0, 100, 100), seen: Percent = (0, 0, 100, 100)) -> Thumbnail:
    """uint8[H, W, 3] as it is; small ones are enlarged by the page, not here."""
    height, width = pixels.shape[:2]
    small = max(height, width) <= SMALL
    scale = SIDE / max(height, width) if small else min(1, SIDE / max(height, width))
    return Thumbnail(
        data_uri(pixels, lossless=small), max(1, round(width * scale)), max(1, round(height * scale)), small, crop, seen
    )


def _percent(geometry: Geometry) -> Percent:
    return (
        round(100 * geometry.left / geometry.width, 2),
        round(100 * geometry.top / geometry.height, 2),
        round(100 * (geometry.right - geometry.left) / geometry.width, 2),
        round(100 * (geometry.bottom - geometry.top) / geometry.height, 2),
    )


def data_uri(pixels: NDArray[np.uint8], lossless: bool) -> str:
    """uint8[H, W, 3] or [H, W, 4] as WebP in a data: URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=lossless, quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def heatmaps(engine: Runs, pixels: Pixels, indices: Sequence[int], classes: Sequence[int]) -> list[str]:
    """The class activation map of one class for each image, between its lowest and its highest value; one pixel a
    place, which the page enlarges smoothly. Empty where the model has none."""
    found: list[str] = []
    for start in range(0, len(indices), 16):
        part = np.array(indices[start : start + 16], dtype=np.int64)
        maps = engine.run(pixels.take(part)).heatmap
        if maps is None:
            return []
        for each in maps[np.arange(len(part)), list(classes[start : start + 16])]:
            spread = float(each.max() - each.min())
            found.append(data_uri(heat.layer((each - each.min()) / (spread or 1.0)), lossless=True))
    return found
