"""Scores of a classifier: fractions in 0..1, each accuracy with its 95 % interval."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri  # not scipy.stats, nor scikit-learn: 1.5 s of every command's start

from training.console.terminal import count

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]
BINS = 15  # of confidence, as in Guo et al. 2017
GOOD_ECE = 0.02
VAGUE = 0.05  # what images leave open by chance, above which a small error proves nothing
CHANCE = 0.05  # what happens by chance less often than this is taken for a finding


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
        share, z = correct / n, float(ndtri(0.975))
        centre, reach = 2 * correct + z**2, z * (4 * correct * (1 - share) + z**2) ** 0.5
        low, high = ((centre + side * reach) / (2 * (n + z**2)) for side in (-1, 1))
        return cls(share, correct, n, low if correct else 0.0, high if correct < n else 1.0)

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.correct:,}/{self.n:,}, 95 % interval {self.low:.3f}-{self.high:.3f})"


def shown(correct: int | Labels, n: int | Labels) -> NDArray[np.float64]:
    """The share that `correct` of `n` show at least, with 95 % confidence: 299 of 299 are needed to show 0.99.

    One-sided, exact: Clopper and Pearson 1934, Biometrika 26:404.
    """
    least: NDArray[np.float64] = betaincinv(correct, np.subtract(n, correct) + 1, CHANCE)
    return np.nan_to_num(least)  # of none right it is no number


def accuracy(labels: Labels, predicted: Labels) -> Accuracy:
    """Share of equal entries of two int64[N]."""
    return Accuracy.of(int((labels == predicted).sum()), len(labels))


def confusion_matrix(labels: Labels, predicted: Labels, classes: int) -> Labels:
    """int64[K, K] of two int64[N]: images of label i called label j."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def precision_recall_f1(matrix: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """float64[K] each, of a confusion matrix int64[K, K]; 0 where undefined, as scikit-learn has it."""
    right, called, have = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    return right / np.maximum(called, 1), right / np.maximum(have, 1), 2 * right / np.maximum(called + have, 1)


def macro_f1(labels: Labels, predicted: Labels) -> float:
    """Mean F1 over the classes that occur in `labels` or `predicted` (scikit-learn's definition)."""
    matrix = confusion_matrix(labels, predicted, 1 + int(max(labels.max(), predicted.max())))
    occurs = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(precision_recall_f1(matrix)[2][occurs].mean())


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: the predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def _places(confidence: Floats, bins: int = BINS) -> Labels:
    """int64[N]: the bin that each confidence lies in."""
    return np.clip(np.digitize(confidence, np.linspace(0, 1, bins + 1), right=True) - 1, 0, bins - 1)


def reliability(labels: Labels, probabilities: Floats, bins: int = BINS) -> list[Bin]:
    """Equal-width bins of the top-1 confidence (Guo et al. 2017); empty bins have n = 0."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges, place = np.linspace(0, 1, bins + 1), _places(confidence, bins)
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


@dataclass(frozen=True)
class Calibration:
    """Whether confidence is what it says. `chance`: the ECE that only 5 % of perfectly calibrated models exceed on as
    many images as these; `confidence`: the mean one."""

    ece: float
    chance: float
    confidence: float
    accuracy: Accuracy

    @classmethod
    def of(cls, labels: Labels, probabilities: Floats, draws: int = 400) -> "Calibration":
        """From int64[N] and float32[N, K]. What chance gives is drawn: of each answer, whether it is right, by its own
        confidence (consistency resampling, Broecker and Smith 2007)."""
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        place, generator = _places(confidence), np.random.default_rng(0)

        def error(correct: NDArray[np.bool_]) -> float:
            return float(np.abs(np.bincount(place, confidence - correct, BINS)).sum()) / len(labels)

        drawn = [error(generator.random(len(labels)) < confidence) for _ in range(draws)]
        score = Accuracy.of(int(right.sum()), len(labels))
        return cls(error(right), float(np.quantile(drawn, 1 - CHANCE)), float(confidence.mean(dtype=np.float64)), score)

    @property
    def gap(self) -> float:
        """By how much confidence is above accuracy."""
        return self.confidence - self.accuracy.value

    @property
    def verdict(self) -> str:
        """One or two words. An error of less than two points in a hundred is nobody's concern, however sure it is."""
        if self.ece > max(self.chance, GOOD_ECE):
            if abs(self.gap) < self.ece / 2:
                return "uneven"
            return "overconfident" if self.gap > 0 else "underconfident"
        open_to_chance = max(self.chance, (self.accuracy.high - self.accuracy.low) / 2)
        return "good" if open_to_chance <= VAGUE else "too few images to tell"

    def __str__(self) -> str:
        meant = {
            "good": "it is right about as often as it says",
            "overconfident": f"it is right less often than it says, by {100 * self.gap:.1f} points on average",
            "underconfident": f"it is right more often than it says, by {-100 * self.gap:.1f} points on average",
            "uneven": "it is too sure in some places and not sure enough in others",
            "too few images to tell": "more would show whether it is right as often as it says",
        }[self.verdict]
        images = count(self.accuracy.n, "image")
        return f"{self.verdict}: {meant} (ECE {self.ece:.3f}; with {images} chance alone gives up to {self.chance:.3f})"


@dataclass(frozen=True)
class ClassScore:
    """One label's row: `n` images have it; `confused` is what they are most often called instead, and how often."""

    label: str
    n: int
    precision: float
    recall: float
    f1: float
    confused: str
    confused_n: int

    @classmethod
    def of(cls, labels: tuple[str, ...], i: int, row: Labels, precision: float, recall: float, f1: float) -> Self:
        """Of label `i`, with its row of the confusion matrix, int64[K]."""
        wrong = row.copy()
        wrong[i] = 0
        worst = int(wrong.argmax())
        confused = labels[worst] if wrong[worst] else ""
        return cls(labels[i], int(row.sum()), precision, recall, f1, confused, int(wrong[worst]))


@dataclass(frozen=True)
class Evaluation:
    """Every score of one set of predictions. `confusion_matrix[i][j]`: images of label i called label j."""

    labels: tuple[str, ...]
    accuracy: Accuracy
    majority: float
    majority_label: str
    macro_f1: float
    ece: float
    per_class: tuple[ClassScore, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    calibration: Calibration

    @classmethod
    def of(cls, names: tuple[str, ...], labels: Labels, probabilities: Floats) -> "Evaluation":
        """From int64[N] and float32[N, K]; precision, recall and F1 are scikit-learn's, 0 where undefined."""
        predicted = probabilities.argmax(axis=1)
        matrix = confusion_matrix(labels, predicted, len(names))
        columns = precision_recall_f1(matrix)
        counts = np.bincount(labels, minlength=len(names))
        bins = reliability(labels, probabilities)
        return cls(
            labels=names,
            accuracy=accuracy(labels, predicted),
            majority=float(counts.max() / counts.sum()),
            majority_label=names[counts.argmax()],
            macro_f1=macro_f1(labels, predicted),
            ece=expected_calibration_error(bins),
            per_class=tuple(
                ClassScore.of(names, i, matrix[i], float(p), float(r), float(f))
                for i, (p, r, f) in enumerate(zip(*columns, strict=True))
            ),
            confusion_matrix=tuple(tuple(int(count) for count in row) for row in matrix),
            reliability=tuple(bins),
            calibration=Calibration.of(labels, probabilities),
        )

    def worst_first(self) -> list[ClassScore]:
        """By rising F1; labels without an image, of which nothing is known, come last."""
        return sorted(self.per_class, key=lambda row: (row.n == 0, row.f1))

    def as_json(self) -> dict[str, Any]:
        """Plain values; `accuracy` is a number with its interval beside it."""
        plain = asdict(self)
        score = plain.pop("accuracy")
        return {
            "n": score["n"],
            "accuracy": score["value"],
            "accuracy_interval": [score["low"], score["high"]],
            "correct": score["correct"],
            **plain,
            "calibration": {"verdict": self.calibration.verdict, "ece_by_chance": self.calibration.chance},
        }
