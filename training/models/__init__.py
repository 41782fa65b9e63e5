"""The model registry: name -> where its function (channels, classes) -> network is, and what it is in one line."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast, runtime_checkable

from training import TrainingError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn


class Model(NamedTuple):
    """`function`: "module:name", imported when the model is built; `about` counts at 3 channels and 10 classes."""

    function: str
    about: str


MODELS = {
    "residual-cnn": Model("training.models.residual:residual_cnn", "3 residual blocks; 1.21 M parameters"),
    "deep-residual-cnn": Model("training.models.residual:deep_residual_cnn", "6 residual blocks; 2.76 M parameters"),
}


@runtime_checkable
class PooledNetwork(Protocol):
    """A network whose head is global average pooling and one linear layer: it has class activation maps."""

    features: "nn.Module"
    head: "nn.Linear"

    def __call__(self, x: "Tensor") -> "Tensor":
        """Normalised float[N, C, H, W] -> logits float[N, K]."""
        ...


def build(name: str, channels: int, classes: int) -> "nn.Module":
    """A freshly initialised network: normalised float[N, channels, H, W] -> logits float[N, classes].

    Raises TrainingError for an unknown name.
    """
    if name not in MODELS:
        raise TrainingError(f'there is no model "{name}"', nearest(name, MODELS))
    module, _, function = MODELS[name].function.partition(":")
    make = cast("Callable[[int, int], nn.Module]", getattr(importlib.import_module(module), function))
    return make(channels, classes)
