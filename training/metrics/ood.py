"""Whether an image is like those that the network was trained on: the energy score of its logits."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from training.console.terminal import count
from training.metrics.classification import Accuracy, Floats

FAMILIAR_SHARE = 0.95  # of new images like val's lie below the threshold
LEAST_IMAGES = 19  # with fewer even the highest energy of val is exceeded more often


def energy(logits: Floats) -> NDArray[np.float64]:
    """float32[N, K], before the temperature -> float64[N]: -logsumexp, high for what looks unfamiliar.

    Liu et al. 2020, arXiv:2010.03759, with their temperature 1.
    """
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def threshold(energies: NDArray[np.float64]) -> float | None:
    """The energy that at most 5 % of new images of val's kind exceed, on average over vals of this size.

    The ceil(0.95 (n + 1))-th smallest, as conformal prediction has it (Papadopoulos et al. 2002; Angelopoulos and Bates
    2021, arXiv:2107.07511): the plain quantile of 20 images is exceeded by 9 % of new ones, that of 5 by 20 %. None
    where val has no such image.
    """
    place = math.ceil(FAMILIAR_SHARE * (len(energies) + 1) - 1e-9)
    return float(np.sort(energies)[place - 1]) if place <= len(energies) else None


@dataclass(frozen=True)
class Familiarity:
    """Energies of val, of the held-out split and of the golden drawings; above `threshold` an image is unfamiliar.
    None: val is too small to set one."""

    val: NDArray[np.float64]
    held_out: NDArray[np.float64]
    drawings: NDArray[np.float64]
    threshold: float | None

    @classmethod
    def of(cls, val: Floats, held_out: Floats, drawings: Floats) -> "Familiarity":
        """From logits; the threshold comes from val alone."""
        scores = energy(val)
        return cls(scores, energy(held_out), energy(drawings), threshold(scores))

    @property
    def false_alarms(self) -> Accuracy:
        """The share of held-out images, all of them familiar in truth, that would be called unfamiliar."""
        return Accuracy.of(self._above(self.held_out), len(self.held_out))

    @property
    def drawings_found(self) -> int:
        """How many of the drawings, which belong to no class, lie above the threshold."""
        return self._above(self.drawings)

    def _above(self, scores: NDArray[np.float64]) -> int:
        return 0 if self.threshold is None else int((scores > self.threshold).sum())

    def __str__(self) -> str:
        images = count(len(self.val), "val image")
        if self.threshold is None:
            return f"no threshold: {images} cannot set one that 5 % exceed (at least {LEAST_IMAGES})"
        return f"energy above {self.threshold:.3f}, which at most 5 % of images like the {images} exceed"
