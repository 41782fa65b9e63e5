"""ONNX Runtime: the fp32 and the INT8 graph, on CPU or CUDA."""

import contextlib
import io
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from app.engines import EngineError, Outputs, one_line

# ONNX Runtime's exceptions share no base class of their own, so all of them are named by where they come from.
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
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
        trouble = _load_cuda() if providers[0][0] != "CPUExecutionProvider" else ""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: its warnings name no request and repeat
        # Idle threads would spin on cores that decoding and HTTP need: twice the CPU per request at 2 cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path} cannot be loaded: {one_line(error)}") from error

        def session() -> onnxruntime.InferenceSession:
            try:
                # from bytes: a graph then has no folder from which to draw weights that no checksum covers
                made = onnxruntime.InferenceSession(content, options, providers=providers)
            except _FAILURES as error:
                raise EngineError(f"{path} cannot be loaded: {one_line(error)}") from error
            if device != "auto" and made.get_providers()[0] != providers[0][0]:  # it fell back with only a log line
                why = trouble or "driver, CUDA or TensorRT libraries"
                raise EngineError(f"DEVICE={device}, but ONNX Runtime cannot use the GPU ({why}): use cpu")
            return made

        self._session = session()
        self.device = "cuda" if self._session.get_providers()[0] != "CPUExecutionProvider" else "cpu"
        # it holds the file's content, the one whose checksum was right: a CPU has no use for it
        self._another = session if self.device == "cuda" else None
        self._by_size: dict[int, onnxruntime.InferenceSession] = {}
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    @staticmethod
    def has_cuda() -> bool:
        """Whether this onnxruntime was built for CUDA; whether there is a GPU shows when a session is made."""
        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See Engine.run."""
        n = len(pixels)
        session, padded = (self._session, pixels) if self.device == "cpu" else self._of_one_size(pixels)
        try:
            values = [value[:n] for value in session.run(self._outputs, {self._input: padded})]
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime failed: {one_line(error)}") from error
        by_name = dict(zip(self._outputs, values, strict=True))
        return Outputs(by_name["probabilities"], by_name["logits"], by_name.get("heatmap"))

    def _of_one_size(self, pixels: NDArray[np.uint8]) -> tuple[onnxruntime.InferenceSession, NDArray[np.uint8]]:
        """A session that has seen no other size of batch, and the batch with blank images up to a power of two.

        On CUDA each change of the size plans every convolution anew: 25 ms, or 120 with the default search, where the
        network takes 0.5 (H200, the default model).
        """
        n = len(pixels)
        size = 1 << (n - 1).bit_length()
        if size not in self._by_size:
            assert self._another
            self._by_size[size] = self._another() if self._by_size else self._session
        blank = np.zeros((size - n, *pixels.shape[1:]), np.uint8)
        return self._by_size[size], np.concatenate([pixels, blank]) if n < size else pixels


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """Best first, with their options. TensorRT only on request: it takes minutes to compile a network."""
    available = onnxruntime.get_available_providers()
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    # TF32 rounds products to 10 bits, which is more than the self-test allows an fp32 variant
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    tensorrt: tuple[str, dict[str, str]] = ("TensorrtExecutionProvider", {})
    wanted = {"cpu": [cpu], "cuda": [cuda, cpu], "tensorrt": [tensorrt, cuda, cpu]}
    if device == "auto":
        return wanted["cuda" if cuda[0] in available else "cpu"]
    if wanted[device][0][0] not in available:
        has = f"this onnxruntime has only {', '.join(available)}"
        raise EngineError(f"DEVICE={device}, but {has}: install onnxruntime-gpu, or use cpu")
    return wanted[device]


def _load_cuda() -> str:
    """CUDA's libraries from the packages that `onnxruntime-gpu[cuda,cudnn]` brings, which no linker's path knows.

    Answers what could not be loaded: ONNX Runtime prints it.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return " ".join(said.getvalue().split())
