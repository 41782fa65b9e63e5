"""Whether a picture is like those that the network was trained on: the energy score of its logits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from training.score import Accuracy, Floats

FAMILIAR_SHARE = 0.95  # of val lies below the threshold, by its definition


def energy(logits: Floats) -> NDArray[np.float64]:
    """float32[N, K], before the temperature -> float64[N]: -logsumexp, high for what looks unfamiliar.

    Liu et al. 2020, arXiv:2010.03759, with their temperature 1.
    """
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


@dataclass(frozen=True)
class Familiarity:
    """Energies of val, of the held-out split and of the golden drawings; above `threshold` a picture is unfamiliar."""

    val: NDArray[np.float64]
    held_out: NDArray[np.float64]
    drawings: NDArray[np.float64]
    threshold: float

    @classmethod
    def of(cls, val: Floats, held_out: Floats, drawings: Floats) -> "Familiarity":
        """From logits; the threshold comes from val alone."""
        scores = energy(val)
        return cls(scores, energy(held_out), energy(drawings), float(np.quantile(scores, FAMILIAR_SHARE)))

    @property
    def false_alarms(self) -> Accuracy:
        """The share of held-out pictures, all of them familiar in truth, that would be called unfamiliar."""
        return Accuracy.of(int((self.held_out > self.threshold).sum()), len(self.held_out))

    @property
    def drawings_found(self) -> int:
        """How many of the drawings, which belong to no class, lie above the threshold."""
        return int((self.drawings > self.threshold).sum())
