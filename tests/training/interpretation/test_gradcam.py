"""Grad-CAM is the heat map of the served graph where that exists, and works for any layer with maps elsewhere."""

import pytest
import torch
import torchvision
from torch import nn

from app.artifact.decoder.decode import decode
from app.settings import DEFAULT_MODEL
from tests.images import drawing, encode
from training.errors import TrainingError
from training.interpretation.gradcam import grad_cam
from training.models.servable import Servable
from training.runs.trained_model import TrainedModel


def test_behind_pooling_and_a_linear_head_it_is_the_heat_map_without_its_bias() -> None:
    """ReLU(heat map - bias) / (h w) of every class, on the trained network."""
    loaded = TrainedModel.load(DEFAULT_MODEL)
    pixels = torch.from_numpy(decode(encode(drawing(40, 32, seed=3)), loaded.input).pixels)[None]
    heatmap = Servable(loaded.network, loaded.normalise)(pixels).heatmap
    assert heatmap is not None
    bias = loaded.network.head.bias
    assert (heatmap[0] - bias[:, None, None]).max() > 1, "there is something to compare"
    for label in range(10):
        expected = torch.relu(heatmap[0, label] - bias[label]) / 16
        found = grad_cam(loaded.network, "features", loaded.normalise(pixels), label)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_channels_count_by_their_mean_gradient_at_any_layer() -> None:
    """y = 2 a^2 - b summed over places: the gradients are 4 a and -1."""

    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.maps(x)
            return (2 * x[:, 0] ** 2 - x[:, 1]).sum(dim=(1, 2))[:, None]

    x = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.relu(4 * x[0, 0].mean() * x[0, 0] - x[0, 1])
    torch.testing.assert_close(grad_cam(Squares(), "maps", x, 0), expected)


@pytest.mark.parametrize(
    ("name", "layer", "places"),
    [
        ("resnet18", "layer4", 2),
        ("resnet18", "layer2.0.bn2", 8),  # which `out += identity` and an in-place ReLU overwrite
        ("resnet18", "conv1", 32),
        ("mobilenet_v3_small", "features", 2),
        ("mobilenet_v3_small", "features.1", 16),
    ],
)
def test_any_layer_and_class_of_torchvisions_networks(name: str, layer: str, places: int) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, num_classes=5).eval().requires_grad_(False)
    x = torch.randn(1, 3, 64, 64)
    maps = [grad_cam(network, layer, x, label) for label in range(5)]
    assert all(each.shape == (places, places) and not each.requires_grad for each in maps)
    assert all((each >= 0).all() for each in maps)
    assert max(float(each.max()) for each in maps) > 0


@pytest.mark.parametrize("layer", ["head", "dropout"])
def test_a_layer_without_maps_is_refused(layer: str) -> None:
    loaded = TrainedModel.load(DEFAULT_MODEL)
    with pytest.raises(TrainingError, match=f'layer "{layer}" gives .* no maps'):
        grad_cam(loaded.network, layer, torch.zeros(1, 3, 32, 32), 0)
