"""How is a file run? One protocol, one table of variants (see variants.py), each engine imported on demand."""

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from app.engines.variants import VARIANTS


class Outputs(NamedTuple):
    """One row per image: probabilities and logits float32[N, K], heatmap float32[N, K, h, w] or None."""

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    heatmap: NDArray[np.float32] | None


class Runs(Protocol):
    """Anything that answers pixels. Not safe for two threads at once: whoever holds it gives it one."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`: where it really runs."""
        ...

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """uint8[N, H, W, 3] RGB at the model's input size, N >= 1 -> Outputs. Raises EngineError."""
        ...


class Engine(Runs, Protocol):
    """Runs one exported variant, from its file."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Load `path`. `device`: auto, cpu, cuda or tensorrt. Raises EngineError."""
        ...

    @staticmethod
    def has_cuda() -> bool:
        """Whether `auto` tries a GPU first."""
        ...


class EngineError(Exception):
    """The engine cannot be had or has failed; the message is one sentence."""


def one_line(error: Exception) -> str:
    """A native library's message, which may span many lines."""
    return " ".join(str(error).split())


class LibraryMissing(EngineError):
    """This install leaves out the library that a variant needs."""


def load(variant: str, path: Path, device: str = "auto", threads: int = 1) -> Engine:
    """The engine for a variant's file. Raises EngineError, or LibraryMissing where a package is what is missing."""
    return _class_of(variant)(path, device, threads)


def on_gpu(variant: str, device: str) -> bool:
    """Whether the variant's engine would run on a GPU for this DEVICE. Raises LibraryMissing."""
    return _class_of(variant).has_cuda() if device == "auto" else device in ("cuda", "tensorrt")


def _class_of(variant: str) -> type[Engine]:
    if variant not in VARIANTS:
        raise LibraryMissing(f'this Sightglass has no engine for variant "{variant}"')
    module, _, name = VARIANTS[variant].engine.partition(":")
    try:
        return cast(type[Engine], getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        extra = VARIANTS[variant].extra
        command = f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
        missing = f'variant "{variant}" needs {error.name}, which this install leaves out'
        raise LibraryMissing(f"{missing}: {command}, or choose another variant") from error
