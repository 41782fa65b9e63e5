"""Where a layer's channels are, of torchvision's networks: told by what follows the image's height."""

import pytest
import torch
import torchvision
from torch import nn

from training.errors import TrainingError
from training.interpretation import activations
from training.interpretation.channel_axis import channel_axes
from training.interpretation.gradcam import grad_cam


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=3).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    return network("convnext_tiny")


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    return network("swin_t")


X = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_convnext_has_its_channels_last_within_its_blocks_only(convnext: nn.Module) -> None:
    names = [
        "features.0",
        "features.1.0.block.0",
        "features.1.0.block.1",
        "features.1.0.block.3",
        "features.1.0",
        "avgpool",
    ]
    assert list(channel_axes(convnext, names, X).values()) == [1, 1, 3, 3, 1, 1]
    assert activations.maps_of(convnext, "features.1.0.block.1", X).shape == (1, 96, 16, 24)
    assert torch.equal(  # block.1 is a Permute: the same maps
        activations.maps_of(convnext, "features.1.0.block.1", X),
        activations.maps_of(convnext, "features.1.0.block.0", X),
    )


def test_swin_has_its_channels_last_everywhere(swin: nn.Module) -> None:
    assert activations.last_maps(swin, X) == "features"
    assert activations.maps_of(swin, "features", X).shape == (1, 768, 2, 3)
    assert grad_cam(swin, "features.1.0", X, 0).shape == (16, 24)


def test_grad_cam_is_the_same_on_both_sides_of_a_permutation(convnext: nn.Module) -> None:
    sides = [grad_cam(convnext, f"features.7.2.block.{number}", X, 1) for number in (0, 1)]
    assert sides[0].max() > 0
    torch.testing.assert_close(*sides)


def test_what_is_no_map_is_refused_and_tokens_have_their_channels_last() -> None:
    vit = network("vit_b_32")
    x = torch.randn(1, 3, 224, 224)
    layer = "encoder.layers.encoder_layer_0"
    assert channel_axes(vit, ["conv_proj", layer], x) == {"conv_proj": 1, layer: 2}
    with pytest.raises(TrainingError, match=f'layer "{layer}" gives 50x768, no maps'):
        grad_cam(vit, layer, x, 0)


def test_four_axes_that_nobody_can_name_are_refused() -> None:
    """Swin V2's table of positions: as large for every image, and made by linear layers."""
    with pytest.raises(TrainingError, match="gives 15x15x512, no maps"):
        activations.maps_of(network("swin_v2_t"), "features.1.0.attn.cpb_mlp.0", X)


def test_maps_of_one_size_have_their_channels_where_convolutions_put_them() -> None:
    sequence = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d((7, 5)), nn.Flatten(), nn.Linear(140, 2))
    assert channel_axes(sequence, "0123", X) == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_a_silent_channel_is_counted_where_channels_are_last() -> None:
    torch.manual_seed(0)
    last = nn.Sequential(nn.Conv2d(3, 4, 3), torchvision.ops.Permute([0, 2, 3, 1]), nn.ReLU())
    last[0].weight.data[1], last[0].bias.data[1] = 0, -1
    assert activations.statistics(last, X)[2].silent == 0.25
