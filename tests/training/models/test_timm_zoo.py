"""timm's networks: what is cut off, and EfficientNet-Lite against an independent implementation of the same weights."""

from pathlib import Path

import efficientnet_lite_pytorch
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo
from torch import Tensor

from app.artifact.decoder.decode import decode
from tests.images import encode
from training.errors import TrainingError
from training.models import registry
from training.models.heads import Network, Pooled
from training.models.servable import Normalise
from training.weights import pretrained, published

CAT = Path(__file__).parents[3] / "cat.jpg"
PHOTOGRAPHS = [
    CAT.read_bytes(),
    *(encode(Image.fromarray(load_sample_image(f"{name}.jpg"))) for name in ("china", "flower")),
]
SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}


def whole(kind: str) -> tuple[Network, Tensor]:
    """The network with its own thousand classes, and its input for the photographs."""
    weights = published.of(f"timm/tf_efficientnet_{kind}")
    assert weights is not None
    network = registry.build(weights.model, 3, 1000, SIZES[kind]).eval()
    state = weights.state()
    features = {f"features.{name}": tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    head = {f"head.{name}": state[f"classifier.{name}"] for name in ("weight", "bias")}
    network.load_state_dict(features | head)
    spec = weights.input(SIZES[kind])
    pixels = np.stack([decode(data, spec).pixels for data in PHOTOGRAPHS])
    return network, Normalise(spec.mean, spec.std)(torch.from_numpy(pixels))


@pytest.mark.parametrize("kind", SIZES)
def test_it_is_what_another_implementation_makes_of_the_same_weights(kind: str) -> None:
    network, images = whole(kind)
    weights = published.of(f"timm/tf_efficientnet_{kind}")
    assert isinstance(weights, published.Packaged)
    other = efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-{kind}")
    other.load_state_dict(torch.load(weights.path, weights_only=True))
    with torch.inference_mode():
        assert torch.allclose(network(images), other.eval()(images), atol=1e-4)


@pytest.mark.parametrize("kind", SIZES)
def test_it_knows_what_the_photographs_show(kind: str) -> None:
    network, images = whole(kind)
    with torch.inference_mode():
        first = network(images).argmax(dim=1).tolist()
    said = [ImageNetInfo().index_to_description(number) for number in first]
    assert "cat" in said[0]
    assert said[1] == "palace"  # the third shows a dahlia, which is none of the thousand


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tf_efficientnet_lite0", Pooled),
        ("resnet18", Pooled),
        ("regnety_002", Pooled),
        ("mobilenetv3_small_100", Network),  # a layer and an activation between pooling and the last
        ("convnext_atto", Network),  # a norm between them
        ("vit_tiny_patch16_224", Network),
        ("swin_tiny_patch4_window7_224", Network),  # maps with their channels last
        ("hrnet_w18_small", Network),  # parts that do not follow one another
    ],
)
def test_what_has_class_activation_maps_is_seen_by_what_it_computes(name: str, kind: type[Network]) -> None:
    network = registry.build(f"timm/{name}", 3, 5, 224)
    assert type(network) is kind
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "convnext_atto", "vit_tiny_patch16_224", "ghostnet_100"])
def test_its_weights_are_what_timms_own_network_has_before_its_last_layer(name: str) -> None:
    torch.manual_seed(0)
    own = timm.create_model(name, pretrained=False).eval()
    network = registry.build(f"timm/{name}", 3, 5, 224).eval()
    pretrained.Weights("w.pth", own.state_dict()).copy_into(network, (), f"timm/{name}")
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(network.embed(image), own.forward_head(own.forward_features(image), pre_logits=True))


def test_of_a_row_of_blocks_the_first_are_kept_with_their_weights() -> None:
    torch.manual_seed(0)
    own = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network = registry.build("timm/tf_efficientnet_lite0", 3, 5, 64, blocks=4).eval()
    pretrained.Weights("w.pth", own.state_dict()).copy_into(network, (), "timm/tf_efficientnet_lite0", blocks=4)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        third = own.blocks[2][0](own.blocks[1](own.blocks[0](own.bn1(own.conv_stem(image)))))  # after 1 + 2 + 1
        assert torch.equal(network.features(image), third)
        assert torch.allclose(network.embed(image), third.mean(dim=(2, 3)))
    assert type(network) is Pooled and network(image).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("timm/tf_efficientnet_lite0", 17), ("timm/vit_tiny_patch16_224", 3), ("residual-cnn", 3), ("timm/resnet18", 2)],
)
def test_blocks_that_are_not_there_are_refused(name: str, blocks: int) -> None:
    with pytest.raises(TrainingError, match="residual blocks") as refusal:
        registry.build(name, 3, 5, 224, blocks=blocks)
    assert name in str(refusal.value) and "leave blocks out" in refusal.value.hint


def test_a_transformer_is_made_for_the_size() -> None:
    network = registry.build("timm/vit_tiny_patch16_224", 3, 5, 96).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("resnet18", 1, 224), ("resnet81", 3, 224), ("vgg11", 3, 16)],
)
def test_what_does_not_fit_is_refused(name: str, channels: int, size: int) -> None:
    with pytest.raises(TrainingError) as refusal:
        registry.build(f"timm/{name}", channels, 5, size)
    assert name.partition("_")[0] in str(refusal.value)
    assert refusal.value.hint
