"""Weights of a larger network of the same make: every tensor that is looked for is there, and others besides."""

import pytest
import torch
import torchvision
from torch import nn

from training.errors import TrainingError
from training.models import registry
from training.models.heads import Network
from training.weights import pretrained

LABELS = ("a", "b", "c")
LARGER = [
    ("resnet34", "resnet18"),
    ("resnet101", "resnet50"),
    ("convnext_small", "convnext_tiny"),
    ("swin_s", "swin_t"),
    ("efficientnet_b1", "efficientnet_b0"),
]


def subject(name: str) -> Network:
    return registry.build(f"torchvision/{name}", 3, len(LABELS), 224)


@pytest.mark.parametrize(("larger", "name"), LARGER)
def test_a_larger_networks_file_is_refused(larger: str, name: str) -> None:
    with torch.device("meta"):
        donor, wanted = torchvision.models.get_model(larger, weights=None), subject(name)
    found = pretrained.Weights("w.pth", donor.state_dict())
    with pytest.raises(TrainingError, match=f"w.pth does not fit torchvision/{name}: .* another, larger network"):
        found.copy_into(wanted, LABELS, f"torchvision/{name}")


def test_the_refusal_names_one_tensor_of_those_too_many_and_copies_none() -> None:
    donor, wanted = torchvision.models.resnet34(weights=None), registry.build("torchvision/resnet18", 3, 3, 64)
    before = {name: tensor.clone() for name, tensor in wanted.state_dict().items()}
    with pytest.raises(TrainingError, match=r'has 96 tensors more, such as "features\.layer1\.2\.conv1\.weight"'):
        pretrained.Weights("w.pth", donor.state_dict()).copy_into(wanted, LABELS, "torchvision/resnet18")
    assert all(torch.equal(tensor, before[name]) for name, tensor in wanted.state_dict().items())


def test_a_longer_row_of_layers_of_our_own_is_refused() -> None:
    with torch.device("meta"):
        wanted = registry.build("residual-cnn", 3, 3, 32)
    state = wanted.state_dict() | {"features.99.conv.weight": torch.zeros(1)}
    with pytest.raises(TrainingError, match=r'has 1 tensor more, such as "features\.99\.conv\.weight"'):
        pretrained.Weights("w.pth", state).copy_into(wanted, LABELS, "residual-cnn")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_side_outputs_are_left_out(name: str) -> None:
    with torch.device("meta"):
        donor = torchvision.models.get_model(name, weights=None, aux_logits=True, init_weights=False)
        wanted = registry.build(f"torchvision/{name}", 3, len(LABELS), 299)
    assert any(key.startswith(("aux1.", "AuxLogits.")) for key in donor.state_dict())
    pretrained.Weights("w.pth", donor.state_dict()).copy_into(wanted, LABELS, f"torchvision/{name}")


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("vgg11", "classifier"), ("vit_b_32", "heads")])
def test_a_last_layer_that_someone_made_longer_is_left_out(name: str, head: str) -> None:
    with torch.device("meta"):
        donor, wanted = torchvision.models.get_model(name, weights=None), subject(name)
        last = getattr(donor, head)
        longer = last if isinstance(last, nn.Sequential) else nn.Sequential(last)
        setattr(donor, head, nn.Sequential(*longer, nn.ReLU(), nn.Linear(1000, 5)))
    state = {key.replace("heads.0.", "heads.head."): tensor for key, tensor in donor.state_dict().items()}
    pretrained.Weights("w.pth", state).copy_into(wanted, LABELS, f"torchvision/{name}")
