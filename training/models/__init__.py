"""The model registry: name -> a function (channels, classes) -> network."""

import difflib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from training import TrainingError
from training.models.residual import deep_residual_cnn, residual_cnn

MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "residual-cnn": residual_cnn,
    "deep-residual-cnn": deep_residual_cnn,
}


@runtime_checkable
class PooledNetwork(Protocol):
    """A network whose head is global average pooling and one linear layer: it has class activation maps."""

    features: nn.Module
    head: nn.Linear

    def __call__(self, x: Tensor) -> Tensor:
        """Normalised float[N, C, H, W] -> logits float[N, K]."""
        ...


def build(name: str, channels: int, classes: int) -> nn.Module:
    """A freshly initialised network: normalised float[N, channels, H, W] -> logits float[N, classes].

    Raises TrainingError for an unknown name.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        raise TrainingError(
            f'there is no model "{name}"',
            f'did you mean "{close[0]}"?' if close else f"known: {', '.join(MODELS)}",
        )
    return MODELS[name](channels, classes)
