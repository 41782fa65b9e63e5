"""A fully connected network: what a CNN is compared with."""

from torch import nn

from training.models.heads import Network


def mlp(channels: int, classes: int, size: int) -> Network:
    """Every pixel to 512, 256 and the classes, with dropout 0.5."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = channels * size * size
    for hidden in (512, 256):
        layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        width = hidden
    return Network(nn.Sequential(*layers), width, classes)
