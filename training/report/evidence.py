"""What an export hands to its report."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from app.engines import Outputs, Runs
from training.checkpoint import Run
from training.pixels import Pixels
from training.samples import Data
from training.score import Evaluation, Floats


@dataclass(frozen=True)
class Evidence:
    """`split`: the held-out one, which `evaluation` and `outputs` (of the checkpoint, on all of it) are about;
    `val_logits` float32[N, K] and `drawings` (outputs on the golden pictures) are the checkpoint's too.

    `data` has the run's splits and reads their files. Without `pictures` the report has neither pictures nor file
    names.
    """

    run: Run
    data: Data
    split: str
    val: Pixels
    held_out: Pixels
    evaluation: Evaluation
    outputs: Outputs
    val_logits: Floats
    drawings: Outputs
    checkpoint: Runs
    temperature: float
    pictures: bool

    @property
    def val_probabilities(self) -> Floats:
        """float32[N, K]."""
        return np.asarray(softmax(self.val_logits / self.temperature, axis=1), dtype=np.float32)
