"""Images in which there is a bright square, or none; networks that tell them apart; where it must be found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.commands import QUIET, hurried
from training.export import export
from training.learning import plan
from training.runs.checkpoint import Run
from training.train import train
from training.variants.writers import WRITERS

# The digits recipe is the smallest; these make it fit.
_SETTINGS = ["channels=3", "input_size=32", "epochs=12", "batch_size=32", "val_fraction=0.25", "crop_padding=2"]
ARTIFACT = Path("squares/1")


def write(folder: Path, each: int = 80) -> Path:
    """`folder`/{nothing,square}/<number>.png of 32 x 32."""
    generator = np.random.default_rng(0)
    for name in ("nothing", "square"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = _ground(32, 32, generator)
            if name == "square":
                size = int(generator.integers(8, 14))
                left, top = generator.integers(0, 32 - size, 2)
                pixels[top : top + size, left : left + size] = _BRIGHT
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


def write_all(folder: Path, model: str) -> None:
    """The data, a `run` of `model` on them and its ARTIFACT."""
    data = write(folder / "data")
    made = plan.make(str(data), folder / "run", "digits", [*_SETTINGS, f"model={model}"], resume=False, force=False)
    train(made, QUIET)
    with hurried():
        export(Run.open(folder / "run"), folder / ARTIFACT, None, QUIET, {"model.onnx": WRITERS["model.onnx"]})


_BRIGHT = (250, 250, 250)


def _ground(width: int, height: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Grey of any darkness, with noise."""
    level = generator.integers(10, 120)
    return np.clip(level + generator.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)


@dataclass(frozen=True)
class Scene:
    """An image as displayed, with a bright square at left..right, top..bottom."""

    image: Image.Image
    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, width: int, height: int, across: float, down: float) -> "Scene":
        """The square's middle is at those parts of the centred square that a model sees, a third of it wide."""
        side = min(width, height)
        size = round(side * 0.34)
        left = round((width - side) / 2 + across * side - size / 2)
        top = round((height - side) / 2 + down * side - size / 2)
        pixels = _ground(width, height, np.random.default_rng(1))
        pixels[top : top + size, left : left + size] = _BRIGHT
        return cls(Image.fromarray(pixels), left, top, left + size, top + size)

    def holds(self, x: float, y: float) -> bool:
        """Whether the square is there."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom
