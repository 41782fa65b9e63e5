"""The temperature that an artifact's probabilities are softened or sharpened with: val's, where val is large enough
to show that it helps, else 1."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from training.console.terminal import count
from training.metrics.classification import Floats, Labels

FOLDS = 5
LEAST_IMAGES = 10


@dataclass(frozen=True)
class Temperature:
    """`fitted` on all `n` images of val; `value`, which is served, is that or 1. Of val's images, each with a
    temperature that was fitted without it: `log_loss`, and `gain`, by how much that is lower than `plain`, the log-loss
    with temperature 1; `noise`: the standard error of `gain`."""

    fitted: float
    n: int
    log_loss: float = 0.0
    plain: float = 0.0
    noise: float = 0.0

    @property
    def gain(self) -> float:
        """Positive where the fit helps on images that it has not seen."""
        return self.plain - self.log_loss

    @property
    def value(self) -> float:
        """The one-standard-error rule (Breiman et al. 1984): of two models as good, the one with nothing fitted."""
        return self.fitted if self.gain > self.noise else 1.0

    def __str__(self) -> str:
        images = count(self.n, "val image")
        if self.n < LEAST_IMAGES:
            return f"temperature 1: {images} cannot show that another is better (at least {LEAST_IMAGES})"
        losses = f"log-loss {self.log_loss:.4f} with it on images left out of the fit, {self.plain:.4f} without"
        if self.value == self.fitted:
            return f"temperature {self.value:.3f}, fitted on {images}: {losses}"
        return f"temperature 1: {images} do not show that the fitted {self.fitted:.3f} is better ({losses})"


def fit(logits: Floats, labels: Labels) -> Temperature:
    """From float32[N, K] and int64[N]: temperature scaling (Guo et al. 2017, arXiv:1706.04599), cross-validated.

    Never worse than temperature 1 by more than chance explains; `python -m benchmarks.calibration` shows it.
    """
    z, y, n = torch.from_numpy(logits).double(), torch.from_numpy(labels), len(labels)
    best = _fitter(z, y)
    fitted = best(np.ones(n, bool))
    if n < LEAST_IMAGES:
        return Temperature(fitted, n)
    fold = folds((z.argmax(dim=1) == y).numpy())
    plain, losses = _log_loss(z, y, 1.0), np.empty(n)
    for number in range(FOLDS):
        out = fold == number
        losses[out] = _log_loss(z[torch.from_numpy(out)], y[torch.from_numpy(out)], best(~out))
    noise = float((plain - losses).std(ddof=1)) / n**0.5
    return Temperature(fitted, n, float(losses.mean()), float(plain.mean()), noise)


def _fitter(logits: Tensor, labels: Tensor) -> Callable[[NDArray[np.bool_]], float]:
    """A function that answers the temperature with the lowest cross-entropy on the chosen ones of these images.

    Their targets leave a doubt of 1 / (n + 2) that the label is right (Platt 1999, with right and wrong for his two
    classes): a val without a mistake would otherwise ask for temperature 0, and certainty about everything. The wrong
    classes share it as the network has it. A pseudo-count for each class, in its place, is a doubt of K / (n + K):
    with 40 classes and 80 images that made 0.60 of a confidence of 0.99.
    """
    rows = torch.arange(len(labels))
    right = logits[rows, labels]
    others = logits.clone()
    others[rows, labels] = -torch.inf
    wrong = (torch.softmax(others, dim=1) * logits).sum(dim=1)  # the mean logit of a wrong answer

    def best(chosen: NDArray[np.bool_]) -> float:
        inside = torch.from_numpy(chosen)
        doubt = 1 / (int(chosen.sum()) + 2)
        z, target = logits[inside], ((1 - doubt) * right[inside] + doubt * wrong[inside]).mean().item()

        def loss(log_temperature: float) -> float:
            inverse = float(np.exp(-log_temperature))
            return torch.logsumexp(z * inverse, dim=1).mean().item() - target * inverse

        return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-4}).x))

    return best


def folds(right: NDArray[np.bool_]) -> Labels:
    """int64[N]: the fold of each answer, drawn by a fixed seed; every fold has its share of the wrong ones."""
    order = np.lexsort((np.random.default_rng(0).permutation(len(right)), right))
    fold = np.empty(len(right), np.int64)
    fold[order] = np.arange(len(right)) % FOLDS
    return fold


def _log_loss(logits: Tensor, labels: Tensor, temperature: float) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = torch.nn.functional.cross_entropy(
        logits / temperature, labels, reduction="none"
    ).numpy()
    return losses
