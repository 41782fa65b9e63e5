"""The golden files: drawn, not photographed, so that an artifact carries no image that nobody gave (docs/adr/0004)."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from app.artifact.decoder.decode import decode
from app.artifact.doubt import ood_scores
from app.artifact.golden import Golden

if TYPE_CHECKING:  # what draws an image needs no torch
    from training.runs.trained_model import TrainedModel

_ORIENTATION = 0x0112


def golden_of(model: "TrainedModel", samples: tuple[bytes, ...] = ()) -> Golden:
    """Of drawings and, last, the author's samples. The expected answers come from the eager checkpoint, never from an
    exported graph. Without contract, doubts."""
    files = (*golden_files(), *samples)
    pixels = np.stack([decode(file, model.input).pixels for file in files])
    answers = model.run(pixels)
    scores = ood_scores(answers.logits, answers.heatmap)
    return Golden(files, pixels, answers.probabilities, contract="", ood_scores=scores)


def golden_files() -> tuple[bytes, ...]:
    """16 encoded images, always the same: small and large JPEG, EXIF-rotated, CMYK, PNG, alpha, 16-bit grey."""
    generator = np.random.default_rng(16)

    def image(width: int, height: int) -> Image.Image:
        return draw(width, height, generator)

    def translucent(width: int, height: int) -> Image.Image:
        made = image(width, height)
        made.putalpha(Image.linear_gradient("L").resize(made.size))
        return made

    def sixteen_bit(width: int, height: int) -> Image.Image:
        grey: NDArray[np.uint16] = np.asarray(image(width, height).convert("L")).astype(np.uint16) * 257
        return Image.fromarray(grey)

    rotated = [_jpeg(image(90, 60), orientation) for orientation in (3, 5, 6, 8)]
    return (
        _jpeg(image(32, 32)),
        _jpeg(image(1600, 1200)),
        _jpeg(image(640, 480)),
        *rotated,
        _jpeg(image(64, 48).convert("CMYK")),
        _jpeg(image(50, 70).convert("L")),
        *(_png(image(48, 48)) for _ in range(3)),
        _png(image(300, 40)),
        _png(translucent(80, 80)),
        _png(image(40, 40).quantize(32)),
        _png(sixteen_bit(64, 64)),
    )


def draw(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    """Soft coloured clouds with a few hard shapes: smooth gradients and edges, all channels different."""
    clouds = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = generator.uniform(0, 1, 2)
        across = generator.uniform(0.1, 0.6)
        box = [int(edge) for edge in (x * width, y * height, (x + across) * width, (y + across) * height)]
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        (draw.ellipse if generator.random() < 0.5 else draw.rectangle)(box, fill=colour)
    return image.filter(ImageFilter.GaussianBlur(max(width, height) / 200))


def _jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, exif=exif)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
