"""The registry and its two families."""

import re

import pytest
import torch
from torch import nn

from training import TrainingError, models
from training.models.residual import ResidualBlock


def parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize(("name", "count"), [("residual-cnn", 1_210_410), ("deep-residual-cnn", 2_760_490)])
def test_parameter_counts_at_3_channels_and_10_classes(name: str, count: int) -> None:
    assert parameters(models.build(name, 3, 10)) == count


@pytest.mark.parametrize("name", models.MODELS)
def test_the_registry_states_blocks_and_parameters_as_they_are(name: str) -> None:
    stated = re.fullmatch(r"(\d) residual blocks; ([\d.]+) M parameters", models.MODELS[name].about)
    assert stated
    network = models.build(name, 3, 10)
    assert sum(isinstance(each, ResidualBlock) for each in network.modules()) == int(stated[1])
    assert f"{parameters(network) / 1e6:.2f}" == stated[2]


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 16, 2), (3, 33, 7), (3, 64, 100)])
def test_channels_size_and_classes_are_parameters(name: str, channels: int, side: int, classes: int) -> None:
    network = models.build(name, channels, classes).eval()
    assert network(torch.zeros(2, channels, side, side)).shape == (2, classes)


@pytest.mark.parametrize(("name", "stride"), [("residual-cnn", 8), ("deep-residual-cnn", 4)])
def test_features_shrink_by_the_strides_of_the_family(name: str, stride: int) -> None:
    network = models.build(name, 3, 10)
    assert isinstance(network, models.PooledNetwork)
    assert network.features(torch.zeros(1, 3, 32, 32)).shape == (1, 256, 32 // stride, 32 // stride)


def test_only_the_deep_family_drops_out() -> None:
    rates = {
        name: [each.p for each in models.build(name, 3, 10).modules() if isinstance(each, nn.Dropout)]
        for name in models.MODELS
    }
    assert rates == {"residual-cnn": [0.0], "deep-residual-cnn": [0.3]}


def test_a_block_adds_its_input_to_what_it_computes() -> None:
    block = ResidualBlock(8, 8, stride=1).eval()
    nn.init.zeros_(block.body[-1].weight)
    x = torch.rand(2, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match='there is no model "residual-cn"') as refusal:
        models.build("residual-cn", 3, 10)
    assert refusal.value.hint == 'did you mean "residual-cnn"?'


def test_an_unlike_model_name_lists_all() -> None:
    with pytest.raises(TrainingError) as refusal:
        models.build("zzzz", 3, 10)
    assert all(name in refusal.value.hint for name in models.MODELS)
