"""TorchScript on CPU or CUDA: the one module of the service that imports torch (docs/adr/0003)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.engines import EngineError, Outputs, one_line


class TorchScriptEngine:
    """See Engine."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        if device == "tensorrt":
            raise EngineError("DEVICE=tensorrt is for the onnx variants; torchscript has cuda and cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError(f"DEVICE=cuda, but torch {torch.__version__} finds no CUDA device: use cpu")
        self.device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        torch.set_num_threads(threads)
        # of its own, or it would wait for whatever else the process does on the default one
        self._stream = torch.cuda.Stream() if self.device == "cuda" else None  # type: ignore[no-untyped-call]
        try:
            with warnings.catch_warnings():  # torch.jit is deprecated and says so at every use; docs/adr/0003
                warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
                self._module = torch.jit.load(str(path), map_location=self.device).eval()  # type: ignore[no-untyped-call]
                _round_nothing(self._module)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"{path} cannot be loaded: {one_line(error)}") from error

    @staticmethod
    def has_cuda() -> bool:
        """Whether torch finds a GPU."""
        return torch.cuda.is_available()

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See Engine.run."""
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        try:
            with torch.inference_mode():
                values = self._module(batch) if self._stream is None else self._on_gpu(batch, self._stream)
        except RuntimeError as error:
            raise EngineError(f"TorchScript failed: {one_line(error)}") from error
        probabilities, logits, *heatmap = (value.numpy() for value in values)
        return Outputs(probabilities, logits, heatmap[0] if heatmap else None)

    def _on_gpu(self, batch: torch.Tensor, stream: torch.cuda.Stream) -> list[torch.Tensor]:
        """From pinned memory, which the GPU reads by itself; back in ordinary memory once the stream has done all."""
        with torch.cuda.stream(stream):
            values = self._module(batch.pin_memory().to("cuda", non_blocking=True))
            answers = [value.to("cpu", non_blocking=True) for value in values]
        stream.synchronize()
        return answers


def _round_nothing(module: torch.jit.ScriptModule) -> None:
    """TF32 rounds products to 10 bits, more than the self-test allows. A trace holds whether its convolutions may, as
    their last input, which nothing but the graph overrides; in artifacts of before 0.2.0 they may."""
    graph: Any = module.graph
    for convolution in graph.findAllNodes("aten::_convolution"):
        graph.setInsertPoint(convolution)
        convolution.replaceInput(convolution.inputsSize() - 1, graph.insertConstant(False))
