"""The evidence of a network as its makers published it: photographs that have answers, right or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.data import photographs
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics.classification import Floats
from training.runs.trained_model import TrainedModel
from training.variants.card import Authored
from training.variants.evidence import Evidence
from training.variants.golden import golden_of
from training.variants.proof import answers_of
from training.weights.published import Published

# By how much the first answer leads: INT8 moves a probability by about as much, so that below it a flip says nothing.
CLEAR = 0.1


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Evidence):
    """`val`: of `looked_at` images those with a clear answer, `probabilities` float32[N, K] the checkpoint's of them;
    `source` says what they are."""

    published: Published
    source: str
    looked_at: int
    probabilities: Floats

    @classmethod
    def of(
        cls,
        checkpoint: TrainedModel,
        published: Published,
        data: Data,
        splits: Mapping[str, Pixels],
        source: str,
        authored: Authored,
        *,
        images: bool,
    ) -> "Unlabelled":
        """Of the `splits` train and val. Of near ties none are judged by, unless all images are such."""
        val = splits["val"]
        probabilities = answers_of(checkpoint, val).probabilities
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        clear = np.flatnonzero(first - second >= CLEAR)
        clear = clear if len(clear) else np.arange(len(val))
        return cls(
            checkpoint=checkpoint,
            golden=golden_of(checkpoint, authored.samples),
            card=authored.card,
            data=data,
            train=splits["train"],
            val=val.part(clear),
            judges=None,
            images=images,
            published=published,
            source=source,
            looked_at=len(val),
            probabilities=probabilities[clear],
        )

    @property
    def judged(self) -> str:
        """What the variants were compared on, in words."""
        if len(self.val) == self.looked_at:
            return f"{self.looked_at:,} images"
        return (
            f"{len(self.val):,} of {self.looked_at:,} images: of the others the checkpoint's first two answers "
            f"are within {CLEAR}, so that no difference would mean anything"
        )

    @property
    def accuracy(self) -> str:
        """Nothing here has measured it: what the makers of the weights say, if they do."""
        stated = self.published.accuracy
        return f"not measured here; {stated}" if stated else "not measured"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What there is in place of a measurement."""
        unfitted = "nothing: temperature 1, no reject line, no threshold of the unfamiliar"
        return [("judged", self.judged), ("accuracy", self.accuracy), ("fitted", unfitted)]

    @property
    def provenance(self) -> dict[str, Any]:
        """With what the makers state."""
        found, (count, _) = self.published, photographs.count(self.data)
        stated = {"accuracy": found.accuracy} if found.accuracy else {}
        judged = len(self.val)
        used = {
            "calibrated": len(self.data.splits["train"]),
            "judged": judged,
            "near_ties_left_out": self.looked_at - judged,
        }
        return {
            "recipe": self.checkpoint.recipe.model_dump(mode="json"),
            "data": {"source": f"what {found.source} was trained on"},
            "weights": {"name": found.file, "source": found.source, "licence": found.licence, **stated},
            "photographs": {"source": self.source, "n": count, **used},
        }
