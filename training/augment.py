"""Augmentation of whole batches as tensor operations; decoding and resizing are not here but in the one decoder."""

import torch
from torch import Tensor

from training.graph import LUMA
from training.recipe import Recipe


def augment(pixels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """uint8[N, H, W, 3] -> float32[N, H, W, 3], both 0..255: random crop of the zero-padded picture, flip, jitter."""
    if recipe.crop_padding or recipe.flip:
        pixels = _shift_and_flip(pixels, recipe.crop_padding, recipe.flip, generator)
    x = pixels.float()
    return _jitter(x, recipe.jitter, generator) if any(recipe.jitter) else x


def _shift_and_flip(pixels: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """One gather for both: each output pixel looks up its row and column in the padded picture."""
    n, height, width, _ = pixels.shape
    padded = torch.nn.functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    top = torch.randint(2 * padding + 1, (n, 1), generator=generator)
    left = torch.randint(2 * padding + 1, (n, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = torch.arange(width).expand(n, width)
    if flip:
        mirrored = torch.rand((n, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = left + columns
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _jitter(x: Tensor, strength: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """Brightness, then contrast (about the picture's mean luma), then saturation, each factor from 1 - s .. 1 + s."""
    factors = 1 + (2 * torch.rand((3, len(x), 1, 1, 1), generator=generator) - 1) * torch.tensor(strength).view(
        3, 1, 1, 1, 1
    )
    brightness, contrast, saturation = factors
    luma = torch.tensor(LUMA)
    x = (x * brightness).clamp_(0, 255)
    mean = (x @ luma).mean(dim=(1, 2))[:, None, None, None]
    x = torch.lerp(mean, x, contrast).clamp_(0, 255)
    grey = (x @ luma).unsqueeze(-1)
    return torch.lerp(grey, x, saturation).clamp_(0, 255)
