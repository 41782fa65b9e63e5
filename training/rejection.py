"""Leaving the unsure answers to a person: how accuracy grows as coverage falls, and where to draw the line."""

from dataclasses import dataclass

import numpy as np

from training.score import Accuracy, Floats, Labels

TARGET = 0.99
LEAST_COVERAGE = 0.1  # below it a few lucky pictures would decide


@dataclass(frozen=True)
class Rejection:
    """Answers with at least this confidence are accepted. `on_val` and `on_held_out`: the accuracy of what is accepted
    (None: nothing is), the latter of `held_out_n`."""

    confidence: float
    on_val: Accuracy
    on_held_out: Accuracy | None
    held_out_n: int

    @property
    def coverage(self) -> float:
        """Share of held-out pictures that are accepted."""
        return self.on_held_out.n / self.held_out_n if self.on_held_out else 0.0

    @property
    def reaches_target(self) -> bool:
        """Whether val is 99 % right above the line; if not, the line is where val is most often right."""
        return self.on_val.value >= TARGET


def coverage_curve(labels: Labels, probabilities: Floats) -> tuple[Floats, Floats, Floats]:
    """(confidence, coverage, accuracy), float32 each, from full coverage down: what is accepted at each confidence.

    The accuracy-rejection curve of Nadeem et al. 2010; of equal confidences all are accepted or none.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((probabilities.argmax(axis=1) == labels)[order])
    ends = np.flatnonzero(np.diff(confidence[order], append=-1))[::-1]
    count = ends + 1
    return (
        confidence[order][ends].astype(np.float32),
        (count / len(labels)).astype(np.float32),
        (right[ends] / count).astype(np.float32),
    )


def choose(val_labels: Labels, val: Floats) -> float:
    """The smallest confidence at which the accepted pictures of val are 99 % right; else where most are right.

    Only lines that accept a tenth of val are looked at. 0 where all of val is 99 % right already.
    """
    confidence, coverage, accuracy = coverage_curve(val_labels, val)
    allowed = coverage >= LEAST_COVERAGE
    good = np.flatnonzero(allowed & (accuracy >= TARGET))
    best = int(good[0]) if len(good) else int(np.where(allowed, accuracy, -1).argmax())
    return float(confidence[best]) if best else 0.0


def suggest(val_labels: Labels, val: Floats, labels: Labels, held_out: Floats) -> Rejection:
    """Decided on val, then measured once on the held-out split."""
    line = choose(val_labels, val)
    on_val = _accepted(val_labels, val, line)
    assert on_val is not None  # a tenth of val is accepted
    return Rejection(line, on_val, _accepted(labels, held_out, line), len(held_out))


def _accepted(labels: Labels, probabilities: Floats, line: float) -> Accuracy | None:
    inside = probabilities.max(axis=1) >= np.float32(line)
    right = probabilities[inside].argmax(axis=1) == labels[inside]
    return Accuracy.of(int(right.sum()), int(inside.sum())) if inside.any() else None


def at_coverages(labels: Labels, probabilities: Floats) -> list[tuple[float, float, float]]:
    """Rows (coverage, confidence, accuracy) near 100, 95, 90, 80, 70, 60 and 50 % coverage, for the table."""
    confidence, coverage, accuracy = coverage_curve(labels, probabilities)
    places = dict.fromkeys(int(np.abs(coverage - wanted).argmin()) for wanted in (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5))
    return [(float(coverage[i]), float(confidence[i]), float(accuracy[i])) for i in places]
