"""Leaving the unsure answers to a person: how accuracy grows as coverage falls, and where to draw the line."""

from dataclasses import dataclass

import numpy as np

from training.console.terminal import count
from training.metrics.classification import CHANCE, Accuracy, Floats, Labels, shown

TARGET = 0.99
LEAST_COVERAGE = 0.1  # below it a few lucky images would decide
LEAST_IMAGES = int(np.ceil(np.log(CHANCE) / np.log(TARGET)))  # 299: as many, all right, show 99 %


@dataclass(frozen=True)
class Rejection:
    """Answers with at least this confidence are accepted; None: val, of `val_n`, shows no line. `on_val` and
    `on_held_out`: the accuracy of what is accepted (None: nothing is), the latter of `held_out_n`."""

    confidence: float | None
    on_val: Accuracy
    val_n: int
    on_held_out: Accuracy | None
    held_out_n: int

    @property
    def coverage(self) -> float:
        """Share of held-out images that are accepted."""
        return self.on_held_out.n / self.held_out_n if self.on_held_out else 0.0

    @property
    def shown(self) -> float:
        """What val shows, with 95 % confidence, of the accuracy of what is accepted: at least this."""
        return float(shown(self.on_val.correct, self.on_val.n))

    @property
    def reaches_target(self) -> bool:
        """Whether val shows 99 % above the line."""
        return self.shown >= TARGET

    def __str__(self) -> str:
        val = f"{self.on_val.correct:,} of {count(self.on_val.n, 'val image')} right"
        least = f"at least {100 * self.shown:.1f} % with 95 % confidence"
        if self.confidence == 0:
            return f"nothing needs to be rejected: {val}, which shows {least}"
        if self.confidence is not None:
            why = "the lowest line at which that is 99 %" if self.reaches_target else "no line shows 99 %"
            return f"accept p >= {self.confidence:.3f}: {val} there, which shows {least} ({why})"
        if self.val_n < LEAST_IMAGES:
            return f"none: {val}, which shows {least}; to show 99 % takes {LEAST_IMAGES} without a mistake"
        return f"none: {val}, and no line that accepts a tenth of val shows more"


def _counts(labels: Labels, probabilities: Floats) -> tuple[Floats, Labels, Labels]:
    """(confidence, accepted, right of these), from all accepted down; of equal confidences all are accepted or none."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((probabilities.argmax(axis=1) == labels)[order])
    ends = np.flatnonzero(np.diff(confidence[order], append=-1))[::-1]
    return confidence[order][ends].astype(np.float32), ends + 1, right[ends]


def coverage_curve(labels: Labels, probabilities: Floats) -> tuple[Floats, Floats, Floats]:
    """(confidence, coverage, accuracy), float32 each, from full coverage down: what is accepted at each confidence.

    The accuracy-rejection curve of Nadeem et al. 2010.
    """
    confidence, accepted, right = _counts(labels, probabilities)
    return confidence, (accepted / len(labels)).astype(np.float32), (right / accepted).astype(np.float32)


def choose(val_labels: Labels, val: Floats) -> float | None:
    """The smallest confidence at which val shows that the accepted are 99 % right; else where it shows most.

    A line's worth is a lower bound, not the share that happens to be right of val: that share was below 99 % in truth
    for 15 to 89 of 100 lines that had it in 80 to 5,000 images, the bound for at most 6. (Geifman and El-Yaniv 2017,
    arXiv:1705.08500, also pay for looking at many lines; that halves the lines of 5,000 images.)
    Only lines that accept a tenth of val are looked at. 0 where all of val shows 99 % already, None where no line shows
    more than what is right of all of val.
    """
    confidence, accepted, right = _counts(val_labels, val)
    least = np.where(accepted >= LEAST_COVERAGE * len(val), shown(right, accepted), -1)
    good = np.flatnonzero(least >= TARGET)
    best = int(good[0]) if len(good) else int(least.argmax())
    if not len(good) and least[best] <= right[0] / accepted[0]:
        return None
    return float(confidence[best]) if best else 0.0


def suggest(val_labels: Labels, val: Floats, labels: Labels, held_out: Floats) -> Rejection:
    """Decided on val, then measured once on the held-out split."""
    return at(choose(val_labels, val), val_labels, val, labels, held_out)


def at(line: float | None, val_labels: Labels, val: Floats, labels: Labels, held_out: Floats) -> Rejection:
    """A line with what it does on both splits."""
    on_val = _accepted(val_labels, val, line or 0.0)
    assert on_val is not None  # a tenth of val is accepted
    return Rejection(line, on_val, len(val), _accepted(labels, held_out, line or 0.0), len(held_out))


def _accepted(labels: Labels, probabilities: Floats, line: float) -> Accuracy | None:
    inside = probabilities.max(axis=1) >= np.float32(line)
    right = probabilities[inside].argmax(axis=1) == labels[inside]
    return Accuracy.of(int(right.sum()), int(inside.sum())) if inside.any() else None


def at_coverages(labels: Labels, probabilities: Floats) -> list[tuple[float, float, float]]:
    """Rows (coverage, confidence, accuracy) near 100, 95, 90, 80, 70, 60 and 50 % coverage, for the table."""
    confidence, coverage, accuracy = coverage_curve(labels, probabilities)
    places = dict.fromkeys(int(np.abs(coverage - wanted).argmin()) for wanted in (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5))
    return [(float(coverage[i]), float(confidence[i]), float(accuracy[i])) for i in places]
