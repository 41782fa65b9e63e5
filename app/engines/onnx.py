"""ONNX Runtime: the fp32 and the INT8 graph, on CPU or CUDA."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from app.engines import EngineError, Outputs

# ONNX Runtime's exceptions share no base class of their own, so all of them are named by where they come from.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        each
        for each in vars(onnxruntime_pybind11_state).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ),
)


class OnnxEngine:
    """See Engine."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        providers = _providers(device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: its warnings name no request and repeat
        # Idle threads would spin on cores that decoding and HTTP need: twice the CPU per request at 2 cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except _FAILURES as error:
            raise EngineError(f"{path} cannot be loaded: {error}") from error
        self.device = "cuda" if self._session.get_providers()[0] != "CPUExecutionProvider" else "cpu"
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See Engine.run."""
        try:
            values = self._session.run(self._outputs, {self._input: pixels})
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        by_name = dict(zip(self._outputs, values, strict=True))
        return Outputs(by_name["probabilities"], by_name["logits"], by_name.get("heatmap"))


def _providers(device: str) -> list[str]:
    available = onnxruntime.get_available_providers()
    accelerated = [name for name in ("CUDAExecutionProvider",) if name in available]
    if device == "cuda" and not accelerated:
        raise EngineError(
            f"DEVICE=cuda, but this onnxruntime has only {', '.join(available)}: install onnxruntime-gpu, or use cpu"
        )
    return ["CPUExecutionProvider"] if device == "cpu" else [*accelerated, "CPUExecutionProvider"]
