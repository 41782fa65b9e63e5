"""How INT8 is written: what is quantised, what stays in float, and what the biases make up for."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from sklearn.datasets import load_sample_image

from training.models import registry
from training.recipes import recipe
from training.runs.trained_model import TrainedModel
from training.variants import bias_correction
from training.variants.writers import write_onnx, write_onnx_int8
from training.weights import published

SIDE = 96
FLOAT = {"Conv": 2}  # the first layer and the depthwise one after it
INT8 = {"QLinearConv": 47, "QLinearAdd": 9}


def crops(name: str, count: int) -> NDArray[np.uint8]:
    """Of a photograph, drawn by seed."""
    photograph, random = load_sample_image(f"{name}.jpg"), np.random.default_rng(0)
    corners = [[random.integers(0, side - SIDE) for side in photograph.shape[:2]] for _ in range(count)]
    return np.stack([photograph[top : top + SIDE, left : left + SIDE] for top, left in corners])


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ImageNet's EfficientNet-Lite0 in fp32 and INT8, calibrated on one photograph."""
    weights = published.of("timm/tf_efficientnet_lite0")
    assert weights is not None
    network = registry.build(weights.model, 3, 1000, SIDE).eval()
    state = weights.state()
    names = {"classifier.weight": "head.weight", "classifier.bias": "head.bias"}
    network.load_state_dict({names.get(key, f"features.{key}"): value for key, value in state.items()})
    spec, folder = weights.input(SIDE), tmp_path_factory.mktemp("lite0")
    model = TrainedModel(recipe.load("instant-head"), tuple(map(str, range(1000))), spec, network)
    calibration = crops("china", 24)
    write_onnx(model.servable, calibration, folder / "model.onnx")
    write_onnx_int8(model.servable, calibration, folder / "model.int8.onnx")
    return folder


def operators(file: Path, tmp_path: Path) -> Counter[str]:
    """What ONNX Runtime runs of a file."""
    options = SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    InferenceSession(file, options)
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


def logits(file: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = InferenceSession(file).run(["logits"], {"image": images})[0]
    return found


def test_all_but_the_first_two_convolutions_is_run_in_int8(lite0: Path, tmp_path: Path) -> None:
    run = operators(lite0 / "model.int8.onnx", tmp_path)
    assert {name: run[name] for name in (*FLOAT, *INT8)} == FLOAT | INT8
    assert run["Clip"] == 0, "what ReLU6 cuts the scale of its output does"
    assert run["QuantizeLinear"] == 1


def test_it_is_close_on_another_photograph(lite0: Path) -> None:
    """Decibels of the thousand logits against what INT8 changes in them."""
    images = crops("flower", 16)
    expected, found = (logits(lite0 / name, images) for name in ("model.onnx", "model.int8.onnx"))
    assert 10 * np.log10((expected**2).sum() / ((found - expected) ** 2).sum()) > 17


def test_normalising_is_no_small_vectors_of_three(lite0: Path) -> None:
    """ONNX Runtime broadcasts along the last axis alone; of three channels there that takes 15 times as long."""
    kinds = [node.op_type for node in onnx.load(lite0 / "model.onnx").graph.node]
    assert kinds.index("Transpose") < min(kinds.index("Mul"), kinds.index("Sub"))


@pytest.mark.parametrize("groups", [1, 2, 6], ids=["all with all", "grouped", "depthwise"])
def test_biases_make_up_for_what_rounding_shifts(groups: int) -> None:
    random = np.random.default_rng(groups)
    images = random.integers(0, 256, (3, 6, 1, 1), dtype=np.uint8).repeat(5, 2).repeat(5, 3)  # even surfaces
    weight, bias = random.normal(size=(12, 6 // groups, 3, 3)).astype(np.float32), np.zeros(12, np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", group=groups),
    ]
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "one",
        [info("image", onnx.TensorProto.UINT8, [None, 6, 5, 5])],
        [info("y", onnx.TensorProto.FLOAT, [None, 12, 3, 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    bias_correction.correct(model, set(), images)
    assert not numpy_helper.to_array(model.graph.initializer[1]).any(), "it is not quantised"

    bias_correction.correct(model, {"conv"}, images)
    corrected = numpy_helper.to_array(model.graph.initializer[1])
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    x, rounded = torch.from_numpy(images).float(), torch.from_numpy(np.round(weight / scale) * scale)

    def means(w: torch.Tensor, b: NDArray[np.float32]) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, w, torch.tensor(b), groups=groups).mean(dim=(0, 2, 3))

    wanted = means(torch.from_numpy(weight), bias)
    assert not torch.allclose(means(rounded, bias), wanted, atol=0.5)
    assert torch.allclose(means(rounded, corrected), wanted, atol=0.02)
