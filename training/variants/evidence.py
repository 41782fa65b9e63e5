"""What an export hands to its report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import softmax

from app.artifact.doubt import Doubt, score_of
from app.artifact.golden import Golden
from app.engines import Runs
from app.engines.variants import VARIANTS
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics import label_errors, selective
from training.metrics.classification import Evaluation, Floats, accuracy
from training.metrics.conformal import Sets
from training.metrics.label_errors import Mistake
from training.metrics.ood import Familiarity
from training.metrics.selective import Rejection
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants import doubt as doubting
from training.variants.calibration import Temperature
from training.variants.gates import Verdict
from training.variants.proof import Answers, answers_of


@dataclass(frozen=True)
class Evidence:
    """`split`: the held-out one, which `evaluation` and `outputs` (of the checkpoint, on all of it) are about;
    `on_val` and `drawings` (on the golden images) are the checkpoint's too. `doubt`: the thresholds for all variants;
    `coverage`: what sets were to promise.

    `data` has the run's splits and reads their files. Without `images` the report has neither images nor file
    names.
    """

    run: Run
    data: Data
    split: str
    val: Pixels
    held_out: Pixels
    evaluation: Evaluation
    outputs: Answers
    on_val: Answers
    drawings: Answers
    doubt: Doubt
    coverage: float
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
        on_val: Answers,
        temperature: Temperature,
        golden: Golden,
        kept: Mapping[str, Runs],
        *,
        coverage: float,
        images: bool,
    ) -> "Evidence":
        """With what the checkpoint answers on all of the held-out split, test or else val. `kept`: the variants that
        are served; fp32 ones are the checkpoint, by the gate, so that doubt is fitted on it and on the others."""
        split = "test" if "test" in splits else "val"
        held_out, val = splits[split], splits["val"]
        outputs, drawings = answers_of(checkpoint, held_out), checkpoint.run(golden.pixels)
        on_val = on_val._replace(probabilities=_softmax(on_val.logits, temperature.value))
        others = [engine for name, engine in kept.items() if VARIANTS[name].precision != "fp32"]
        answers = [on_val, *(answers_of(engine, val) for engine in others)]
        return cls(
            run=run,
            data=data,
            split=split,
            val=val,
            held_out=held_out,
            evaluation=Evaluation.of(run.labels, held_out.labels, outputs.probabilities),
            outputs=outputs,
            on_val=on_val,
            drawings=Answers.of(drawings),
            doubt=doubting.fit(val.labels, answers, score_of(drawings.heatmap), coverage),
            coverage=coverage,
            checkpoint=checkpoint,
            temperature=temperature,
            images=images,
        )

    def measured(self, row: Verdict, engine: Runs, golden: Golden) -> Verdict:
        """With what the variant does on the held-out split, where nothing is decided any more."""
        answers = self.outputs if engine is self.checkpoint else answers_of(engine, self.held_out)
        labels = self.held_out.labels
        apart = float(np.abs(Answers.of(engine.run(golden.pixels)).ood_scores - self.drawings.ood_scores).max())
        int8 = bool(row.file) and VARIANTS[row.name].precision == "int8"
        tolerance = doubting.tolerance(apart, self.on_val, int8=int8)
        return replace(
            row,
            test=accuracy(labels, answers.probabilities.argmax(axis=1)),
            doubt=doubting.measure(self.doubt, self.split, labels, answers, tolerance),
        )

    @cached_property
    def line(self) -> Rejection:
        """Where to reject, decided on val."""
        confidence = self.doubt.accept.confidence if self.doubt.accept else None
        val, held_out = (self.val.labels, self.on_val.probabilities), (self.held_out.labels, self.outputs.probabilities)
        return selective.at(confidence, *val, *held_out)

    @cached_property
    def sets(self) -> Sets:
        """Which labels go into a set, decided on val."""
        least = self.doubt.set.probability if self.doubt.set else None
        return Sets.of(least, self.coverage, len(self.val), self.held_out.labels, self.outputs.probabilities)

    @cached_property
    def familiar(self) -> Familiarity:
        """The out-of-distribution scores, with the threshold that val sets."""
        threshold = self.doubt.unfamiliar.threshold if self.doubt.unfamiliar else None
        scores = (self.on_val.ood_scores, self.outputs.ood_scores, self.drawings.ood_scores)
        return Familiarity(*scores, threshold)

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """On the held-out split, the largest loss first."""
        return label_errors.find(self.held_out.samples, self.outputs.probabilities, self.temperature.value)


def _softmax(logits: Floats, temperature: float) -> Floats:
    return np.asarray(softmax(logits / temperature, axis=1), dtype=np.float32)
