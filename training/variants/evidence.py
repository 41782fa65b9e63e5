"""What an export hands to its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax

from app.artifact.golden import Golden
from app.engines import Outputs, Runs
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics import label_errors, selective
from training.metrics.classification import Accuracy, Evaluation, Floats, accuracy
from training.metrics.label_errors import Mistake
from training.metrics.ood import Familiarity
from training.metrics.selective import Rejection
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants.calibration import Temperature
from training.variants.proof import answers_of


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
    checkpoint: TrainedModel
    temperature: Temperature
    images: bool

    @classmethod
    def of(
        cls,
        run: Run,
        data: Data,
        splits: Mapping[str, Pixels],
        checkpoint: TrainedModel,
        val_logits: Floats,
        temperature: Temperature,
        golden: Golden,
        *,
        images: bool,
    ) -> "Evidence":
        """With what the checkpoint answers on all of the held-out split, test or else val."""
        split = "test" if "test" in splits else "val"
        held_out = splits[split]
        outputs = answers_of(checkpoint, held_out)
        return cls(
            run=run,
            data=data,
            split=split,
            val=splits["val"],
            held_out=held_out,
            evaluation=Evaluation.of(run.labels, held_out.labels, outputs.probabilities),
            outputs=outputs,
            val_logits=val_logits,
            drawings=checkpoint.run(golden.pixels),
            checkpoint=checkpoint,
            temperature=temperature,
            images=images,
        )

    def accuracy_of(self, engine: Runs) -> Accuracy:
        """On the held-out split, where nothing is decided any more."""
        if engine is self.checkpoint:
            return self.evaluation.accuracy
        return accuracy(self.held_out.labels, answers_of(engine, self.held_out).probabilities.argmax(axis=1))

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
