"""Batches of images, and what augmentation makes of them."""

import torch
from torch import Tensor

from training.data.augment import augment
from training.recipes import recipe

EVERYTHING: dict[str, object] = {
    "crop_padding": 2,
    "flip": True,
    "jitter": (0.3, 0.3, 0.3),
    "hue": 0.1,
    "rotation": 15,
    "resized_crop": 0.5,
    "resized_crop_to": 1.5,
    "sharpness": 0.5,
    "trivial_augment": True,
    "noise": 0.02,
    "erasing": 0.5,
    "cutout": 3,
}


def batch(n: int = 32, height: int = 6, width: int = 5, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(low, high, (n, height, width, 3), generator=generator, dtype=torch.uint8)


def run(pixels: Tensor, seed: int = 0, **keys: object) -> Tensor:
    chosen = recipe.load("digits").model_copy(update={"crop_padding": 0, **keys})
    return augment(pixels, chosen, torch.Generator().manual_seed(seed))


def planes(x: Tensor) -> Tensor:
    """[N, H, W, 3] -> float32[N, 3, H, W]."""
    return x.float().permute(0, 3, 1, 2).contiguous()


def marker(height: int, width: int, row: int, column: int, n: int = 1) -> Tensor:
    image = torch.zeros((n, height, width, 3), dtype=torch.uint8)
    image[:, row : row + 2, column : column + 2] = 250
    return image
