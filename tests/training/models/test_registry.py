"""Every network of the registry: its stated figures, its head, and what it cannot take."""

import warnings

import pytest
import torch
from torch import nn

from training.errors import TrainingError
from training.models import layer_table, registry
from training.models.depthwise import separable
from training.models.heads import Pooled
from training.models.residual import ResidualBlock

# Lecun et al. 1998 (but for its subsampling weights), and what torchvision's documentation says of the others
PUBLISHED = {
    "lenet-5": 61_706,
    "torchvision/alexnet": 61_100_840,
    "torchvision/vgg16": 138_357_544,
    "torchvision/resnet18": 11_689_512,
    "torchvision/resnet34": 21_797_672,
    "torchvision/resnet50": 25_557_032,
    "torchvision/efficientnet_b0": 5_288_548,
    "torchvision/mobilenet_v3_small": 2_542_856,
    "torchvision/vit_b_16": 86_567_656,
    "torchvision/convnext_tiny": 28_589_128,
}
TO_FEW_CLASSES = [name for name, model in registry.MODELS.items() if model.parameters < 30_000_000]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert registry.MODELS[name].parameters == PUBLISHED[name]


@pytest.mark.parametrize("name", registry.MODELS)
def test_the_registry_states_every_figure_as_it_is(name: str) -> None:
    model = registry.MODELS[name]
    channels, classes, size = model.at
    with torch.device("meta") if model.parameters > 30_000_000 else torch.device("cpu"):
        network = registry.build(name, channels, classes, size)
    assert layer_table.parameters(network) == model.parameters
    assert layer_table.macs(network, channels, size) == model.macs
    assert (layer_table.receptive_field(network.features, channels, size) or 0) == model.receptive_field
    assert (isinstance(network, Pooled) and isinstance(network.head, nn.Linear)) == model.heatmap


@pytest.mark.parametrize("name", TO_FEW_CLASSES)
def test_classes_and_size_are_parameters(name: str) -> None:
    channels, _, size = registry.MODELS[name].at
    size = 32 if size == 28 else 64
    network = registry.build(name, channels, 7, size).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in registry.MODELS if not registry.zoo_of(name)])
def test_own_networks_take_grey_images(name: str) -> None:
    network = registry.build(name, 1, 2, 32).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 2)


def test_a_hidden_head_has_two_layers_behind_the_same_features() -> None:
    network = registry.build("residual-cnn", 3, 10, 32, head_hidden=256)
    assert [type(layer) for layer in network.head.children()] == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("width", [16, 64])
def test_separable_convolutions_have_the_share_of_weights_that_their_paper_says(width: int) -> None:
    weights = sum(layer.weight.numel() for layer in separable(32, width, 1) if isinstance(layer, nn.Conv2d))
    assert weights / nn.Conv2d(32, width, 3, bias=False).weight.numel() == pytest.approx(1 / width + 1 / 9)


def test_a_block_adds_its_input_to_what_it_computes() -> None:
    block = ResidualBlock(8, 8, stride=1).eval()
    nn.init.zeros_(block.body[-1].weight)
    x = torch.rand(2, 8, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", ["googlenet", "densenet121", "shufflenet_v2_x0_5"])
def test_any_classification_network_of_torchvision_can_be_named(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error")
        network = registry.build(f"torchvision/{name}", 3, 4, 64)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("residual-cn", 'there is no model "residual-cn"', 'did you mean "residual-cnn"'),
        (
            "torchvision/resnet19",
            'torchvision has no classification network "resnet19"',
            'did you mean "torchvision/resnet18"',
        ),
        ("squeezenet", 'there is no model "squeezenet"', 'did you mean "torchvision/squeezenet1_'),
        ("mobilenet", 'there is no model "mobilenet"', 'did you mean "torchvision/mobilenet_v'),
        ("resnet18", 'there is no model "resnet18"', 'did you mean "torchvision/resnet18"'),
        (
            "torchvision/squeezenet1_0",
            "the last layer of torchvision/squeezenet1_0 is not linear",
            "torchvision/mobilenet_v3_small",
        ),
    ],
)
def test_what_cannot_be_built_is_said(name: str, message: str, hint: str) -> None:
    with pytest.raises(TrainingError, match=message) as refusal:
        registry.build(name, 3, 10, 224)
    assert hint in refusal.value.hint


def test_an_unlike_model_name_lists_all() -> None:
    with pytest.raises(TrainingError) as refusal:
        registry.build("zzzz", 3, 10, 32)
    assert all(name in refusal.value.hint for name in registry.MODELS)


@pytest.mark.parametrize(("name", "size"), [("lenet-5", 16), ("torchvision/alexnet", 32)])
def test_a_size_that_a_network_cannot_take_is_refused(name: str, size: int) -> None:
    with pytest.raises(TrainingError, match=f"cannot take {size} pixels"):
        registry.build(name, 3, 10, size)


def test_torchvisions_networks_refuse_grey_images() -> None:
    with pytest.raises(TrainingError, match="takes colour images"):
        registry.build("torchvision/resnet18", 1, 10, 224)


def test_a_size_that_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(TrainingError, match="vit_b_16 cannot be made for 100 pixels"):
        registry.build("torchvision/vit_b_16", 3, 10, 100)
