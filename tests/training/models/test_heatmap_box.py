"""The maps lie where their places look, as the gradient has it."""

import pytest
import torch
from torch import nn

from app.artifact.decoder.decode import InputSpec
from training.models import registry
from training.variants.manifest import heatmap_box


def _spec(size: int) -> InputSpec:
    return InputSpec(
        width=size,
        height=size,
        channels=3,
        crop_fraction=1,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )


def _middle_seen(features: nn.Module, size: int, place: int) -> float:
    """Of the pixels of one side that the place of the grid's diagonal sees, the middle; edges count from 0."""
    x = torch.rand(64, 3, size, size, requires_grad=True)  # of each, a largest value of a pool is seen alone
    features(x)[:, :, place, place].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    return (int(seen.min()) + int(seen.max()) + 1) / 2


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)],
        [nn.Conv2d(3, 4, 3, 1, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 1, 1), nn.MaxPool2d(2)],
        [nn.Conv2d(3, 4, 5), nn.AvgPool2d(2), nn.Conv2d(4, 4, 5), nn.AvgPool2d(2)],
    ],
    ids=["strides", "pooling", "unpadded"],
)
def test_each_place_lies_in_the_middle_of_what_it_sees(layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    features, size = nn.Sequential(*layers).eval(), 64
    rows = features(torch.zeros(1, 3, size, size)).shape[2]
    box = heatmap_box(features, _spec(size), (rows, rows))
    assert box is not None
    left, top, right, bottom = box
    assert (left, right) == (top, bottom)
    for place in (rows // 2 - 1, rows // 2):  # far from the edges
        assert left + (place + 0.5) * (right - left) / rows == pytest.approx(
            _middle_seen(features, size, place), abs=0.51
        )


def test_the_maps_of_the_embedded_network_are_shifted_by_its_strides() -> None:
    network = registry.build("residual-cnn", 3, 10, 32)
    assert heatmap_box(network.get_submodule("features"), _spec(32), (4, 4)) == (-3.5, -3.5, 28.5, 28.5)


def test_what_sees_everything_has_no_box_of_its_own() -> None:
    everything = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.Unflatten(1, (1, 4, 4)))
    assert heatmap_box(everything, _spec(32), (4, 4)) is None


def test_the_maps_of_an_enlarged_image_lie_in_the_image_that_was_enlarged() -> None:
    features = registry.build("residual-cnn", 3, 10, 96).get_submodule("features")
    assert heatmap_box(features, _spec(32), (12, 12), enlarge=96) == pytest.approx(
        [e / 3 for e in (-3.5, -3.5, 92.5, 92.5)]
    )
