"""Whether an image is like those that the network was trained on: its out-of-distribution score against val's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.console.terminal import count
from training.metrics import conformal
from training.metrics.classification import Accuracy

FAMILIAR_SHARE = 0.95  # of new images like val's lie at or below the threshold


def threshold(scores: NDArray[np.float64]) -> float | None:
    """The score that at most 5 % of new images of val's kind exceed, on average over vals of this size."""
    return conformal.threshold(scores, FAMILIAR_SHARE)


@dataclass(frozen=True)
class Familiarity:
    """Out-of-distribution scores (see app.artifact.doubt) of val, the held-out split and the golden drawings; above
    `threshold` an image is unfamiliar. None: val is too small to set one."""

    val: NDArray[np.float64]
    held_out: NDArray[np.float64]
    drawings: NDArray[np.float64]
    threshold: float | None

    @property
    def false_alarms(self) -> Accuracy:
        """The share of held-out images, all of them familiar in truth, that would be called unfamiliar."""
        return Accuracy.of(self._above(self.held_out), len(self.held_out))

    @property
    def drawings_found(self) -> int:
        """How many of the drawings, which belong to no class, lie above the threshold."""
        return self._above(self.drawings)

    def _above(self, scores: NDArray[np.float64]) -> int:
        # as the service has it: what is no number is unfamiliar
        return 0 if self.threshold is None else int((~(scores <= self.threshold)).sum())

    def __str__(self) -> str:
        images = count(len(self.val), "val image")
        if self.threshold is None:
            least = conformal.least_images(FAMILIAR_SHARE)
            return f"no threshold: {images} cannot set one that 5 % exceed (at least {least})"
        return f"a score above {self.threshold:.3f}, which at most 5 % of images like the {images} have"
