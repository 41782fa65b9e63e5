"""The evidence of a run: there are labelled images, on val to decide by and on the held-out split to measure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from app.artifact.doubt import Doubt, score_of
from app.artifact.manifest import Metrics
from app.engines import Runs
from app.engines.variants import VARIANTS
from training.console.progress import Talk
from training.data import pixels
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.metrics import label_errors, selective
from training.metrics.classification import Evaluation, accuracy
from training.metrics.conformal import Sets
from training.metrics.label_errors import Mistake
from training.metrics.ood import Familiarity
from training.metrics.selective import Rejection
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants import calibration, gates, tolerance
from training.variants import doubt as doubting
from training.variants.calibration import Temperature
from training.variants.card import Authored
from training.variants.evidence import Evidence
from training.variants.gates import Verdict
from training.variants.golden import golden_files, golden_of
from training.variants.manifest import score
from training.variants.proof import Answers, answers_of

CALIBRATION_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Labelled(Evidence):
    """`split`: the held-out one, test or else val, which `evaluation` and `outputs` (of the checkpoint, on all of it)
    are about; `on_val` is the checkpoint's too. `doubt`: the thresholds for all variants; `coverage`: what sets were to
    promise."""

    labelled: ClassVar[bool] = True
    run: Run
    held_out: Pixels
    evaluation: Evaluation
    outputs: Answers
    on_val: Answers
    temperature: Temperature
    coverage: float
    doubt: Doubt

    @classmethod
    def of(
        cls,
        run: Run,
        data: Data,
        splits: Mapping[str, Pixels],
        authored: Authored,
        *,
        coverage: float,
        images: bool,
    ) -> "Labelled":
        """Of the run's best checkpoint, with its temperature; no threshold is fitted yet. `splits`: see `read`."""
        plain, val = TrainedModel.of(run), splits["val"]
        on_val = answers_of(plain, val)
        temperature = calibration.fit(on_val.logits, val.labels)
        calibrated = np.asarray(softmax(on_val.logits / temperature.value, axis=1), dtype=np.float32)
        checkpoint = replace(plain, temperature=temperature.value)
        split = "test" if "test" in splits else "val"
        held_out, outputs = splits[split], answers_of(checkpoint, splits[split])
        return cls(
            checkpoint=checkpoint,
            golden=golden_of(checkpoint, authored.samples),
            card=authored.card,
            data=data,
            train=splits["train"],
            val=val,
            judges=splits.get("judges"),
            images=images,
            run=run,
            split=split,
            held_out=held_out,
            evaluation=Evaluation.of(run.labels, held_out.labels, outputs.probabilities),
            outputs=outputs,
            on_val=on_val._replace(probabilities=calibrated),
            temperature=temperature,
            coverage=coverage,
            doubt=Doubt(n=len(val), unfamiliar=None, accept=None, set=None),
        )

    def fitted(self, kept: Mapping[str, Runs]) -> "Labelled":
        """fp32 variants are the checkpoint, by the gate, so that doubt is fitted on it and on the others."""
        others = [engine for name, engine in kept.items() if VARIANTS[name].precision != "fp32"]
        answers = [self.on_val, *(answers_of(engine, self.val) for engine in others)]
        heatmap = self.checkpoint.run(self.golden.pixels[:1]).heatmap
        return replace(self, doubt=doubting.fit(self.val.labels, answers, score_of(heatmap), self.coverage))

    def measured(self, row: Verdict, engine: Runs) -> Verdict:
        """Also of the checkpoint, whose answers are there already."""
        answers = self.outputs if engine is self.checkpoint else answers_of(engine, self.held_out)
        labels, golden = self.held_out.labels, Answers.of(engine.run(self.golden.pixels))
        assert self.golden.ood_scores is not None  # golden_of has them
        apart = float(np.abs(golden.ood_scores - self.golden.ood_scores).max())
        int8 = bool(row.file) and VARIANTS[row.name].precision == "int8"
        allowed = tolerance.of_score(apart, float(self.on_val.ood_scores.std()), int8=int8)
        return replace(
            row,
            test=accuracy(labels, answers.probabilities.argmax(axis=1)),
            doubt=doubting.measure(self.doubt, self.split, labels, answers, allowed),
        )

    @property
    def metrics(self) -> Metrics:
        """On the held-out split."""
        found = self.evaluation
        return Metrics(
            score=score(found.accuracy, self.split), macro_f1=found.macro_f1, ece=found.ece, majority=found.majority
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Without the folders of this machine."""
        run, meta = self.run, self.run.meta
        return {
            "recipe": run.recipe.model_dump(mode="json") | {"weights": Path(run.recipe.weights).name},
            "data": {"source": Path(meta.data.source).name, "images": meta.data.images},
            **({"weights": {"name": Path(meta.weights or "").name, **meta.origin.model_dump()}} if meta.origin else {}),
            "trained": meta.model_dump(include={"created", "versions", "hardware", "commit"}),
            "best_epoch": run.best()["epoch"],
            "seconds": round(sum(row["seconds"] for row in run.history())),
        }

    @property
    def recorded(self) -> dict[str, list[str]]:
        """Of all splits but train."""
        sums = self.run.checksums()
        return {name: [digest[:16] for digest in sums[name]] for name in sums if name != "train"}

    @property
    def shown(self) -> str:
        """With the way to leave them out."""
        return f"with images of {self.split}; --no-images leaves them out" if self.images else "without images"

    @property
    def thresholds(self) -> list[tuple[str, str]]:
        """What was fitted on val, and whether val was large enough for it: (name, sentence)."""
        return [
            ("fitted", str(self.temperature)),
            ("", f"reject line: {self.line}"),
            ("", f"unfamiliar: {self.familiar}"),
            ("", f"sets: {self.sets}"),
        ]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was fitted, and what the probabilities are worth."""
        return [*self.thresholds, ("trust", str(self.evaluation.calibration))]

    @property
    def drawings(self) -> NDArray[np.float64]:
        """The checkpoint's out-of-distribution scores of the golden drawings."""
        assert self.golden.ood_scores is not None  # golden_of has them
        return self.golden.ood_scores[: len(golden_files())]

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
        return Familiarity(self.on_val.ood_scores, self.outputs.ood_scores, self.drawings, threshold)

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """On the held-out split, the largest loss first."""
        return label_errors.find(self.held_out.samples, self.outputs.probabilities, self.temperature.value)


def read(run: Run, data: Data, talk: Talk) -> dict[str, Pixels]:
    """All of val and test; of train the seeded sample that calibrates INT8 and, as `judges`, one that judges it."""
    recorded = run.checksums()
    train, sums = data.splits["train"], recorded["train"]
    judges = gates.judges_needed(len(data.splits["val"]), len(train))
    size = min(CALIBRATION_IMAGES + judges, len(train))
    chosen = np.random.default_rng(run.recipe.seed).choice(len(train), size, replace=False)
    for name, part in {"judges": chosen[:judges], "train": chosen[judges:]}.items():
        recorded[name] = [sums[i] for i in part]
        data = replace(data, splits=data.splits | {name: tuple(train[i] for i in part)})
    return pixels.load_all(data, run.input, talk, recorded)
