"""The two ways in which a network ends; every network here is one of them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from training.errors import TrainingError

State = Mapping[str, Tensor]
_SAME = 1e-4  # of logits, and of the largest: sums in another order


class Network(nn.Module):
    """Features and one last layer. Where a new set of classes comes, only `head` is made anew."""

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        """`features`: float[N, C, H, W] -> float[N, width]."""
        super().__init__()
        self.features = features
        self.head: nn.Module = nn.Linear(width, classes)
        self.width = width

    def replace_head(self, classes: int, hidden: int = 0) -> None:
        """A new head: linear, or with a hidden layer for classes that a plane does not separate."""
        if hidden:
            layers = nn.Dropout(0.3), nn.Linear(self.width, hidden), nn.ReLU(inplace=True), nn.Dropout(0.2)
            self.head = nn.Sequential(*layers, nn.Linear(hidden, classes))
        else:
            self.head = nn.Linear(self.width, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Normalised float[N, C, H, W] -> what the head is given, float[N, width]."""
        embedded: Tensor = self.features(x)
        return embedded

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float[N, C, H, W] -> logits float[N, K]."""
        logits: Tensor = self.head(self.embed(x))
        return logits


class Pooled(Network):
    """Global average pooling before a linear head: what class activation maps can be made of."""

    def __init__(self, features: nn.Module, width: int, classes: int, dropout: float = 0.0) -> None:
        """`features`: float[N, C, H, W] -> float[N, width, h, w]."""
        super().__init__(features, width, classes)
        self.dropout = nn.Dropout(dropout)

    def embed(self, x: Tensor) -> Tensor:
        """Normalised float[N, C, H, W] -> what the head is given, float[N, width]."""
        embedded: Tensor = self.dropout(self.features(x).mean(dim=(2, 3)))
        return embedded


def flat_width(features: nn.Module, channels: int, size: int) -> int:
    """How many numbers `features` makes of one image. Raises TrainingError where `size` pixels are too few."""
    training = features.training
    try:
        with torch.no_grad():
            return int(features.eval()(torch.zeros(1, channels, size, size)).numel())
    except RuntimeError as error:
        raise TrainingError(
            f"this network cannot take {size} pixels: {error}", f"--set input_size={2 * size}, or more"
        ) from error
    finally:
        features.train(training)


@torch.no_grad()
def with_own_head(net: nn.Module, last: nn.Module, split: Callable[[], Network], size: int) -> Network:
    """`split` takes `net`, in evaluation mode, apart; here its last layer comes back as the head, with its weights.

    Raises TrainingError where the two together are not what the whole was.
    """
    image = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size)
    expected: Tensor = net(image)
    if isinstance(last, nn.Linear):
        weight, bias = last.weight.clone(), torch.zeros(last.out_features) if last.bias is None else last.bias.clone()
        network = split().eval()
        head = network.head
        if isinstance(head, nn.Linear) and head.weight.shape == weight.shape:
            head.weight.copy_(weight)
            head.bias.copy_(bias)
            if torch.allclose(network(image), expected, rtol=_SAME, atol=_SAME * float(expected.abs().max())):
                return network
    raise TrainingError(
        "its last layer is not one linear layer behind all else, so it cannot be exported as it is",
        "train a head of your own on it: sightglass train DATA --recipe fine-tuning --set model=NAME --out RUN",
    )
