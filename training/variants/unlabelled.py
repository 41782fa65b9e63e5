"""What an export of a network as its makers published it hands to its report: answers, right or not."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.data import photographs
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics.classification import Floats
from training.runs.trained_model import TrainedModel
from training.variants.proof import answers_of
from training.weights.published import Published

# By how much the first answer leads: INT8 moves a probability by about as much, so that below it a flip says nothing.
CLEAR = 0.1


@dataclass(frozen=True)
class Unlabelled:
    """`judging`: images without labels that the variants are compared on, `probabilities` float32[N, K] the
    checkpoint's of them; of `shown` images those are the ones with a clear answer. `data` reads their files, `source`
    says what they are. Without `images` the report has neither images nor file names."""

    checkpoint: TrainedModel
    published: Published
    data: Data
    source: str
    judging: Pixels
    shown: int
    probabilities: Floats
    images: bool

    @classmethod
    def of(
        cls, checkpoint: TrainedModel, published: Published, data: Data, source: str, val: Pixels, *, images: bool
    ) -> "Unlabelled":
        """With what the checkpoint answers on `val`. Of near ties none are judged by, unless all images are such."""
        probabilities = answers_of(checkpoint, val).probabilities
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        clear = np.flatnonzero(first - second >= CLEAR)
        clear = clear if len(clear) else np.arange(len(val))
        return cls(checkpoint, published, data, source, val.part(clear), len(val), probabilities[clear], images)

    @property
    def judged(self) -> str:
        """What the variants were compared on, in words."""
        if len(self.judging) == self.shown:
            return f"{self.shown:,} images"
        return (
            f"{len(self.judging):,} of {self.shown:,} images: of the others the checkpoint's first two answers "
            f"are within {CLEAR}, so that no difference would mean anything"
        )

    @property
    def accuracy(self) -> str:
        """Nothing here has measured it: what the makers of the weights say, if they do."""
        stated = self.published.accuracy
        return f"not measured here; {stated}" if stated else "not measured"

    @property
    def provenance(self) -> dict[str, Any]:
        """Of the manifest."""
        found, (count, _) = self.published, photographs.count(self.data)
        stated = {"accuracy": found.accuracy} if found.accuracy else {}
        judged = len(self.judging)
        used = {
            "calibrated": len(self.data.splits["train"]),
            "judged": judged,
            "near_ties_left_out": self.shown - judged,
        }
        return {
            "recipe": self.checkpoint.recipe.model_dump(mode="json"),
            "data": {"source": f"what {found.source} was trained on"},
            "weights": {"name": found.file, "source": found.source, "licence": found.licence, **stated},
            "photographs": {"source": self.source, "n": count, **used},
        }
