"""How each exported file is written, always from the eager module (or, for INT8, from its fp32 graph)."""

import contextlib
import errno
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.atomic import DiskFull
from training.models.servable import Servable
from training.variants import bias_correction

_COPIES = 5  # of the fp32 graph, that the quantiser has on disk at once, at most
_SCOPES = "pkg.torch.onnx.name_scopes"  # node metadata: the module path that a node was traced from


def write_torchscript(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    """Traced and frozen (batch norm folded). One deletable function; see docs/adr/0003."""
    # the trace keeps whether convolutions may round to TF32 on a GPU; as they may, its self-test fails there
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with exact, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        # what a network asserts of its input's size becomes a constant, as that size is
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        example = torch.from_numpy(calibration[:2])
        # check_trace runs the module a second time to compare; the export's own proof is stricter
        traced = torch.jit.trace(_Present(servable).eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        content = io.BytesIO()  # on a full disk torch's own writer ends the process
        torch.jit.save(torch.jit.freeze(traced), content)
    path.write_bytes(content.getbuffer())


class _Present(torch.nn.Module):
    """The outputs that there are: the tracer takes no None, which networks without heat maps have in their place."""

    def __init__(self, servable: Servable) -> None:
        super().__init__()
        self.servable = servable

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(value for value in self.servable(pixels) if value is not None)


def write_onnx(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    """The dynamo exporter with a free batch axis; the example batch is 2 because 1 would be taken for a constant."""
    example = torch.from_numpy(calibration[:2])
    outputs = [name for name, value in servable(example)._asdict().items() if value is not None]
    with _hushed():
        program = torch.onnx.export(
            servable,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=["image"],
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    # the exporter's notes name this machine's source files line by line; but for the module paths they go
    model = onnx.load(path)
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, graph, model):
        scopes = [(entry.key, entry.value) for entry in part.metadata_props if entry.key == _SCOPES]
        del part.metadata_props[:]
        part.doc_string = ""
        for key, value in scopes:
            part.metadata_props.add(key=key, value=value)
    onnx.save(model, path)


def write_onnx_int8(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:  # noqa: ARG001  # one signature
    """Static QDQ of the features in `model.onnx` beside `path`; everything else stays in float.

    Unsigned activations and signed per-channel weights are what the VNNI instructions multiply; ONNX Runtime's default
    (signed both) gained nothing. Normalisation, pooling, head, temperature, softmax and heat map in float kept
    99.4 % of the answers against 97.8 %, at the same speed. What else stays in float, and what the biases are
    corrected by, made 95.5 % of 85.5 % of a pretrained network's thousand labels (docs/adr/0006). Raises DiskFull.
    """
    source, folder = path.with_name("model.onnx"), Path(tempfile.gettempdir())
    # the quantiser writes its copies of the graph in C++, which on a full disk leaves half a file
    if shutil.disk_usage(folder).free < _COPIES * source.stat().st_size:
        raise DiskFull(folder, os.strerror(errno.ENOSPC), "make room there, or name another disk with TMPDIR")
    with tempfile.TemporaryDirectory() as copies, _hushed():
        prepared, quantised = Path(copies) / "prepared.onnx", Path(copies) / "quantised.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantised_nodes = _quantised(model.graph)
        bias_correction.correct(model, quantised_nodes, calibration)
        onnx.save(model, prepared)
        quantize_static(
            prepared,
            quantised,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[node.name for node in model.graph.node if node.name not in quantised_nodes],
        )
        content = quantised.read_bytes()
    path.write_bytes(content)


def _quantised(graph: onnx.GraphProto) -> set[str]:
    """The names of the nodes to quantise: the features, but for the first layer and a depthwise one that follows it.

    Of such a first layer's maps a tenth have a twentieth of the largest one's range, or less: 8 bits for all are too
    few, and cost more than those of all other maps together. Only what comes *before* all that is quantised can be
    left out: a float convolution between quantised ones is quantised by ONNX Runtime as it loads the file, all
    channels with one scale (its WeightBiasQuantization).
    """
    features = [
        node
        for node in graph.node
        if any(entry.key == _SCOPES and "'network.features'" in entry.value for entry in node.metadata_props)
    ]
    groups = {
        place: next((entry.i for entry in node.attribute if entry.name == "group"), 1)
        for place, node in enumerate(features)
        if node.op_type in {"Conv", "Gemm", "MatMul"}
    }
    mixing = [place for place, count in groups.items() if count == 1]  # all channels with all
    first, second = (*mixing, len(features), len(features))[:2]
    depthwise_between = any(first < place < second for place in groups)
    return {node.name for node in features[second if depthwise_between else 0 :]}


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """uint8[N, H, W, 3] in batches of 32, as the calibrator asks for them."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = iter([pixels[start : start + 32] for start in range(0, len(pixels), 32)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """The exporters print progress on stdout (which may be our JSON) and warn about their own internals."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)


Writer = Callable[[Servable, NDArray[np.uint8], Path], None]
WRITERS: dict[str, Writer] = {
    "model.torchscript.pt": write_torchscript,
    "model.onnx": write_onnx,
    "model.int8.onnx": write_onnx_int8,
}
"""File -> what writes it from the graph and images that calibrate, uint8[N, H, W, 3]; those before it are there."""
