"""The temperature that an artifact's probabilities are softened or sharpened with, found on val."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from training.checkpoint import Run
from training.graph import Servable
from training.loop import logits_of
from training.pixels import Pixels
from training.score import Floats


class Calibrated(NamedTuple):
    """The checkpoint with its temperature, and its logits float32[N, K] on val, which that was fitted on."""

    servable: Servable
    val_logits: Floats


def calibrated(run: Run, val: Pixels) -> Calibrated:
    """The eager checkpoint with the temperature that minimises the cross-entropy of val, and its logits on val.

    The targets are smoothed as in Platt (1999): a val without a single mistake would otherwise ask for temperature 0,
    and certainty about everything; with thousands of pictures the smoothing vanishes.
    """
    plain = Servable(run.network(), run.input.mean, run.input.std)
    logits = logits_of(plain.network, plain.normalise, val, torch.device("cpu")).double()
    classes, n = logits.shape[1], len(val)
    targets = torch.full_like(logits, 1 / (n + classes))
    targets[torch.arange(n), torch.from_numpy(val.labels)] = (n + 1) / (n + classes)

    def loss(log_temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / np.exp(log_temperature), targets).item()

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    servable = Servable(run.network(), run.input.mean, run.input.std, float(np.exp(best.x)))
    return Calibrated(servable, logits.float().numpy())
