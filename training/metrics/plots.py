"""Figures: of an evaluation (confusion matrix, reliability, training curves), and what else a report shows."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.console.terminal import distinct
from training.metrics.classification import Evaluation, Floats
from training.metrics.lettering import Lettering
from training.metrics.ood import Familiarity
from training.metrics.selective import Rejection
from training.runs.checkpoint import Run
from training.runs.history import SCORES, scored_by

_NAMED = 30  # classes: of more, nobody could read the names
_NAME = 19  # columns of one


def draw(evaluation: Evaluation, run: Run | None) -> dict[str, Figure]:
    """Name -> figure; `curves` only of a run that has been trained."""
    with rc_context({"text.parse_math": False}):  # a label may hold dollar signs
        figures = {"confusion": confusion(evaluation), "reliability": reliability(evaluation)}
        if run and run.history():
            figures["curves"] = curves(run)
    return figures


def save(figure: Figure, target: Path | IO[Any], kind: str) -> None:
    """As png or svg; in an svg text stays text, so that the reader's fonts draw what matplotlib's has no glyph for."""
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none", "text.parse_math": False}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(target, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def confusion(evaluation: Evaluation) -> Figure:
    """Rows are the true labels, each normalised to 1; names and counts are written for up to 30 classes."""
    counts = np.array(evaluation.confusion_matrix)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    lettering = Lettering.of(evaluation.labels if len(counts) <= _NAMED else ())
    written = [lettering.written(label) for label in evaluation.labels]
    short = distinct(written, _NAME)
    names, family = [short[label] for label in written], lettering.families()
    side = min(14.0, 2.5 + 0.45 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="called", ylabel="is")
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False, family=family)
        axes.set_yticks(range(len(names)), names, parse_math=False, family=family)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Accuracy of each confidence bin against its confidence; the diagonal is perfect calibration."""
    bins = [each for each in evaluation.reliability if each.n]
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    widths = [each.high - each.low for each in bins]
    axes.bar([each.low for each in bins], [each.accuracy for each in bins], widths, align="edge", edgecolor="white")
    axes.plot([each.confidence for each in bins], [each.accuracy for each in bins], "o", color="black", markersize=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=f"ECE {evaluation.ece:.3f}")
    return figure


def curves(run: Run) -> Figure:
    """Loss of train and val, the score on val that epochs compare by, learning rate; the best epoch is marked."""
    history, best, name = run.history(), run.best(), scored_by(run.recipe)
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    loss, score, rate = figure.subplots(1, 3)
    loss.plot(epochs, [row["train_loss"] for row in history], label="train (augmented)")
    loss.plot(epochs, [row["val_loss"] for row in history], label="val")
    loss.legend()
    loss.set(xlabel="epoch", ylabel="loss")
    score.plot(epochs, [row[name] for row in history])
    score.plot(best["epoch"], best[name], "o", color="black")
    score.set(xlabel="epoch", ylabel=SCORES[name], title=f"best: epoch {best['epoch']}, {best[name]:.4f}")
    rate.plot(epochs, [row["lr"] for row in history])
    rate.set(xlabel="epoch", ylabel="learning rate")
    for axes in (loss, score, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def coverage(curve: tuple[Floats, Floats, Floats], line: Rejection) -> Figure:
    """Accuracy of the accepted images over their share (see rejection.coverage_curve), the suggested line marked."""
    _, share, accuracy = curve
    places = np.unique(np.linspace(0, len(share) - 1, 400).astype(np.int64))
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(share[places], accuracy[places])
    if line.confidence is not None and line.on_held_out is not None:
        axes.plot(line.coverage, line.on_held_out.value, "o", color="black")
    axes.set(xlim=(1.02, 0), xlabel="coverage", ylabel="accuracy of what is accepted")
    return figure


def ood_scores(found: Familiarity, split: str) -> Figure:
    """Shares of val and of the held-out split in each range of scores, the drawings as ticks, the threshold."""
    figure = Figure(figsize=(7.5, 3), layout="constrained")
    axes = figure.add_subplot()
    edges = np.histogram_bin_edges(np.concatenate([found.val, found.held_out, found.drawings]), 40)
    for scores, name in ((found.val, "val"), (found.held_out, split)):
        axes.hist(
            scores, edges.tolist(), weights=np.full(len(scores), 1 / len(scores)), histtype="step", label=name, lw=1.5
        )
        if split == "val":
            break
    axes.plot(found.drawings, np.zeros(len(found.drawings)), "|", color="tab:green", ms=14, mew=1.5, label="drawings")
    if found.threshold is not None:
        axes.axvline(found.threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel="score (familiar to the left, unfamiliar to the right)", ylabel="share of images")
    axes.legend()
    return figure


def sizes(sides: Sequence[int], used: int) -> Figure:
    """How many images have which shorter side, in pixels; dashed: the model's."""
    figure = Figure(figsize=(7.5, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(sides, min(30, max(3, len(set(sides)))), range=(min(sides) - 1, max(sides) + 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axvline(used, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="shorter side, pixels", ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
