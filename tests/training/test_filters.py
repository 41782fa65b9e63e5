"""The verdict on first-layer filters tells a trained network from a fresh one."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from training import TrainingError, eager, filters, models

EMBEDDED = Path(__file__).parents[2] / "exports/cifar10/1"


def test_the_filters_of_the_trained_network_have_structure() -> None:
    found = filters.describe(*filters.first(eager.load(EMBEDDED).network))
    assert (found.layer, found.shape, found.verdict) == ("features.0", (32, 3, 3, 3), filters.LEARNT)
    assert found.smoothness > 5 * found.noise_smoothness


@pytest.mark.parametrize("seed", range(10))
def test_those_of_the_same_network_before_training_look_like_noise(seed: int) -> None:
    """Also with the seed of the shuffles themselves: torch's generator would sort the weights that it drew."""
    torch.manual_seed(seed)
    found = filters.describe(*filters.first(models.build("residual-cnn", 3, 10, 32)))
    assert found.verdict == filters.NOISE
    assert abs(found.smoothness) < 0.1


def test_no_fresh_bank_of_another_shape_has_structure() -> None:
    torch.manual_seed(0)
    shapes = [(32, 1, 3, 3), (64, 3, 7, 7), (6, 1, 5, 5), (16, 3, 3, 3)]
    banks = [torch.randn(shape) for shape in shapes for _ in range(10)]
    assert {filters.describe("conv", bank).verdict for bank in banks} == {filters.NOISE}


def test_edges_have_structure_and_one_by_one_filters_no_verdict() -> None:
    ramp = torch.linspace(-1, 1, 5)
    edges = torch.stack([ramp.expand(5, 5) * scale for scale in (1, 2, 3, -1)] * 4)[:, None]
    assert filters.describe("conv", edges).verdict == filters.LEARNT
    assert filters.describe("conv", torch.randn(8, 3, 1, 1)).verdict == ""


def test_statistics_are_those_of_the_weights() -> None:
    torch.manual_seed(0)
    weights = torch.randn(10, 3, 3, 3) + 0.5
    weights[:2] = 0.001 * torch.randn(2, 3, 3, 3)
    found = filters.describe("conv", weights)
    assert found.near_dead == pytest.approx(0.2)
    assert found.mean == pytest.approx(weights.mean().item())
    assert found.std == pytest.approx(weights.std(correction=0).item())
    assert filters.describe("conv", weights) == found, "the shuffles are seeded"


def test_the_first_convolution_is_found_anywhere() -> None:
    name, weights = filters.first(torchvision.models.mobilenet_v3_small(weights=None))
    assert (name, weights.shape) == ("features.0.0", (16, 3, 3, 3))
    with pytest.raises(TrainingError, match="no convolution"):
        filters.first(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
