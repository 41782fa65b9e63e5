"""LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition)."""

from torch import nn

from training.models.heads import Network, flat_width


def lenet5(channels: int, classes: int, size: int) -> Network:
    """tanh and average pooling as in the paper; its subsampling weights and sparse connections are left out."""
    layers = [
        nn.Conv2d(channels, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Tanh(),
        nn.Flatten(),
    ]
    width = flat_width(nn.Sequential(*layers), channels, size)
    return Network(nn.Sequential(*layers, nn.Linear(width, 84), nn.Tanh()), 84, classes)
