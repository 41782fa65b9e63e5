"""What a model answers on one split, and what that is worth."""

import csv
import io
from dataclasses import dataclass
from typing import Any

from training.data.pixels import Pixels
from training.metrics import label_errors
from training.metrics.classification import Evaluation, Floats
from training.metrics.robustness import Robustness


@dataclass(frozen=True)
class Predictions:
    """float32[N, K] for the samples of `pixels`, what gave them, with which temperature, and what they are worth;
    `robustness` where it was asked for."""

    variant: str
    data: str
    split: str
    pixels: Pixels
    probabilities: Floats
    evaluation: Evaluation
    temperature: float = 1.0
    robustness: Robustness | None = None

    def suspects(self) -> list[label_errors.Mistake]:
        """Probable wrong labels, the most confident contradiction first."""
        return label_errors.suspects(label_errors.find(self.pixels.samples, self.probabilities, self.temperature))

    def as_json(self) -> dict[str, Any]:
        """One document with every score."""
        where = {"variant": self.variant, "data": self.data, "split": self.split}
        robust = {"robustness": self.robustness.as_json()} if self.robustness else {}
        return where | {"suspects": len(self.suspects())} | self.evaluation.as_json() | robust

    def as_csv(self) -> str:
        """Columns path, label, prediction, confidence and the probability of each label, in full precision."""
        text, names = io.StringIO(), self.evaluation.labels
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "prediction", "confidence", *(f"p_{name}" for name in names)])
        for sample, row in zip(self.pixels.samples, self.probabilities, strict=True):
            top, values = int(row.argmax()), [repr(float(value)) for value in row]
            writer.writerow([sample.path, names[sample.label], names[top], values[top], *values])
        return text.getvalue()
