"""What rounding a convolution's weights to INT8 shifts its output by on average is put back into its bias."""

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

INT8_MAX = 127  # of weights: symmetric, so -127 is the least
BATCH = 16


def correct(model: onnx.ModelProto, quantised: set[str], images: NDArray[np.uint8]) -> None:
    """Change, in place, the biases of those nodes of an fp32 graph that will be quantised; uint8[N, H, W, 3].

    Nagel et al. 2019, arXiv:1906.04721, section 4.2, with the mean inputs of `images` in place of batch norm's.
    A filter that takes differences has weights that cancel; rounded they do not, and on an even surface that is a shift
    of the whole map, which depthwise filters of nine weights have no others to make up for.
    """
    constants = {each.name: each for each in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    convolutions = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.name in quantised and len(node.input) == 3
        if node.input[1] in constants and node.input[2] in constants and uses[node.input[2]] == 1
    ]
    if not convolutions:
        return
    means = _means(model, [node.input[0] for node in convolutions], images)
    for node in convolutions:
        weight, bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        lost = (weight - _rounded(weight)).reshape(*weight.shape[:2], -1).sum(axis=2)  # [out, in / groups]
        mean = means[node.input[0]]
        inputs = mean.reshape(len(mean) // lost.shape[1], -1)  # [groups, in / groups]
        shift = (lost * inputs.repeat(len(lost) // len(inputs), axis=0)).sum(axis=1)
        constants[node.input[2]].CopyFrom(numpy_helper.from_array((bias + shift).astype(bias.dtype), node.input[2]))


def _rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the quantiser rounds them: per output channel, the largest at 127."""
    largest = np.abs(weight).max(axis=(*range(1, weight.ndim),), keepdims=True)
    scale = np.where(largest > 0, largest, 1) / INT8_MAX
    rounded: NDArray[np.float32] = (np.round(weight / scale) * scale).astype(np.float32)
    return rounded


def _means(model: onnx.ModelProto, names: list[str], images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Tensor -> float32[C], the mean of its channels over places and images."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.ClearField("output")
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        probe.graph.node.append(helper.make_node("GlobalAveragePool", [name], [f"{name}/mean"]))
        probe.graph.output.append(helper.make_empty_tensor_value_info(f"{name}/mean"))
    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(probe.SerializeToString(), options)
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    found = [session.run(None, {"image": batch}) for batch in batches]
    return {
        name: np.concatenate(parts).mean(axis=(0, *range(2, parts[0].ndim)))
        for name, parts in zip(chosen, zip(*found, strict=True), strict=True)
    }
