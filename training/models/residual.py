"""Residual CNNs for small images: the 3-block net and the deep one (He et al. 2015, arXiv:1512.03385)."""

import torch
from torch import Tensor, nn

from training.models.heads import Pooled


def _conv(width_in: int, width: int, kernel: int, stride: int, norm: bool) -> list[nn.Module]:
    """A convolution and its batch norm; without that it has a bias."""
    padding = kernel // 2
    layers: list[nn.Module] = [nn.Conv2d(width_in, width, kernel, stride=stride, padding=padding, bias=not norm)]
    return [*layers, nn.BatchNorm2d(width)] if norm else layers


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus a skip (1x1 conv-BN where the shape changes), ReLU after the sum."""

    def __init__(self, width_in: int, width: int, stride: int, norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(width_in, width, 3, stride, norm), nn.ReLU(inplace=True), *_conv(width, width, 3, 1, norm)
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.skip = nn.Sequential(*_conv(width_in, width, 1, stride, norm))

    def forward(self, x: Tensor) -> Tensor:
        """float[N, C_in, H, W] -> float[N, C_out, H/stride, W/stride]."""
        return torch.relu(self.body(x) + self.skip(x))


def _residual(
    channels: int, classes: int, blocks: list[tuple[int, int]], dropout: float = 0.0, norm: bool = True
) -> Pooled:
    """A 3x3 stem of 32 and a block for each (width, stride)."""
    layers = [*_conv(channels, 32, 3, 1, norm), nn.ReLU(inplace=True)]
    width_in = 32
    for width, stride in blocks:
        layers.append(ResidualBlock(width_in, width, stride, norm))
        width_in = width
    return Pooled(nn.Sequential(*layers), width_in, classes, dropout)


def residual_cnn(channels: int, classes: int, _size: int) -> Pooled:
    """Three blocks 64/128/256, each stride 2."""
    return _residual(channels, classes, [(64, 2), (128, 2), (256, 2)])


def residual_cnn_no_norm(channels: int, classes: int, _size: int) -> Pooled:
    """The same without batch norm: what the ablation trains."""
    return _residual(channels, classes, [(64, 2), (128, 2), (256, 2)], norm=False)


def deep_residual_cnn(channels: int, classes: int, _size: int) -> Pooled:
    """Stages 64/128/256 of two blocks, strides 1/2/2, dropout 0.3."""
    blocks = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
    return _residual(channels, classes, blocks, dropout=0.3)
