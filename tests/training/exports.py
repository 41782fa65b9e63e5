"""Exports with a fault in a graph, exports that save time, and what is in an artifact."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from app.artifact.manifest import Manifest
from tests.commands import QUIET, hurried
from training.export import Writers, export
from training.models.servable import Servable
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants.writers import WRITERS, write_onnx_int8

Fault = Callable[[Servable], nn.Module]


class Swapped(nn.Module):
    """Reads BGR where RGB is meant."""

    def __init__(self, servable: Servable) -> None:
        super().__init__()
        self.servable = servable

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.servable(pixels.flip(-1))


def swapped_channels(servable: Servable) -> nn.Module:
    return Swapped(servable).eval()


def one_shuffled_weight(servable: Servable) -> nn.Module:
    """The filters of one convolution in another order."""
    broken = copy.deepcopy(servable)
    convolutions = [each for each in broken.network.modules() if isinstance(each, nn.Conv2d)]
    filters = convolutions[2].weight
    filters.copy_(filters[torch.randperm(len(filters), generator=torch.Generator().manual_seed(0))])
    return broken


def wrong_mean(servable: Servable) -> nn.Module:
    """As if normalisation were left to the caller."""
    broken = copy.deepcopy(servable)
    broken.normalise.offset.zero_()
    return broken


def with_fault(write: Callable[..., None], fault: Fault) -> Callable[..., None]:
    """A writer that is right about everything but the graph."""
    return lambda servable, calibration, path: write(fault(servable), calibration, path)


def change(path: Path, wanted: Callable[[str], bool], how: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Edit the constants of an ONNX file whose names are `wanted`; there must be some."""
    model = onnx.load(path)
    chosen = [each for each in model.graph.initializer if wanted(each.name)]
    assert chosen
    for each in chosen:
        values = numpy_helper.to_array(each)
        each.CopyFrom(numpy_helper.from_array(how(values).astype(values.dtype), each.name))
    onnx.save(model, path)


def write_ruined_int8(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    write_onnx_int8(servable, calibration, path)
    change(path, lambda name: name.endswith("_scale"), lambda scales: scales * 0.1)


def write_fp32_as_int8(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    """Right in every answer, and no faster."""
    shutil.copy(path.with_name("model.onnx"), path)


def copied(artifact: Path) -> Callable[..., None]:
    """A writer that saves the time of writing a file that another export has already written."""
    return lambda servable, calibration, path: shutil.copy(artifact / path.name, path)


def only(monkeypatch: pytest.MonkeyPatch, file: str, writer: Callable[..., None]) -> None:
    """Let the command write one file, its own way."""
    for other in set(WRITERS) - {file}:
        monkeypatch.delitem(WRITERS, other)
    monkeypatch.setitem(WRITERS, file, writer)


def proven(run: Path, out: Path, writers: Writers) -> Manifest:
    with hurried():
        return export(Run.open(run), out, None, QUIET, writers)


def checkpoint(run: Path, described: Manifest) -> TrainedModel:
    """As the artifact serves it."""
    return replace(TrainedModel.load(run), temperature=described.temperature)


def row(artifact: Path, name: str) -> dict[str, Any]:
    """A variant's line of report.json."""
    rows: list[dict[str, Any]] = json.loads((artifact / "report.json").read_text())["variants"]
    return next(each for each in rows if each["name"] == name)
