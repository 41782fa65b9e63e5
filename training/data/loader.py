"""What one epoch shows the network: which images in which order, augmented and mixed, with their targets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.data.augment import augment
from training.data.class_balance import class_weights, order
from training.data.pixels import Pixels
from training.recipes.recipe import Recipe


def batches(pixels: Pixels, recipe: Recipe, epoch: int, steps: int, ahead: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """float32[N, H, W, 3] 0..255 and targets float32[N, K]; `ahead`: a thread prepares the next while one trains.

    Worth it where files are read or a GPU trains. On a CPU the thread only takes its cores from the training at the
    wrong moments: 0.87 of bare steps against 0.97 (2 cores, residual-cnn-onecycle).

    Cross-entropy with the targets is the recipe's loss: label smoothing, mixing and class weights are in them. All of
    it follows from the recipe's seed and the epoch, and nothing here draws from torch's own generator: dropout does.
    """
    seed = epoch_seed(recipe.seed, epoch)
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    places = order(pixels.labels, recipe.balance, random)
    weights = class_weights(pixels.labels, recipe.balance)
    size = min(recipe.batch_size, len(pixels))

    def prepare(step: int) -> tuple[Tensor, Tensor]:
        chosen: NDArray[np.int64] = places[step * size : (step + 1) * size]
        x = augment(torch.from_numpy(pixels.take(chosen)), recipe, generator)
        targets = F.one_hot(torch.from_numpy(pixels.labels[chosen]), len(weights)) * weights
        x, targets = mix(x, targets, recipe, random)
        return x, smooth(targets, recipe.label_smoothing)

    if not ahead:
        yield from map(prepare, range(steps))
        return
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(prepare, 0)
        for step in range(steps):
            batch = upcoming.result()
            if step + 1 < steps:
                upcoming = pool.submit(prepare, step + 1)
            yield batch


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for everything random of an epoch."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al. 2016, arXiv:1512.00567) of float32[N, K]: a part of each row spread evenly.

    F.cross_entropy's own `label_smoothing` would weigh the spread part by class, and so pull every image towards
    the rare classes; here each row keeps its weight, which is its sum.
    """
    return targets.lerp(targets.mean(dim=1, keepdim=True), smoothing)


def mix(x: Tensor, targets: Tensor, recipe: Recipe, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix of each image with the one before it; where the recipe has both, one is drawn for the batch."""
    chosen = [(mixup, recipe.mixup)] * bool(recipe.mixup) + [(cutmix, recipe.cutmix)] * bool(recipe.cutmix)
    if not chosen:
        return x, targets
    method, alpha = chosen[random.integers(len(chosen))]
    return method(x, targets, float(random.beta(alpha, alpha)), random)


def mixup(x: Tensor, targets: Tensor, share: float, _random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """`share` of each image, the rest from the one before it (Zhang et al. 2018, arXiv:1710.09412)."""
    return x.roll(1, 0).lerp(x, share), targets.roll(1, 0).lerp(targets, share)


def cutmix(x: Tensor, targets: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A box of about 1 - `share` of the area comes from the image before it (Yun et al. 2019, arXiv:1905.04899).

    The box is the same for the whole batch and cut off at the border; the targets follow what is left of it.
    """
    _, height, width, _ = x.shape
    half = np.sqrt(1 - share) / 2
    row, column = random.uniform(0, height), random.uniform(0, width)
    top, bottom = (int(np.clip(round(row + side * half * height), 0, height)) for side in (-1, 1))
    left, right = (int(np.clip(round(column + side * half * width), 0, width)) for side in (-1, 1))
    mixed = x.clone()
    mixed[:, top:bottom, left:right] = x.roll(1, 0)[:, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, targets.roll(1, 0).lerp(targets, kept)
