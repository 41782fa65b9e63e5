"""Scores of a classifier: fractions in 0..1, each accuracy with its 95 % interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import f1_score

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `n`, with the Wilson 95 % interval."""

    value: float
    correct: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, n: int) -> "Accuracy":
        """From counts; n >= 1."""
        interval = binomtest(correct, n).proportion_ci(method="wilson")
        return cls(correct / n, correct, n, float(interval.low), float(interval.high))

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.correct:,}/{self.n:,}, 95 % interval {self.low:.3f}-{self.high:.3f})"


def accuracy(labels: Labels, predicted: Labels) -> Accuracy:
    """Share of equal entries of two int64[N]."""
    return Accuracy.of(int((labels == predicted).sum()), len(labels))


def macro_f1(labels: Labels, predicted: Labels) -> float:
    """Mean F1 over the classes that occur in `labels` or `predicted` (scikit-learn's definition)."""
    return float(f1_score(labels, predicted, average="macro", zero_division=0))


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: the predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(labels: Labels, probabilities: Floats, bins: int = 15) -> list[Bin]:
    """Equal-width bins of the top-1 confidence (Guo et al. 2017); empty bins have n = 0."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        n = int(inside.sum())
        mean = (float(confidence[inside].mean()), float(correct[inside].mean())) if n else (0.0, 0.0)
        rows.append(Bin(float(edges[number]), float(edges[number + 1]), n, *mean))
    return rows


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean gap between confidence and accuracy, weighted by the bins' sizes."""
    return sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / max(1, sum(b.n for b in bins))
