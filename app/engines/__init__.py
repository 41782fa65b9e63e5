"""What runs the network: one protocol, one table of variants, each engine imported only when it is asked for."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray


class Outputs(NamedTuple):
    """One row per image: probabilities and logits float32[N, K], heatmap float32[N, K, h, w] or None."""

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    heatmap: NDArray[np.float32] | None


class Runs(Protocol):
    """Anything that answers pixels. Not safe for two threads at once: whoever holds it gives it one."""

    device: str
    """`cpu` or `cuda`: where it really runs."""

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """uint8[N, H, W, 3] RGB at the model's input size, N >= 1 -> Outputs. Raises EngineError."""
        ...


class Engine(Runs, Protocol):
    """Runs one exported variant, from its file."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Load `path`. `device`: auto, cpu, cuda or tensorrt. Raises EngineError."""
        ...


class EngineError(Exception):
    """The engine cannot be had or has failed; the message is one sentence."""


def one_line(error: Exception) -> str:
    """A native library's message, which may span many lines."""
    return " ".join(str(error).split())


class LibraryMissing(EngineError):
    """This install leaves out the library that a variant needs."""


ENGINES = {
    "onnx": "app.engines.onnx:OnnxEngine",
    "onnx-int8": "app.engines.onnx:OnnxEngine",
    "torchscript": "app.engines.torchscript:TorchScriptEngine",
}


def on_gpu(device: str) -> bool:
    """Whether the ONNX engine would run on a GPU for this DEVICE."""
    if device != "auto":
        return device in ("cuda", "tensorrt")
    return bool(_module_of("onnx").has_cuda())


def load(variant: str, path: Path, device: str = "auto", threads: int = 1) -> Engine:
    """The engine for a variant's file. Raises EngineError, or LibraryMissing where a package is what is missing."""
    engine = cast(type[Engine], getattr(_module_of(variant), ENGINES[variant].partition(":")[2]))
    return engine(path, device, threads)


def _module_of(variant: str) -> ModuleType:
    try:
        return importlib.import_module(ENGINES[variant].partition(":")[0])
    except ModuleNotFoundError as error:
        extra = "'.[torchscript]'" if variant == "torchscript" else "."
        raise LibraryMissing(
            f'variant "{variant}" needs {error.name}, which this install leaves out: pip install -e {extra},'
            " or choose another variant"
        ) from error
