"""CNNs without skips: convolutions, pooling, and a dense layer on the flattened rest."""

from torch import nn

from training.models.heads import Network, flat_width


def _conv(width_in: int, width: int, norm: bool = True) -> list[nn.Module]:
    """A 3x3 convolution that keeps the size; batch norm takes over its bias."""
    after: list[nn.Module] = [nn.BatchNorm2d(width)] if norm else []
    return [nn.Conv2d(width_in, width, 3, padding=1, bias=not norm), *after, nn.ReLU(inplace=True)]


def _pooling_cnn(widths: list[int], dense: int, channels: int, classes: int, size: int, norm: bool = True) -> Network:
    """conv-ReLU-pool for each width, then one dense layer with dropout 0.5."""
    layers: list[nn.Module] = []
    for width_in, width in zip([channels, *widths], widths, strict=False):
        layers += [*_conv(width_in, width, norm), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    flat = flat_width(nn.Sequential(*layers), channels, size)
    layers += [nn.Linear(flat, dense), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return Network(nn.Sequential(*layers), dense, classes)


def mnist_cnn(channels: int, classes: int, size: int) -> Network:
    """conv-BN-ReLU-pool 32 and 64, dense 128."""
    return _pooling_cnn([32, 64], 128, channels, classes, size)


def basic_cnn(channels: int, classes: int, size: int) -> Network:
    """conv-ReLU-pool 32 and 64, dense 256, no batch norm."""
    return _pooling_cnn([32, 64], 256, channels, classes, size, norm=False)


def plain_cnn(channels: int, classes: int, size: int) -> Network:
    """conv-BN-ReLU-pool 32, 64 and 128, dense 256."""
    return _pooling_cnn([32, 64, 128], 256, channels, classes, size)


def vgg_style(channels: int, classes: int, size: int) -> Network:
    """Two blocks of (conv-BN-ReLU) x2, pool, dropout, 32 and 64 wide; dense 512 with batch norm."""
    layers: list[nn.Module] = []
    for width_in, width in ((channels, 32), (32, 64)):
        layers += [*_conv(width_in, width), *_conv(width, width), nn.MaxPool2d(2), nn.Dropout2d(0.25)]
    layers.append(nn.Flatten())
    flat = flat_width(nn.Sequential(*layers), channels, size)
    layers += [nn.Linear(flat, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return Network(nn.Sequential(*layers), 512, classes)
