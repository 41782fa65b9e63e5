"""Which axis of a layer's output holds its channels: ConvNeXt, Swin and ViT have it last within their blocks."""

from collections.abc import Iterable
from contextlib import suppress

import torch
from torch import Tensor, nn

from training.interpretation.hooks import watching
from training.models.layer_table import on_meta

_CHANNELS_SECOND = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


def channel_axes(network: nn.Module, names: Iterable[str], x: Tensor) -> dict[str, int]:
    """The axis of each layer's channels where that is certain, for images like `x`, float[N, C, H, W].

    Of four axes the one that follows the image's height tells: it is the third of [N, C, H, W] and the second of
    [N, H, W, C]. Where none does, because the size of maps or of images is fixed, a layer that convolves, pools or
    batch-normalises has its channels second by definition. Tokens [N, T, C] have them last.
    """
    wanted, dummy = list(names), on_meta(network)
    shapes = _shapes(dummy, wanted, x.shape)
    taller = _shapes(dummy, wanted, (*x.shape[:2], 2 * x.shape[2], x.shape[3]))
    axes = {name: _axis(shape, taller.get(name), dummy.get_submodule(name)) for name, shape in shapes.items()}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _shapes(network: nn.Module, names: list[str], size: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of every layer that was reached: a network of one size alone stops where it notices another."""
    with torch.no_grad(), watching(network, names) as seen, suppress(RuntimeError, AssertionError, ValueError):
        network(torch.empty(size, device="meta"))
    return {name: tuple(out.shape) for name, out in seen.items()}


def _axis(shape: tuple[int, ...], taller: tuple[int, ...] | None, layer: nn.Module) -> int | None:
    if len(shape) < 4:
        return len(shape) - 1
    follows = [axis for axis, size in enumerate(taller or shape) if size != shape[axis]]
    if follows in ([1], [2]):
        return 1 if follows == [2] else 3
    fixed = shape[2:] == (1, 1) or any(isinstance(each, _CHANNELS_SECOND) for each in layer.modules())
    return 1 if fixed and not follows else None
