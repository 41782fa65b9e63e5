"""timm's classification networks by name, as features and a head."""

import re
from collections import Counter, OrderedDict
from contextlib import suppress
from functools import cache
from typing import Any

import timm
import torch
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from training.errors import TrainingError
from training.models.heads import Network, Pooled, State, with_own_head


@cache
def names() -> tuple[str, ...]:
    """timm's classification networks, as it calls them."""
    return tuple(timm.list_models())


def tensor_names(name: str) -> list[str]:
    """Of the state of the network that timm calls `name`, with its own thousand classes, in their order."""
    with torch.device("meta"):
        return list(timm.create_model(name, pretrained=False).state_dict())


def build(name: str, channels: int, classes: int, size: int) -> Network:
    """The network that timm calls `name`. Raises TrainingError where it does not fit."""
    if channels != 3:
        raise TrainingError(f"timm/{name} takes colour images", "--set channels=3")
    try:
        return split(_whole(name, size), classes, size)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:  # patches that do not divide the size, or so
        why = str(error).partition("\n")[0]
        raise TrainingError(
            f"timm/{name} cannot be made for {size} pixels: {why}", "--set input_size=224, or another model"
        ) from error


@torch.no_grad()
def shortened(name: str, network: Network, classes: int, blocks: int) -> Pooled:
    """`network` up to its `blocks`-th residual block, and a new linear head on what that makes, averaged over all
    places. The names of the weights stay.

    Raises TrainingError where it is no row of residual blocks, or of fewer.
    """
    stages = getattr(network.features, "blocks", None)
    if not (isinstance(network, Pooled) and isinstance(stages, nn.Sequential)):
        raise TrainingError(f"{name} is no row of residual blocks", "leave blocks out, or timm/tf_efficientnet_lite0")
    stages = [stage for stage in stages.children() if isinstance(stage, nn.Sequential)]
    there = sum(map(len, stages))
    if blocks > there:
        raise TrainingError(f"{name} has {there} residual blocks, not {blocks}", "leave blocks out: all")
    parts = dict(network.features.named_children())
    kept, left = [], blocks
    for stage in stages:
        kept.append(stage[:left])
        left -= len(kept[-1])
        if not left:
            break
    before = list(parts)[: list(parts).index("blocks")]
    features = nn.Sequential(OrderedDict([(key, parts[key]) for key in before] + [("blocks", nn.Sequential(*kept))]))
    width = features.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    return Pooled(features.train(), width, classes, network.dropout.p)


def published(name: str, classes: int, size: int, state: State) -> Network:
    """The network with all of its weights, the last layer's too, in timm's names. Raises TrainingError."""
    net = _whole(name, size).eval()
    net.load_state_dict(state)
    return with_own_head(net, net.get_classifier(), lambda: split(net, classes, size), size)  # type: ignore[operator]


def labels(name: str, classes: int) -> tuple[str, ...]:
    """Of a network's own classes, in its order, where they are ImageNet's 1,000 or one of its larger sets: WordNet's
    first name of each, and where two things have one name (crane, maillot), how WordNet explains it.

    Raises TrainingError where timm has no list of so many.
    """
    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        raise TrainingError(
            f"nothing says what the {classes:,} classes of timm/{name} are called", "a network of ImageNet's classes"
        )
    info = ImageNetInfo(subset)
    synsets: list[str] = info.label_names()  # type: ignore[no-untyped-call]
    details = info.label_descriptions(detailed=True)
    first = [description.partition(",")[0] for description in info.label_descriptions()]
    often = Counter(first)
    found = []
    for lemma, detail in zip(first, details, strict=True):
        meant = re.split(r"; | of ", detail.partition(": ")[2])[0]
        found.append(lemma if often[lemma] == 1 else f"{lemma} ({meant})")
    again = Counter(found)
    return tuple(
        label if again[label] == 1 else f"{label} {synset}" for label, synset in zip(found, synsets, strict=True)
    )


def _whole(name: str, size: int) -> nn.Module:
    """As timm makes it, for its own classes, with fresh weights."""
    config = timm.get_pretrained_cfg(name)
    arguments: dict[str, Any] = {"img_size": size} if config and config.fixed_input_size else {}
    net: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return net


@torch.no_grad()
def split(net: nn.Module, classes: int, size: int) -> Network:
    """Cut off the last layer. What is global average pooling and one layer from there on has class activation maps:
    timm's networks are of too many classes to say which, so an image is sent through.

    The names of the weights stay timm's, behind `features.`: its files can be loaded.
    """
    net.eval()
    image = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size)
    maps: Tensor = net.forward_features(image)  # type: ignore[operator]
    pooled: Tensor = net.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    last = net.get_classifier()  # type: ignore[operator]
    if isinstance(last, nn.Linear) and maps.ndim == 4 and maps.any() and _is_mean(maps, pooled):
        before = (
            (key, layer)
            for key, layer in net.named_children()
            if key != "global_pool" and last not in set(layer.modules())
        )
        features = nn.Sequential(OrderedDict(before))
        with suppress(NotImplementedError, RuntimeError, TypeError):  # of parts that do not simply follow one another
            if torch.equal(features(image), maps):
                return Pooled(features.train(), last.in_features, classes, float(getattr(net, "drop_rate", 0.0)))
    net.reset_classifier(0)  # type: ignore[operator]
    out: Tensor = net(image)
    if out.ndim != 2:
        raise ValueError("what comes before its last layer is not one vector an image")
    return Network(net.train(), out.shape[1], classes)


def _is_mean(maps: Tensor, pooled: Tensor) -> bool:
    mean = maps.mean(dim=(2, 3))
    return mean.shape == pooled.shape and torch.allclose(mean, pooled, atol=1e-5)
