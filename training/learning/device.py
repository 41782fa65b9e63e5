"""Where a network learns: on the CPU, an NVIDIA GPU (cuda) or Apple's (mps)."""

from typing import Literal

import torch
from torch import Tensor, nn

from app import machine
from training.errors import TrainingError

NAMES = ("auto", "cpu", "cuda", "mps")
# Of pixels that are evaluated at once: what a cache holds, what keeps a GPU busy
EVALUATED_BYTES = {"cpu": 2**20, "cuda": 2**22, "mps": 2**22}


def choose(name: str) -> str:
    """`cpu`, `cuda` or `mps`; of `auto` the first of cuda, mps and cpu that is here.

    Raises TrainingError for a name that is none, and for a device that is not here: what is named is never replaced.
    """
    if name not in NAMES:
        raise TrainingError(f'there is no device "{name}"', f"known: {', '.join(NAMES)}")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in here.items() if there)
    if not here[name]:
        found = f"torch {torch.__version__}, {', '.join(device for device, there in here.items() if there)}"
        why = ""
        if name == "mps":
            built = torch.backends.mps.is_built()
            why = ": it takes macOS 14 or newer on Apple silicon" if built else ": this torch was built without it"
        kind = {"cuda": "CUDA", "mps": "MPS"}[name]
        raise TrainingError(f"there is no {kind} device here ({found}){why}", "--device cpu, or leave --device out")
    return name


def described(name: str) -> str:
    """The device as its maker calls it, as far as torch says."""
    return torch.cuda.get_device_name() if name == "cuda" else {"mps": "Apple GPU"}.get(name, name)


def precision(name: str, network: nn.Module) -> Literal["float32", "bfloat16"]:
    """`bfloat16` where the device multiplies it natively, else `float32`; by the kind of device and of layers, not by a
    timing, so that a run that is resumed goes on as it began.

    On MPS float32: bfloat16 takes macOS 14 and an M2 to be native, of which torch says nothing. On a CPU float32, too,
    where channels are filtered one by one: depthwise convolutions in bfloat16 make a step take up to twice as long, and
    the rest gains less (docs/choose.md).
    """
    if name == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = name == "cpu" and machine.multiplies_bfloat16() and not any(map(is_depthwise, network.modules()))
    return "bfloat16" if native else "float32"


def is_depthwise(layer: nn.Module) -> bool:
    """Whether it is a convolution of each channel alone (MobileNet, EfficientNet, ConvNeXt)."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def memory_format(name: str) -> torch.memory_format:
    """Channels-last is what oneDNN and cuDNN want: 1.5x per step on a CPU against the default layout. On MPS the
    default: batch norm's backward failed on the other until 2026 (pytorch/pytorch#188371)."""
    return torch.contiguous_format if name == "mps" else torch.channels_last


def moved(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device; without waiting for it where that is safe.

    On MPS it is not: where the source is freed before the copy, numbers change (pytorch/pytorch#189690, before 2.13).
    """
    return x.to(device, non_blocking=device.type != "mps")


def laid_out(x: Tensor) -> Tensor:
    """float[N, C, H, W] in the memory format of its device."""
    return x.contiguous(memory_format=memory_format(x.device.type))
