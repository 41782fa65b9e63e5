"""What a person gets of an evaluation: the table of classes, and a folder of files."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from training import atomic
from training.console import terminal
from training.metrics import label_errors, plots
from training.metrics.classification import ClassScore
from training.metrics.predictions import Predictions
from training.report import robustness
from training.runs.checkpoint import Run
from training.runs.trained_model import is_artifact

SUSPECTS = "suspects.csv"
_HEADER = ["class", "n", "precision", "recall", "F1", "most often called"]


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


def write(predictions: Predictions, target: Path, out: Path) -> None:
    """evaluation.json, predictions.csv, suspects.csv and the plots, those of a run's training too, into `out`.

    Raises TrainingError if it exists.
    """
    atomic.require_new(out)
    run = None if is_artifact(target) else Run.open(target)
    suspects = label_errors.as_csv(predictions.suspects(), predictions.evaluation.labels)
    with atomic.new_folder(out) as folder:
        atomic.write(folder / "evaluation.json", json.dumps(predictions.as_json(), indent=2) + "\n")
        atomic.write(folder / "predictions.csv", predictions.as_csv())
        atomic.write(folder / SUSPECTS, suspects)
        for name, figure in plots.draw(predictions.evaluation, run).items():
            plots.save(figure, folder / f"{name}.png", "png")
        if predictions.robustness:
            robustness.write(folder, predictions, predictions.robustness)
