"""Depthwise-separable convolutions (Howard et al. 2017, arXiv:1704.04861), at the size of small images."""

from torch import nn

from training.models.heads import Pooled


def separable(width_in: int, width: int, stride: int) -> list[nn.Module]:
    """Depthwise 3x3, BN, ReLU, pointwise, BN, ReLU: 1/width + 1/9 of the weights of a 3x3 convolution."""
    return [
        nn.Conv2d(width_in, width_in, 3, stride=stride, padding=1, groups=width_in, bias=False),
        nn.BatchNorm2d(width_in),
        nn.ReLU(inplace=True),
        nn.Conv2d(width_in, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def depthwise_cnn(channels: int, classes: int, _size: int) -> Pooled:
    """A 3x3 stem of 32 and seven separable blocks up to 512, stride 8."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
    ]
    width_in = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers += separable(width_in, width, stride)
        width_in = width
    return Pooled(nn.Sequential(*layers), width_in, classes)
