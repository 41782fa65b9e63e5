"""What an answer says besides its probabilities, by thresholds that the export fitted on val (docs/unfamiliar.md)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from app.artifact.ranking import Ranked, rank

Fraction = Annotated[float, Field(ge=0, le=1)]
Score = Literal["max-local-logit", "max-logit"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Doubts(TypedDict, total=False):
    """Of one image; what the artifact has no threshold for is left out."""

    unfamiliar: Annotated[bool, Field(description="Whether it is unlike the images that the model was fitted to.")]
    accept: Annotated[bool, Field(description="Whether `confidence` reaches the line above which answers are right.")]
    set: Annotated[
        list[str],
        Field(
            description="Labels by falling probability, never none: the right one is among them as often as promised."
        ),
    ]


class Unfamiliar(_Part):
    """Images whose out-of-distribution score is above `threshold`. The share `accepts` of new images like val's is not.

    `max-local-logit`: minus the largest logit at any place of the class activation maps; `max-logit`: minus the largest
    logit, where there are none (Hendrycks et al. 2022, arXiv:1911.11132).
    """

    score: Score
    threshold: float
    accepts: Fraction


class Accept(_Part):
    """Answers whose confidence is at least `confidence`; val shows, with 95 % confidence, that `shown` of them are
    right."""

    confidence: Fraction
    shown: Fraction


class PredictionSet(_Part):
    """The labels with at least `probability`, and the first in any case: of new images like val's, the share `coverage`
    has its label in the set (split conformal prediction; the set is that of Sadinle et al. 2019, arXiv:1609.00451)."""

    score: Literal["least-ambiguous"]
    probability: Fraction
    coverage: Fraction


class Doubt(_Part):
    """The thresholds, fitted on `n` images of val; None where these were too few for one."""

    n: Annotated[int, Field(ge=1)]
    unfamiliar: Unfamiliar | None
    accept: Accept | None
    set: PredictionSet | None

    def of(self, probabilities: NDArray[np.float32], ood_score: float, labels: Sequence[str], ranked: Ranked) -> Doubts:
        """What is said of one image, float32[K], of which `ranked` are the first labels, one at least.

        What is no number is doubtful.
        """
        said: Doubts = {}
        if self.unfamiliar:
            said["unfamiliar"] = not ood_score <= self.unfamiliar.threshold
        if self.accept:
            said["accept"] = ranked[0][1] >= self.accept.confidence
        if self.set:
            least = self.set.probability
            if ranked[-1][1] >= least and len(ranked) < len(labels):  # there may be more than were asked for
                ranked = rank(probabilities, labels, len(labels))
            said["set"] = [label for label, probability in ranked if probability >= least] or [ranked[0][0]]
        return said


def score_of(heatmap: object) -> Score:
    """The one that serves: local evidence where the network has maps."""
    return "max-logit" if heatmap is None else "max-local-logit"


def ood_score(logits: NDArray[np.float32], heatmap: NDArray[np.float32] | None) -> float:
    """Of one image, float32[K] and float32[K, h, w] where there are maps; high for what looks unfamiliar."""
    return -float(logits.max() if heatmap is None else heatmap.max())


def ood_scores(logits: NDArray[np.float32], heatmap: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """The same of N images: float32[N, K] and float32[N, K, h, w] -> float64[N]."""
    evidence = logits if heatmap is None else heatmap
    scores: NDArray[np.float64] = -evidence.reshape(len(evidence), -1).max(axis=1).astype(np.float64)
    return scores


class Doubted(_Part):
    """What the thresholds do to a variant's answers on `n` held-out images of `split`, all of them familiar in truth.

    `unfamiliar`: the share that is called so; `accepted`: the share that is accepted, `right`: of that, what is right
    (None: nothing is); `coverage`: the share whose label is in its set, of `set_size` labels on average. None where
    there is no threshold. `tolerance`: by how much the self-test lets an out-of-distribution score differ.
    """

    split: str
    n: Annotated[int, Field(ge=1)]
    unfamiliar: Fraction | None
    accepted: Fraction | None
    right: Fraction | None
    coverage: Fraction | None
    set_size: Annotated[float, Field(ge=1)] | None
    tolerance: Annotated[float, Field(gt=0)]
