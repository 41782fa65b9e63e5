"""Score a run or an artifact on images it was not trained on."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from rich.cells import cell_len

from app import machine
from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.engines import Runs
from app.engines import load as load_engine
from training import atomic, locks
from training.console import terminal
from training.console.progress import Talk
from training.console.terminal import count
from training.data import pixels
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.data.source import index, select
from training.errors import TrainingError
from training.learning.learner import use_cores
from training.metrics import label_errors, plots
from training.metrics.classification import ClassScore, Evaluation, Floats
from training.models.servable import Servable
from training.runs import checkpoint, trained_model
from training.runs.trained_model import RECORDED
from training.variants.gates import EagerEngine, probabilities_of

SUSPECTS = "suspects.csv"
_HEADER = ["class", "n", "precision", "recall", "F1", "most often called"]


@dataclass(frozen=True)
class Predictions:
    """float32[N, K] for the samples of `pixels`, what gave them, with which temperature, and what they are worth."""

    variant: str
    data: str
    split: str
    pixels: Pixels
    probabilities: Floats
    evaluation: Evaluation
    temperature: float = 1.0

    def suspects(self) -> list[label_errors.Mistake]:
        """Probable wrong labels, the most confident contradiction first."""
        return label_errors.suspects(label_errors.find(self.pixels.samples, self.probabilities, self.temperature))


def evaluate(target: Path, source: str | None, split: str | None, variant: str | None, talk: Talk) -> Predictions:
    """Predict a split with a run's checkpoint or an artifact's variant, and score it.

    Raises TrainingError, ArtifactError or EngineError.
    """
    if trained_model.is_artifact(target):
        return _evaluate_artifact(target, source, split, variant, talk)
    if variant is not None:
        raise TrainingError(f'"{target}" is a run; variants belong to artifacts', "leave --variant out")
    return _evaluate_run(checkpoint.Run.open(target), source, split, talk)


def _evaluate_run(run: checkpoint.Run, source: str | None, split: str | None, talk: Talk) -> Predictions:
    """The eager checkpoint, on the run's recorded splits or on another folder."""
    use_cores()
    try:
        locks.require_free(run.folder)
    except locks.InUse as busy:
        talk.fact("note", f"{busy}: this is about its best epoch so far")
    own = source is None or run.was_trained_on(source)
    data = run.data() if own else _elsewhere(str(source), run.labels, split, run.checksums(), talk)
    name = _choose_split(data, split)
    chosen = _load(data, name, run.input, talk, run.checksums()[name] if own else None)
    _say_known(chosen, name, run.checksums()["train"], talk)
    servable = Servable(run.network(), run.input.mean, run.input.std)
    return _predictions("checkpoint", data, name, chosen, EagerEngine(servable), run.labels)


def _evaluate_artifact(
    folder: Path, source: str | None, split: str | None, variant: str | None, talk: Talk
) -> Predictions:
    """A variant through its serving engine."""
    described = manifest.load(folder)
    if source is None:
        raise TrainingError("an artifact carries no images", f"sightglass evaluate {folder} --data DATA")
    name = variant or described.default_variant
    if name not in described.variants:
        raise TrainingError(f'{folder} has no variant "{name}"', f"it has {', '.join(described.variants)}")
    engine = load_engine(name, folder / described.variants[name].file, "cpu", machine.cores().usable)
    data = _elsewhere(source, described.labels, split, json.loads((folder / RECORDED).read_text()), talk)
    part = _choose_split(data, split)
    chosen = _load(data, part, described.input, talk, None)
    found = _predictions(name, data, part, chosen, engine, described.labels)
    return replace(found, temperature=described.temperature)


def _elsewhere(
    source: str, labels: tuple[str, ...], split: str | None, recorded: dict[str, list[str]], talk: Talk
) -> Data:
    """A folder's own splits; of an unsplit one all, or the files that the model's `split` recorded."""
    data = index(source, labels)
    for sentence in data.left_out:
        talk.fact("", sentence)
    if "all" not in data.splits or split not in recorded:
        return data
    chosen = select(data, split, recorded[split])
    missing = len(recorded[split]) - len(chosen.splits[split])
    if missing:
        verb = "is" if missing == 1 else "are"
        talk.fact("warn", f"{missing} of the {len(recorded[split])} images recorded as {split} {verb} not in {source}")
    return chosen


def _choose_split(data: Data, split: str | None) -> str:
    """What was asked for; else all of an unsplit folder, test, or val where there is no test."""
    name = split or next(name for name in ("all", "test", "val", "train") if name in data.splits)
    if name not in data.splits:
        raise TrainingError(f'{data.source} has no split "{name}"', f"it has {', '.join(data.splits)}: --split NAME")
    return name


def _load(data: Data, split: str, spec: InputSpec, talk: Talk, recorded: list[str] | None) -> Pixels:
    with talk.step(f"reading {split}", len(data.splits[split])) as progress:
        chosen = pixels.load(data, split, spec, recorded, progress=progress)
    if chosen.skipped:
        path, why = chosen.skipped[0]
        talk.fact("warn", f"skipped {count(len(chosen.skipped), 'unreadable file')}, the first: {path} ({why})")
    return chosen


def _say_known(chosen: Pixels, split: str, trained_on: list[str], talk: Talk) -> None:
    """What was trained on is answered from memory."""
    seen = set(trained_on)
    number = sum(digest in seen for digest in chosen.sha256)
    if number and split != "train":
        held_out = "; --split test scores those that were held out" if split == "all" else ""
        talk.fact(
            "warn",
            f"the model was trained on {number:,} of these {count(len(chosen), 'image')}, so the scores are too good"
            f"{held_out}",
        )


def _predictions(
    variant: str, data: Data, split: str, chosen: Pixels, engine: Runs, labels: tuple[str, ...]
) -> Predictions:
    probabilities = probabilities_of(engine, chosen)
    evaluation = Evaluation.of(labels, chosen.labels, probabilities)
    return Predictions(variant, data.source, split, chosen, probabilities, evaluation)


def table(predictions: Predictions, width: int = terminal.WIDTH, *, every: bool = False) -> list[str]:
    """The lines that a person reads: worst class first, 20 of them or `every` one."""
    evaluation = predictions.evaluation
    always = terminal.distinct(evaluation.labels)[evaluation.majority_label]
    baseline = f'always-"{always}" {evaluation.majority:.4f}'
    scores = f"accuracy {evaluation.accuracy}", f"macro F1 {evaluation.macro_f1:.4f}", f"ECE {evaluation.ece:.3f}"
    classes = evaluation.worst_first()
    shown = classes if every else classes[:20]
    names = terminal.distinct((*evaluation.labels, *(row.label for row in shown)), _room(shown, width))
    rows = [_HEADER]
    for row in shown:
        confused = f"{names[row.confused]} ({row.confused_n:,})" if row.confused_n else "-"
        scored = f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}"
        rows.append([names[row.label], f"{row.n:,}", *scored, confused])
    lines = [*terminal.packed("", [*scores, baseline], width=width), *terminal.table(rows, "<>>>><", width)]
    if len(shown) < len(classes):
        lines.append(f"worst first; {len(shown)} of {len(classes)} shown, all with --verbose or --json")
    return lines


def _room(rows: Sequence[ClassScore], width: int) -> int:
    """The columns that a name may have so that it stands alike where it is the class and where it is called."""
    numbers = [len(f"{row.confused_n:,}") for row in rows if row.confused_n]
    room = width - max(len(f"{row.n:,}") for row in rows) - len("  precision  recall     F1" + "  " * 2)
    suffix = max(numbers, default=0) + len(" ()")
    first = [cell_len(terminal.escaped(row.label)) for row in rows]
    last = [cell_len(terminal.escaped(row.confused)) for row in rows if row.confused_n]
    for most in range(max([*first, *last]), 8, -1):
        one, other = min(most, max(first)), min(most, max(last, default=0)) + suffix
        if max(one, len(_HEADER[0])) + max(other, len(_HEADER[5])) <= room:
            return most
    return 8


def look(predictions: Predictions, out: Path | None) -> str:
    """How many labels to check first, and where they are listed."""
    count, sure = len(predictions.suspects()), label_errors.sure(predictions.temperature)
    if not count:
        return f"no answer is wrong with {sure}"
    where = f" -> {out / SUSPECTS}" if out else "; --out FOLDER lists them"
    return f"{count:,} wrong with {sure}: check these labels first{where}"


def as_json(predictions: Predictions) -> dict[str, Any]:
    """One document with every score."""
    where = {"variant": predictions.variant, "data": predictions.data, "split": predictions.split}
    return where | {"suspects": len(predictions.suspects())} | predictions.evaluation.as_json()


def write(predictions: Predictions, target: Path, out: Path) -> None:
    """evaluation.json, predictions.csv, suspects.csv and the plots into `out`. Raises TrainingError if it exists."""
    atomic.require_new(out)
    run = None if trained_model.is_artifact(target) else checkpoint.Run.open(target)
    suspects = label_errors.as_csv(predictions.suspects(), predictions.evaluation.labels)
    with atomic.new_folder(out) as folder:
        atomic.write(folder / "evaluation.json", json.dumps(as_json(predictions), indent=2) + "\n")
        atomic.write(folder / "predictions.csv", _csv(predictions))
        atomic.write(folder / SUSPECTS, suspects)
        for name, figure in plots.draw(predictions.evaluation, run).items():
            plots.save(figure, folder / f"{name}.png", "png")


def _csv(predictions: Predictions) -> str:
    text = io.StringIO()
    names = predictions.evaluation.labels
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "prediction", "confidence", *(f"p_{name}" for name in names)])
    for sample, row in zip(predictions.pixels.samples, predictions.probabilities, strict=True):
        top = int(row.argmax())
        writer.writerow([sample.path, names[sample.label], names[top], repr(float(row[top])), *map(_exact, row)])
    return text.getvalue()


def _exact(value: NDArray[Any]) -> str:
    return repr(float(value))
