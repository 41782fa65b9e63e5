"""What happens to photographs on their way, in five severities, in the manner of ImageNet-C (Hendrycks and Dietterich
2019, arXiv:1903.12261): its steps, but for what it has not: JPEG from 95 down to 10, darker, rotation."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.artifact.decoder.decode import InputSpec, Preview, decode
from app.artifact.decoder.geometry import Geometry

Image8 = NDArray[np.uint8]
_OF = 224  # pixels that blurs are stated for
_REFLECTED = 0.3  # of the sides, that a rotation may need beyond the edges


class Corruption(NamedTuple):
    """`about` says what `levels` are, mildest first. `apply` takes uint8[H, W, 3], a level, how many pixels of it are
    one of 224 that the model sees, and the generator of what is random."""

    name: str
    about: str
    levels: tuple[float, ...]
    apply: Callable[[Image8, float, float, np.random.Generator], bytes]


def corrupted(file: bytes, spec: InputSpec, seed: int) -> Iterator[list[Image8]]:
    """For each of CORRUPTIONS what the model gets of the image at each level: uint8[height, width, 3].

    The image as displayed is corrupted at its own resolution, but at no more than twice the model's, to which the
    decoder brings large JPEGs anyway; what comes of it is a file again, which the serving decoder decodes.
    Raises ImageError.
    """
    geometry = decode(file, spec).geometry
    reduced = max(1.0, min(_seen(geometry)[0] / spec.width, _seen(geometry)[1] / spec.height) / 2)
    image = decode(file, Preview(max(1, round(max(geometry.width, geometry.height) / reduced)))).pixels
    unit = min(_seen(geometry)) / reduced / _OF
    for number, corruption in enumerate(CORRUPTIONS):
        yield [
            decode(corruption.apply(image, level, unit, np.random.default_rng((seed, number, step))), spec).pixels
            for step, level in enumerate(corruption.levels)
        ]


def _seen(geometry: Geometry) -> tuple[float, float]:
    return geometry.right - geometry.left, geometry.bottom - geometry.top


def _blur(image: Image8, level: float, unit: float, _: np.random.Generator) -> bytes:
    return _bmp(Image.fromarray(image).filter(ImageFilter.GaussianBlur(level * unit)))


def _noise(image: Image8, level: float, _: float, generator: np.random.Generator) -> bytes:
    return _values(image / np.float32(255) + level * generator.standard_normal(image.shape, np.float32))


def _jpeg(image: Image8, level: float, _: float, __: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(level))
    return buffer.getvalue()


def _brightness(image: Image8, level: float, _: float, __: np.random.Generator) -> bytes:
    """Added to V of HSV; hue and saturation stay."""
    x = image / np.float32(255)
    before = x.max(axis=2, keepdims=True)
    after = np.clip(before + np.float32(level), 0, 1)
    return _values(np.where(before > 0, x * after / np.maximum(before, 1 / 255), after))


def _contrast(image: Image8, level: float, _: float, __: np.random.Generator) -> bytes:
    x = image / np.float32(255)
    mean = x.mean(axis=(0, 1), keepdims=True)
    return _values((x - mean) * np.float32(level) + mean)


def _rotation(image: Image8, level: float, _: float, generator: np.random.Generator) -> bytes:
    """To either side; what comes into view at the corners is the image mirrored at its edges."""
    height, width = image.shape[:2]
    across, down = (min(side - 1, round(_REFLECTED * max(image.shape[:2]))) for side in (width, height))
    wide = Image.fromarray(np.pad(image, ((down, down), (across, across), (0, 0)), "reflect"))
    turned = wide.rotate(level * generator.choice((-1, 1)), Image.Resampling.BICUBIC)
    return _bmp(turned.crop((across, down, across + width, down + height)))


def _values(x: NDArray[np.float32]) -> bytes:
    return _bmp(Image.fromarray((np.clip(x, 0, 1) * 255).round().astype(np.uint8)))


def _bmp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


_STEPS = (0.1, 0.2, 0.3, 0.4, 0.5)
CORRUPTIONS = (
    Corruption("blur", f"sigma, px of {_OF}", (1, 2, 3, 4, 6), _blur),
    Corruption("noise", "sigma of 1", (0.08, 0.12, 0.18, 0.26, 0.38), _noise),
    Corruption("JPEG", "quality", (95, 75, 50, 25, 10), _jpeg),
    Corruption("brighter", "V plus", _STEPS, _brightness),
    Corruption("darker", "V minus", _STEPS, lambda image, level, *rest: _brightness(image, -level, *rest)),
    Corruption("contrast", "times", (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
    Corruption("rotation", "degrees", (5, 10, 15, 20, 30), _rotation),
)
