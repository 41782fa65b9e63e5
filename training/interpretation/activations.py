"""What the layers of a network answer to images: feature maps, and per block how alive the channels are."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.errors import TrainingError
from training.interpretation.channel_axis import channel_axes
from training.interpretation.hooks import watching


def last_maps(network: nn.Module, x: Tensor) -> str:
    """The name of the last layer with maps of more than one place: the end of the features, before the pooling.

    Raises TrainingError where a network has no maps at all.
    """
    names = [name for name, _ in network.named_modules() if name]
    with torch.no_grad(), watching(network, names) as seen:
        network(x)
    maps = {name: out for name, out in seen.items() if out.ndim == 4}  # in the order in which they finished
    if not maps:
        raise TrainingError("the network has no layer with feature maps", "it was built of dense layers only")
    if "features" in maps:
        return "features"
    large = [name for name, out in maps.items() if out.shape[2] * out.shape[3] > 1]
    return large[-1] if large else list(maps)[-1]


def maps_of(network: nn.Module, name: str, x: Tensor) -> Tensor:
    """What layer `name` answers to `x`: float[N, C, h, w]. Raises TrainingError where that is not maps."""
    axis = channel_axes(network, [name], x).get(name)
    with torch.no_grad(), watching(network, [name]) as seen:
        network(x)
    maps, axis = require_maps(name, seen, axis)
    return maps.movedim(axis, 1)


def require_maps(name: str, seen: dict[str, Tensor], channel_axis: int | None) -> tuple[Tensor, int]:
    """The layer's output and the axis of its channels.

    Raises TrainingError where it was not called, gives something else, or it is not known which axes are places.
    """
    if name not in seen or seen[name].ndim != 4 or channel_axis is None:
        shape = "x".join(map(str, seen[name].shape[1:])) if name in seen else "nothing"
        raise TrainingError(f'layer "{name}" gives {shape}, no maps', "a layer before pooling and flattening")
    return seen[name], channel_axis


@dataclass(frozen=True)
class Activity:
    """Of one block's output, over all images and places.

    `zeros`: share of values that are exactly 0, as after a ReLU. `silent`: share of channels that are 0 everywhere;
    one that stays silent for many different images is dead.
    """

    name: str
    kind: str
    mean_absolute: float
    std: float
    zeros: float
    silent: float


def statistics(network: nn.Module, x: Tensor) -> list[Activity]:
    """One row for each block that answers a tensor to `x` (float[N, C, H, W], normalised), in the order they finish."""
    named = dict(blocks(network))
    axes = channel_axes(network, named, x)
    with torch.no_grad(), watching(network, named) as seen:
        network(x)
    rows = []
    for name, out in seen.items():
        zero = out == 0
        mean_absolute, std = out.abs().mean().item(), out.std(correction=0).item()
        silent = zero.movedim(axes.get(name, 1), 0).flatten(1).all(dim=1)
        zeros, kind = zero.float().mean().item(), type(named[name]).__name__
        rows.append(Activity(name, kind, mean_absolute, std, zeros, silent.float().mean().item()))
    return rows


def blocks(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The network's parts with their names: children, and within `features` and plain sequences theirs."""
    for name, module in network.named_children():
        if type(module) is nn.Sequential or (name == "features" and any(module.children())):
            yield from blocks(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module
