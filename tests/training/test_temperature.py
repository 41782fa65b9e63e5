"""The temperature of an artifact."""

from pathlib import Path

import numpy as np
import torch

from app.artifact import manifest
from tests.training.exports import eager
from training.checkpoint import Run
from training.pixels import load as load_pixels


def test_the_temperature_is_the_best_one_on_val(digits_run: Path, digits_artifact: Path) -> None:
    """Neighbours on both sides have a higher (Platt-smoothed) cross-entropy."""
    run, described = Run.open(digits_run), manifest.load(digits_artifact)
    val = load_pixels(run.data(), "val", run.input)
    logits = torch.from_numpy(eager(digits_run, described).run(val.take(np.arange(len(val)))).logits).double()
    n = len(val)
    targets = torch.full((n, 10), 1 / (n + 10)).double()
    targets[torch.arange(n), torch.from_numpy(val.labels)] = (n + 1) / (n + 10)

    def loss(temperature: float) -> float:
        return -(targets * torch.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean().item()

    assert loss(described.temperature) < min(loss(described.temperature * 0.9), loss(described.temperature * 1.1))
