"""What layers answer: kept as they gave it, and counted per block."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from training.errors import TrainingError
from training.interpretation import activations
from training.models import registry


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None, num_classes=3).eval()


def test_a_layers_answer_is_kept_from_what_works_in_place_behind_it(resnet: nn.Module) -> None:
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = resnet.bn1(resnet.conv1(x))
    found = activations.maps_of(resnet, "bn1", x)
    assert torch.equal(found, expected)
    assert found.min() < 0


def test_watching_changes_no_answer_and_leaves_no_hook(resnet: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = resnet(x)
        with activations.watching(resnet, [name for name, _ in resnet.named_modules() if name]):
            watched = resnet(x)
    assert torch.equal(plain, watched)
    assert not any(module._forward_hooks for module in resnet.modules())


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (lambda: registry.build("residual-cnn", 3, 10, 32), 32, "features"),
        (lambda: torchvision.models.resnet18(weights=None), 64, "layer4"),
        (lambda: torchvision.models.mobilenet_v3_small(weights=None), 64, "features"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16, "1"),
    ],
    ids=["own", "resnet18", "mobilenet", "sequence"],
)
def test_the_last_maps_come_before_the_pooling(make: object, size: int, expected: str) -> None:
    network = make().eval()
    assert activations.last_maps(network, torch.randn(1, 3, size, size)) == expected


def test_a_network_without_maps_says_so() -> None:
    with pytest.raises(TrainingError, match="no layer with feature maps"):
        activations.last_maps(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2))


def test_an_unknown_layer_names_the_nearest(resnet: nn.Module) -> None:
    with pytest.raises(TrainingError, match='there is no layer "layer5"') as refusal:
        activations.maps_of(resnet, "layer5", torch.zeros(1, 3, 64, 64))
    assert refusal.value.hint.startswith('did you mean "layer')


class Four(nn.Module):
    """Four channels: a gradient, one that is negative everywhere, one that is zero, one that is zero in half."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
        self.head = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_statistics_per_block_are_counted_by_hand() -> None:
    x = torch.ones(3, 4, 2, 2)
    x[:, 1], x[:, 2], x[:, 3, 0] = -2, 0, -1
    before, after, flat = activations.statistics(Four().eval(), x.clone())
    assert [each.name for each in (before, after, flat)] == ["features.0", "features.1", "head"]
    assert (before.mean_absolute, before.zeros, before.silent) == (1.0, 0.25, 0.25)
    assert before.std == pytest.approx(x.std(correction=0).item())
    assert (after.mean_absolute, after.zeros, after.silent) == (0.375, 0.625, 0.5)
    assert flat.silent == 0.625, "of a vector every unit is a channel"


def test_blocks_are_found_in_sequences_and_features(resnet: nn.Module) -> None:
    names = [row.name for row in activations.statistics(resnet, torch.randn(1, 3, 64, 64))]
    assert {"conv1", "layer1.0", "layer4.1", "fc"} <= set(names)
    mobile = torchvision.models.mobilenet_v3_small(weights=None).eval()
    assert {"features.0", "features.12", "classifier.3"} <= {name for name, _ in activations.blocks(mobile)}
