"""torchvision's classification networks by name, as features and a head."""

from collections import OrderedDict
from typing import Any

import torchvision
from torch import nn

from training.errors import TrainingError
from training.models.heads import Network, Pooled, State, flat_width, with_own_head

_OF_SIZE = 224  # what they were published for; where an image may be too small for them is not looked at above it

# Both have side outputs, in training only, that no loss here takes; their own initialisation takes scipy a minute.
_WITHOUT_SIDES = {"aux_logits": False, "init_weights": False}
_ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": _WITHOUT_SIDES, "inception_v3": _WITHOUT_SIDES}


def names() -> list[str]:
    """torchvision's classification networks, as it calls them."""
    known: list[str] = torchvision.models.list_models(module=torchvision.models)
    return known


def build(name: str, channels: int, classes: int, size: int) -> Network:
    """The network that torchvision calls `name`. Raises TrainingError where it does not fit."""
    if channels != 3:
        raise TrainingError(f"torchvision/{name} takes colour images", "--set channels=3")
    network = split(name, _whole(name, size), classes)
    if size < _OF_SIZE:
        flat_width(network.features, channels, size)
    return network


def published(name: str, classes: int, size: int, state: State) -> Network:
    """The network with all of its weights, the last layer's too, in torchvision's names. Raises TrainingError."""
    net = _whole(name, size).eval()
    found = net.load_state_dict(state, strict=False)  # some have side outputs besides, which nothing here has
    if found.missing_keys:
        raise TrainingError(f"its weights have no {found.missing_keys[0]}")
    return with_own_head(net, list(net.modules())[-1], lambda: split(name, net, classes), size)


def _whole(name: str, size: int) -> nn.Module:
    """As torchvision makes it, for its own classes, with fresh weights. Raises TrainingError where it does not fit."""
    arguments = {"image_size": size} if name.startswith("vit_") else _ARGUMENTS.get(name, {})
    try:
        net: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
    except (AssertionError, ValueError) as error:  # a transformer whose patches do not divide the size
        raise TrainingError(
            f"torchvision/{name} cannot be made for {size} pixels: {error}", "--set input_size=224"
        ) from error
    return net


def split(name: str, net: nn.Module, classes: int) -> Network:
    """Cut off the last layer. What is global average pooling and one layer from there on has class activation maps.

    The names of the weights stay torchvision's, behind `features.`: its files can be loaded.
    """
    if isinstance(net, torchvision.models.ResNet):
        layers = OrderedDict((key, layer) for key, layer in net.named_children() if key not in ("avgpool", "fc"))
        return Pooled(nn.Sequential(layers), net.fc.in_features, classes)
    if isinstance(net, torchvision.models.EfficientNet | torchvision.models.MobileNetV2):
        dropout, last = net.classifier
        return Pooled(net.features, last.in_features, classes, dropout.p)
    path, last = [(path, module) for path, module in net.named_modules() if path][-1]
    if not isinstance(last, nn.Linear):
        raise TrainingError(
            f"the last layer of torchvision/{name} is not linear, so it cannot be replaced",
            "a small one whose last layer is: torchvision/mobilenet_v3_small",
        )
    parent, _, attribute = path.rpartition(".")
    setattr(net.get_submodule(parent), attribute, nn.Identity())
    return Network(net, last.in_features, classes)


def small_resnet(name: str, channels: int, classes: int) -> Pooled:
    """A ResNet with a 3x3 stem, no stride, no pooling: the other leaves one place of 32 px (4.2 of the paper)."""
    net = torchvision.models.get_model(name, weights=None)
    stem = OrderedDict(conv1=nn.Conv2d(channels, 64, 3, padding=1, bias=False), bn1=net.bn1, relu=net.relu)
    layers = OrderedDict((key, getattr(net, key)) for key in ("layer1", "layer2", "layer3", "layer4"))
    return Pooled(nn.Sequential(stem | layers), net.fc.in_features, classes)


def small_resnet18(channels: int, classes: int, _size: int) -> Pooled:
    """ResNet-18 for 32 px."""
    return small_resnet("resnet18", channels, classes)


def small_resnet34(channels: int, classes: int, _size: int) -> Pooled:
    """ResNet-34 for 32 px."""
    return small_resnet("resnet34", channels, classes)


def small_resnet50(channels: int, classes: int, _size: int) -> Pooled:
    """ResNet-50 for 32 px."""
    return small_resnet("resnet50", channels, classes)
