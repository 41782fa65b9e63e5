"""Activation maximisation: the image that a network finds most typical of a class (Erhan et al. 2009)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.runs.trained_model import TrainedModel

SHIFT = 2  # pixels; an image that must survive small shifts holds shapes instead of pixel noise
SMOOTHING = 0.7  # of the step; below 1 the logit always wins


@dataclass(frozen=True)
class Maximised:
    """`pixels` uint8[K, H, W, 3], one per class asked for; the class's logit at the noise and at the end; its
    probability at the end. The end is measured on the rounded pixels.
    """

    pixels: NDArray[np.uint8]
    before: tuple[float, ...]
    after: tuple[float, ...]
    probability: tuple[float, ...]


def maximise(
    model: TrainedModel,
    labels: Sequence[int],
    steps: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Maximised:
    """Gradient ascent on each class's logit from noise, with Adam at a rate of 0.1.

    What is optimised goes through a sigmoid, so every step is a real image; random shifts and a penalty on the
    differences of neighbouring pixels, in proportion to the ascent, keep it from pixel noise (Mordvintsev et al. 2015,
    "Inceptionism"; Olah et al. 2017, doi:10.23915/distill.00007).
    """
    generator = torch.Generator().manual_seed(seed)
    spec, normalise, target = model.input, model.normalise, torch.tensor(labels)
    hidden = 0.1 * torch.randn((len(labels), spec.height, spec.width, spec.channels), generator=generator)
    before = _chosen(model, _rounded(hidden), target)[0]
    hidden.requires_grad_()
    optimizer = torch.optim.Adam([hidden], lr=0.1)
    for step in range(steps):
        image = _image(hidden)
        shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
        logits = model.network(normalise(255 * image.roll(shift, dims=(1, 2))))
        (ascent,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), hidden, retain_graph=True)
        variation = image.diff(dim=1).abs().sum() + image.diff(dim=2).abs().sum()  # Rudin, Osher and Fatemi 1992
        (rougher,) = torch.autograd.grad(variation, hidden)
        hidden.grad = SMOOTHING * _unit(rougher) - _unit(ascent)
        optimizer.step()
        progress(step + 1)
    pixels = _rounded(hidden.detach())
    after, probability = _chosen(model, pixels, target)
    return Maximised(pixels.numpy(), before, after, probability)


def _image(hidden: Tensor) -> Tensor:
    """float[K, H, W, 3] in 0..1; a grey network's one channel three times, of which the luma is the same."""
    return hidden.sigmoid().expand(-1, -1, -1, 3)


def _rounded(hidden: Tensor) -> Tensor:
    return (255 * _image(hidden)).round().to(torch.uint8)


def _unit(gradient: Tensor) -> Tensor:
    """Each image's gradient at length 1."""
    return torch.nn.functional.normalize(gradient.flatten(1)).view_as(gradient)


def _chosen(model: TrainedModel, pixels: Tensor, target: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Logit and probability of each image's own class."""
    x, rows = model.normalise(pixels), torch.arange(len(target))
    with torch.no_grad():
        logits = model.network(x)[rows, target]
    return tuple(logits.tolist()), tuple(model.probabilities(x)[rows, target].tolist())
