"""Images whose class is the colour of their noise: learnt in a second, and lost when channels are swapped."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")
# The digits recipe is the smallest one; these make it fit 16 x 16 colour images.
SETTINGS = ["channels=3", "epochs=3", "batch_size=32", "val_fraction=0.3"]


def write(folder: Path, each: int, seed: int = 0) -> Path:
    """`folder`/<class>/<number>.png, `each` of them per class, 16 x 16."""
    generator = np.random.default_rng(seed)
    for channel, name in zip((2, 1, 0), CLASSES, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 110
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder
