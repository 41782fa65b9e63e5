"""The export: a graph that is not the checkpoint is refused, and a refusal leaves nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app import engines
from app.artifact import manifest
from app.artifact.golden import Golden
from tests.commands import QUIET, Sightglass, hurried
from tests.training.exports import (
    Fault,
    change,
    checkpoint,
    copied,
    one_shuffled_weight,
    only,
    proven,
    row,
    swapped_channels,
    with_fault,
    write_fp32_as_int8,
    write_ruined_int8,
    wrong_mean,
)
from training.errors import Refused
from training.export import export
from training.models.servable import Servable
from training.runs.checkpoint import Run
from training.variants import gates
from training.variants.writers import write_torchscript

# --- fp32: refused, and nothing is left -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [swapped_channels, one_shuffled_weight])
def test_a_torchscript_that_is_not_the_checkpoint_ends_the_export(
    fault: Fault, colours_run: Path, tmp_path: Path
) -> None:
    writers = {"model.torchscript.pt": with_fault(write_torchscript, fault)}
    with pytest.raises(Refused, match=r"torchscript refused: (agrees with the checkpoint on|a probability differs)"):
        proven(colours_run, tmp_path / "colours" / "1", writers)
    assert list(tmp_path.iterdir()) == [], "neither the version nor a temporary folder"


@pytest.mark.parametrize(
    ("constant", "how"),
    [
        ("network.features.0.weight", lambda weight: weight[:, ::-1]),
        ("network.features.4.body.0.weight", lambda weight: np.random.default_rng(0).permutation(weight)),
        ("normalise.offset", lambda offset: offset * 0),
    ],
    ids=["swapped channels", "one shuffled weight", "wrong mean"],
)
def test_an_onnx_that_is_not_the_checkpoint_ends_the_export(
    constant: str, how: Callable[..., Any], colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    def write(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
        shutil.copy(colours_artifact / "model.onnx", path)
        change(path, lambda name: name == constant, how)

    with pytest.raises(Refused, match=r"onnx refused: (agrees with the checkpoint on|a probability differs)"):
        proven(colours_run, tmp_path / "colours" / "1", {"model.onnx": write})
    assert list(tmp_path.iterdir()) == []


def test_channels_swapped_by_the_exporter_are_found_on_the_golden_images_of_a_grey_data_set(
    digits_run: Path, digits_artifact: Path, tmp_path: Path
) -> None:
    """Grey val images cannot tell RGB from BGR; people send colour photographs all the same."""
    writers = {
        "model.torchscript.pt": with_fault(write_torchscript, swapped_channels),
        "model.onnx": copied(digits_artifact),
    }
    with pytest.raises(Refused, match="torchscript refused"):
        proven(digits_run, tmp_path / "digits" / "1", writers)


def test_a_refusal_has_exit_code_3_and_says_why(
    colours_run: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "model.torchscript.pt", with_fault(write_torchscript, wrong_mean))
    with hurried():
        said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "--quiet")
    assert said.code == 3
    assert said.err.startswith("error: torchscript refused: ")
    assert "\n\nhint: " in said.err
    assert not (tmp_path / "colours" / "1").exists()


# --- INT8: refused, and the rest is kept ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_ruined_int8(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported with ruined INT8 scales, and an ONNX graph whose bias is off by less than the gate sees."""

    def write_onnx_slightly_off(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
        shutil.copy(colours_artifact / "model.onnx", path)
        change(path, lambda name: name == "network.head.bias", lambda bias: bias + np.array([3e-5, 0, 0]))

    out = tmp_path_factory.mktemp("exports") / "colours" / "1"
    writers = {
        "model.onnx": write_onnx_slightly_off,
        "model.int8.onnx": write_ruined_int8,
    }
    proven(colours_run, out, writers)
    return out


def test_int8_with_ruined_scales_is_left_out_and_onnx_becomes_the_default(with_ruined_int8: Path) -> None:
    described = manifest.load(with_ruined_int8)
    assert list(described.variants) == ["onnx"]
    assert described.default_variant == "onnx"
    assert not (with_ruined_int8 / "model.int8.onnx").exists()
    assert "model.int8.onnx" not in described.files


def test_the_report_says_why_int8_was_left_out(with_ruined_int8: Path) -> None:
    refused = row(with_ruined_int8, "onnx-int8")
    assert refused["verdict"].startswith("refused: agrees with the checkpoint on")
    assert refused["proof"]["agreement"] < gates.INT8_AGREEMENT
    assert refused["test"] is None, "a refused variant is not measured on test"
    assert refused["verdict"].split("(")[0] in (with_ruined_int8 / "report.html").read_text()


def test_golden_answers_are_the_checkpoints_not_an_exported_graphs(with_ruined_int8: Path, colours_run: Path) -> None:
    described, golden = manifest.load(with_ruined_int8), Golden.load(with_ruined_int8)
    onnx_answers = engines.load("onnx", with_ruined_int8 / "model.onnx", "cpu", 1).run(golden.pixels).probabilities
    eager_answers = checkpoint(colours_run, described).run(golden.pixels).probabilities
    assert np.abs(golden.probabilities - onnx_answers).max() > 1e-5, "the graph is a little off"
    assert np.abs(golden.probabilities - eager_answers).max() < 1e-6


def test_int8_that_is_no_faster_is_left_out(colours_run: Path, colours_artifact: Path, tmp_path: Path) -> None:
    writers = {"model.onnx": copied(colours_artifact), "model.int8.onnx": write_fp32_as_int8}
    described = export(Run.open(colours_run), tmp_path / "colours" / "1", None, QUIET, writers)
    refused = row(tmp_path / "colours" / "1", "onnx-int8")
    assert refused["proof"]["agreement"] == 1.0
    assert "x the speed of onnx (limit 1.6x)" in refused["objection"]
    assert described.default_variant == "onnx"
