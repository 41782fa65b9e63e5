"""How accuracy falls where photographs are blurred, noisy, compressed, too bright or dark, flat or tilted."""

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.classification import Accuracy, Labels


@dataclass(frozen=True)
class Row:
    """One corruption: `levels`, mildest first, are what `about` says, and `accuracies` what is right at each."""

    corruption: str
    about: str
    levels: tuple[float, ...]
    accuracies: tuple[Accuracy, ...]

    @property
    def mean(self) -> float:
        """Over the levels."""
        return sum(each.value for each in self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class Robustness:
    """`clean`: on the same images as they are, `of` so many; they were drawn by `seed`, of every class its share.
    `seen`: of the first one what the model got, uint8[H, W, 3], in the order of `rows` and their levels."""

    clean: Accuracy
    of: int
    seed: int
    rows: tuple[Row, ...]
    seen: tuple[tuple[NDArray[np.uint8], ...], ...] = ()

    @property
    def mean(self) -> float:
        """Over all corruptions and levels."""
        return sum(row.mean for row in self.rows) / len(self.rows)

    def worst_first(self) -> list[Row]:
        """By the mean over the levels."""
        return sorted(self.rows, key=lambda row: row.mean)

    def as_json(self) -> dict[str, Any]:
        """Plain values, worst first."""
        return {
            "n": self.clean.n,
            "of": self.of,
            "seed": self.seed,
            "clean": asdict(self.clean),
            "mean": self.mean,
            "corruptions": [
                {
                    "corruption": row.corruption,
                    "levels_are": row.about,
                    "mean": row.mean,
                    "levels": [
                        {"severity": number, "level": level, **asdict(accuracy)}
                        for number, (level, accuracy) in enumerate(zip(row.levels, row.accuracies, strict=True), 1)
                    ],
                }
                for row in self.worst_first()
            ],
        }

    def as_csv(self) -> str:
        """A row for each corruption and severity."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["corruption", "severity", "is", "level", "accuracy", "correct", "n", "low", "high"])
        for row in self.worst_first():
            for number, (level, each) in enumerate(zip(row.levels, row.accuracies, strict=True), 1):
                score = each.value, each.correct, each.n, each.low, each.high
                writer.writerow([row.corruption, number, row.about, level, *score])
        return text.getvalue()


def sample(labels: Labels, n: int, seed: int) -> NDArray[np.int64]:
    """The places of `n` of int64[N] at most, in order: drawn by seed, of every label its share."""
    drawn = np.random.default_rng(seed).permutation(len(labels))
    share = np.empty(len(labels))
    for label in np.unique(labels):
        places = drawn[labels[drawn] == label]
        share[places] = (np.arange(len(places)) + 0.5) / len(places)
    order = drawn[np.argsort(share[drawn], kind="stable")]
    return np.sort(order[:n])
