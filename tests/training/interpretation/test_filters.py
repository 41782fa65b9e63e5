"""The verdict on first-layer filters: what is more than random, and what nobody can tell."""

import math
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from app.settings import DEFAULT_MODEL
from training.interpretation import filters
from training.models import registry
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel


def first(network: nn.Module) -> tuple[str, Tensor]:
    found = filters.first(network)
    assert found is not None
    return found


def test_the_filters_of_the_trained_network_have_structure() -> None:
    found = filters.describe(*first(TrainedModel.load(DEFAULT_MODEL).network))
    assert (found.layer, found.shape, found.verdict) == ("features.0", (32, 3, 3, 3), filters.STRUCTURE)
    assert found.smoothness > 5 * found.noise_smoothness


@pytest.mark.parametrize("seed", range(10))
def test_those_of_the_same_network_before_training_cannot_be_told_from_random_ones(seed: int) -> None:
    """Also with the seed of the shuffles themselves: torch's generator would sort the weights that it drew."""
    torch.manual_seed(seed)
    found = filters.describe(*first(registry.build("residual-cnn", 3, 10, 32)))
    assert found.verdict == filters.UNKNOWN
    assert abs(found.smoothness) < 0.1


def test_no_fresh_bank_of_another_shape_has_structure() -> None:
    torch.manual_seed(0)
    shapes = [(32, 1, 3, 3), (64, 3, 7, 7), (6, 1, 5, 5), (16, 3, 3, 3)]
    banks = [torch.randn(shape) for shape in shapes for _ in range(10)]
    assert {filters.describe("conv", bank).verdict for bank in banks} == {filters.UNKNOWN}


def test_edges_have_structure_and_one_by_one_filters_no_verdict() -> None:
    ramp = torch.linspace(-1, 1, 5)
    edges = torch.stack([ramp.expand(5, 5) * scale for scale in (1, 2, 3, -1)] * 4)[:, None]
    assert filters.describe("conv", edges).verdict == filters.STRUCTURE
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
    name, weights = first(torchvision.models.mobilenet_v3_small(weights=None))
    assert (name, weights.shape) == ("features.0.0", (16, 3, 3, 3))
    assert filters.first(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) is None


def test_a_good_network_whose_first_layer_stayed_near_its_start_is_not_called_bad(digits_run: Path) -> None:
    """Above 0.9 on val, and still nothing shows in the first layer: that is no reason to blame its training."""
    assert max(row["val_accuracy"] for row in Run.open(digits_run).history()) > 0.9
    layer, weights = first(TrainedModel.load(digits_run).network)
    start = 1 / math.sqrt(3 * weights[0].numel())  # of PyTorch's uniform initialisation
    found = filters.describe(layer, weights)
    assert found.std == pytest.approx(start, rel=0.1), "hardly anything moved"
    assert found.verdict == filters.UNKNOWN


def test_shuffled_weights_spread_as_fresh_initialisations_do() -> None:
    torch.manual_seed(0)
    fresh = [nn.Conv2d(1, 32, 3).weight.detach() for _ in range(60)]
    found = torch.tensor([filters.describe("conv", weights).smoothness for weights in fresh])
    limit = filters.describe("conv", fresh[0]).noise_smoothness
    assert limit == pytest.approx((found.mean() + filters.DEVIATIONS * found.std()).item(), abs=0.05)
