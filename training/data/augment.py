"""Augmentation of whole batches as tensor operations; decoding and resizing are not here but in the one decoder."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from training.models.servable import LUMA
from training.recipes.recipe import Recipe

_TRIES = 10


def augment(pixels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """uint8[N, H, W, 3] -> float32[N, H, W, 3], both 0..255: geometry, then colour, then what hides parts.

    TrivialAugment comes first, on pixels as they are in the file, as in its paper's code.
    """
    if recipe.trivial_augment:
        # only here: torchvision, and what of torch it asks for, take 2.5 s, which every command would wait for
        from training.data.trivial_augment import trivial_augment

        pixels = trivial_augment(pixels, generator)
    if recipe.crop_padding or recipe.flip:
        pixels = shift_and_flip(pixels, recipe.crop_padding, recipe.flip, generator)
    # arithmetic on planes runs over long rows: the jitter of 128 images of 32 px takes 0.5 ms, on pixels 12 ms
    x = pixels.permute(0, 3, 1, 2).contiguous().float()
    areas = recipe.resized_crop or 1.0, recipe.resized_crop_to
    if areas != (1, 1) or recipe.rotation:
        x = crop_and_turn(x, areas, recipe.rotation, generator)
    if any(recipe.jitter):
        x = jitter(x, recipe.jitter, generator)
    if recipe.hue:
        x = shift_hue(x, _between(-recipe.hue, recipe.hue, (len(x),), generator))
    if recipe.sharpness:
        x = sharpen(x, _between(1 - recipe.sharpness, 1 + recipe.sharpness, (len(x),), generator))
    if recipe.noise:
        x = (x + 255 * recipe.noise * torch.randn(x.shape, generator=generator)).clamp_(0, 255)
    if recipe.erasing:
        x = erase(x, recipe.erasing, generator)
    if recipe.cutout:
        x = cut_out(x, recipe.cutout, generator)
    return x.permute(0, 2, 3, 1).contiguous()


def _between(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def shift_and_flip(pixels: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """One gather for both: each output pixel looks up its row and column in the padded image."""
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


def crop_and_turn(x: Tensor, areas: tuple[float, float], degrees: float, generator: torch.Generator) -> Tensor:
    """RandomResizedCrop (Szegedy et al. 2015, arXiv:1409.4842: area in `areas`, aspect 3/4..4/3) and rotation.

    Both in one resampling of the whole batch: 128 images of 32 px in a seventh of the time of torchvision's two.
    A crop may touch the border and then repeats its edge, or reach beyond it into a mirrored image; what a turn brings
    in is black.
    """
    n, _, height, width = x.shape
    tall, wide = torch.full((n,), float(height)), torch.full((n,), float(width))
    if areas != (1, 1):
        tall, wide, fits = _rectangles(x, areas, (3 / 4, 4 / 3), generator)
        tall, wide = torch.where(fits, tall, height), torch.where(fits, wide, width)
    top = torch.rand(n, generator=generator) * (height - tall)
    left = torch.rand(n, generator=generator) * (width - wide)
    turns = _between(-degrees, degrees, (n,), generator)
    outside = "zeros" if degrees else "border" if areas[1] <= 1 else "reflection"
    return resample(x, torch.stack([top, left, tall, wide]), turns, outside)


def resample(x: Tensor, boxes: Tensor, degrees: Tensor, outside: str) -> Tensor:
    """float32[N, 3, H, W] -> the same shape: boxes float32[4, N] (top, left, height, width; pixels) made as large as
    the image, turned counter-clockwise by degrees float32[N], bilinear. `outside`: F.grid_sample's padding_mode.
    """
    height, width = x.shape[2:]
    top, left, tall, wide = boxes
    cos, sin = torch.cos(degrees * math.pi / 180), torch.sin(degrees * math.pi / 180)
    # rows map an output pixel to its source, in coordinates that go from -1 to 1 over the image
    across = [wide / width * cos, -wide / width * sin * height / width, (2 * left + wide) / width - 1]
    down = [tall / height * sin * width / height, tall / height * cos, (2 * top + tall) / height - 1]
    theta = torch.stack([*across, *down], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode=outside, align_corners=False)


def _rectangles(
    x: Tensor, areas: tuple[float, float], aspects: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Heights and widths, float32[N] in pixels, by share of the area and (log-uniform) aspect, as in torchvision: the
    first of ten draws that fits into the image, and whether one does, bool[N].
    """
    n, _, height, width = x.shape
    area = _between(*areas, (_TRIES, n), generator) * (height * width)
    aspect = torch.exp(_between(math.log(aspects[0]), math.log(aspects[1]), (_TRIES, n), generator))
    tall, wide = torch.sqrt(area / aspect), torch.sqrt(area * aspect)
    room = max(1.0, math.sqrt(areas[1]))
    fits = (tall <= room * height) & (wide <= room * width)
    first = fits.int().argmax(dim=0, keepdim=True)
    return tall.gather(0, first)[0], wide.gather(0, first)[0], fits.any(dim=0)


def jitter(planes: Tensor, strength: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """`adjust` by factors drawn for each image from 1 - strength .. 1 + strength."""
    factors = 1 + (2 * torch.rand((3, len(planes), 1, 1, 1), generator=generator) - 1) * torch.tensor(strength).view(
        3, 1, 1, 1, 1
    )
    return adjust(planes, *factors)


def adjust(planes: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """float32[N, 3, H, W] 0..255: brightness, then contrast (about the image's mean luma), then saturation.

    The factors are float32[N, 1, 1, 1].
    """
    x = (planes * brightness).clamp_(0, 255)
    mean = _luma(x).mean(dim=(2, 3), keepdim=True)
    x = x.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 255)
    grey = _luma(x)
    return x.mul_(saturation).add_(grey.mul_(1 - saturation)).clamp_(0, 255)


def _luma(planes: Tensor) -> Tensor:
    """float32[N, 3, H, W] -> float32[N, 1, H, W]."""
    red, green, blue = planes.chunk(3, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def shift_hue(planes: Tensor, turns: Tensor) -> Tensor:
    """float32[N, 3, H, W] 0..255 with each image's hues turned by turns float32[N] of the colour circle.

    HSV's hue as in torchvision's adjust_hue, whose one factor is for the whole batch; value and saturation stay.
    """
    red, green, blue = planes.chunk(3, dim=1)
    value = planes.amax(dim=1, keepdim=True)
    chroma = value - planes.amin(dim=1, keepdim=True)
    per = 1 / chroma.clamp(min=1e-6)
    hue = torch.where(value == green, 2 + (blue - red) * per, 4 + (red - green) * per)
    hue = torch.where(value == red, (green - blue) * per, hue).add_(6 * turns.view(-1, 1, 1, 1))
    steps = (hue + torch.tensor([5.0, 3.0, 1.0]).view(3, 1, 1)).remainder_(6)
    return value - torch.minimum(steps, 4 - steps).clamp_(0, 1).mul_(chroma)


def sharpen(planes: Tensor, factors: Tensor) -> Tensor:
    """float32[N, 3, H, W] 0..255 away from its blurred self by factors float32[N]: 0 is that, 1 changes nothing.

    Pillow's ImageEnhance.Sharpness, whose border stays as it is.
    """
    kernel = torch.ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    blurred = planes.clone()
    blurred[:, :, 1:-1, 1:-1] = F.conv2d(planes, kernel / 13, groups=3)
    return blurred.lerp(planes, factors.view(-1, 1, 1, 1)).clamp_(0, 255)


def erase(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Random erasing (Zhong et al. 2020, arXiv:1708.04896) of 2 to 33 % of the area, aspect 0.3..3.3, with noise."""
    n, _, height, width = x.shape
    tall, wide, fits = _rectangles(x, (0.02, 0.33), (0.3, 1 / 0.3), generator)
    tall, wide = tall.round().clamp(1, height), wide.round().clamp(1, width)
    top = (torch.rand(n, generator=generator) * (height - tall + 1)).floor()
    left = (torch.rand(n, generator=generator) * (width - wide + 1)).floor()
    chosen = fits & (torch.rand(n, generator=generator) < probability)
    inside = _inside(x, top, left, tall, wide) & chosen.view(-1, 1, 1, 1)
    return torch.where(inside, torch.rand(x.shape, generator=generator) * 255, x)


def cut_out(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cutout (DeVries & Taylor 2017, arXiv:1708.04552): a square about any pixel, less what lies beyond the border.

    It takes the batch's mean colour, which is about what normalisation makes zero, the paper's value.
    """
    n, _, height, width = x.shape
    top = torch.randint(height, (n,), generator=generator) - side // 2
    left = torch.randint(width, (n,), generator=generator) - side // 2
    size = torch.full((n,), side)
    return torch.where(_inside(x, top, left, size, size), x.mean(dim=(0, 2, 3), keepdim=True), x)


def _inside(x: Tensor, top: Tensor, left: Tensor, tall: Tensor, wide: Tensor) -> Tensor:
    """bool[N, 1, H, W]: which pixels of float32[N, 3, H, W] lie in the rectangles, each given as N whole numbers."""
    rows, columns = torch.arange(x.shape[2]), torch.arange(x.shape[3])
    row = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    column = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return (row[:, :, None] & column[:, None, :]).unsqueeze(1)
