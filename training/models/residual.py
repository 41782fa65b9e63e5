"""Residual CNNs for small pictures: the 3-block net and the deep one (He et al. 2015, arXiv:1512.03385)."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus a skip (1x1 conv-BN where the shape changes), ReLU after the sum."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """float[N, C_in, H, W] -> float[N, C_out, H/stride, W/stride]."""
        return torch.relu(self.body(x) + self.skip(x))


class ResidualCNN(nn.Module):
    """Stem, blocks, global average pooling, dropout, one linear layer.

    `features` and `head` are separate so that the export can turn the head into class activation maps.
    """

    def __init__(
        self, channels: int, classes: int, blocks: list[tuple[int, int]], stem: int = 32, dropout: float = 0.0
    ) -> None:
        """`blocks`: (channels out, stride) for each residual block."""
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        ]
        width = stem
        for channels_out, stride in blocks:
            layers.append(ResidualBlock(width, channels_out, stride))
            width = channels_out
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float[N, C, H, W] -> logits float[N, K]."""
        logits: Tensor = self.head(self.dropout(self.features(x).mean(dim=(2, 3))))
        return logits


def residual_cnn(channels: int, classes: int) -> ResidualCNN:
    """Three blocks 64/128/256, each stride 2: 1.21 M parameters at 3 channels and 10 classes."""
    return ResidualCNN(channels, classes, [(64, 2), (128, 2), (256, 2)])


def deep_residual_cnn(channels: int, classes: int) -> ResidualCNN:
    """Stages 64/128/256 of two blocks, strides 1/2/2, dropout 0.3: 2.76 M parameters at 3 channels, 10 classes."""
    blocks = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
    return ResidualCNN(channels, classes, blocks, dropout=0.3)
