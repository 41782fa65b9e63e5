"""What an export hands to its report."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax

from app.engines import Outputs, Runs
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics import label_errors, selective
from training.metrics.classification import Evaluation, Floats
from training.metrics.label_errors import Mistake
from training.metrics.ood import Familiarity
from training.metrics.selective import Rejection
from training.runs.checkpoint import Run
from training.variants.calibration import Temperature


@dataclass(frozen=True)
class Evidence:
    """`split`: the held-out one, which `evaluation` and `outputs` (of the checkpoint, on all of it) are about;
    `val_logits` float32[N, K] and `drawings` (outputs on the golden images) are the checkpoint's too.

    `data` has the run's splits and reads their files. Without `images` the report has neither images nor file
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
    temperature: Temperature
    images: bool

    @property
    def val_probabilities(self) -> Floats:
        """float32[N, K]."""
        return np.asarray(softmax(self.val_logits / self.temperature.value, axis=1), dtype=np.float32)

    @cached_property
    def line(self) -> Rejection:
        """Where to reject, decided on val."""
        val, held_out = (self.val.labels, self.val_probabilities), (self.held_out.labels, self.outputs.probabilities)
        return selective.suggest(*val, *held_out)

    @cached_property
    def familiar(self) -> Familiarity:
        """The energies, with the threshold that val sets."""
        return Familiarity.of(self.val_logits, self.outputs.logits, self.drawings.logits)

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """On the held-out split, the largest loss first."""
        return label_errors.find(self.held_out.samples, self.outputs.probabilities, self.temperature.value)
