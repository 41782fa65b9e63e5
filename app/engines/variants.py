"""The table of variants: what an artifact's file is run by, and everything else that differs from one to the other.

An engine is a runtime and not a file: another runtime of `model.onnx` is a module with a class and a row here.
"""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class VariantSpec:
    """One file of an artifact with the runtime that it is run by."""

    file: str
    """Its name in the artifact; variants may share one."""
    format: str
    """What kind of file it is, as a model card's tag."""
    platform: str
    """The Open Inference Protocol's name of that kind:
    https://kserve.github.io/website/docs/concepts/architecture/data-plane"""
    engine: str
    """`module:class` of an Engine; imported when the variant is loaded, so that no other needs its library."""
    library: str
    """The package that runs it: the one whose version is told."""
    extra: str = ""
    """Of this distribution, which installs `library`; empty: every install has it."""
    precision: Literal["fp32", "int8"] = "fp32"
    fallback: str = ""
    """The variant that `auto` takes on a GPU, or where this CPU gives other answers than the export's; empty: none."""
    fork_safe: bool = True
    """Whether a process that has loaded it on a CPU may be forked into workers."""


BASELINE = "onnx"
"""The variant whose speed the others are compared with, and the default of an artifact without INT8."""

_ONNX = VariantSpec("model.onnx", "onnx", "onnx_onnxv1", "app.engines.onnx:OnnxEngine", "onnxruntime")

VARIANTS: dict[str, VariantSpec] = {
    BASELINE: _ONNX,
    "onnx-int8": replace(_ONNX, file="model.int8.onnx", precision="int8", fallback=BASELINE),
    "torchscript": VariantSpec(
        file="model.torchscript.pt",
        format="torchscript",
        platform="pytorch_torchscript",
        engine="app.engines.torchscript:TorchScriptEngine",
        library="torch",
        extra="torchscript",
        fork_safe=False,  # its threads do not survive it
    ),
}
