"""What a person gets of corrupted images: a table, and a page with it, its curves and an image of each."""

from pathlib import Path

from matplotlib.figure import Figure

from training.console import terminal
from training.metrics.predictions import Predictions
from training.metrics.robustness import Robustness
from training.report import svg
from training.report.html import environment
from training.report.thumbnails import shown

FILES = ("report.html", "robustness.csv")


def table(found: Robustness, width: int = terminal.WIDTH) -> list[str]:
    """The lines that a person reads, worst first."""
    severities = [str(number + 1) for number in range(max(len(row.levels) for row in found.rows))]
    rows = [["corruption", "levels", *severities, "mean"]]
    for row in found.worst_first():
        levels = f"{row.about} {row.levels[0]:g} to {row.levels[-1]:g}"
        rows.append([row.corruption, levels, *(f"{each.value:.3f}" for each in row.accuracies), f"{row.mean:.3f}"])
    return terminal.table(rows, "<<" + ">" * (len(severities) + 1), width)


def about(found: Robustness) -> str:
    """What was corrupted, in a sentence."""
    images = f"{found.clean.n:,} of {terminal.count(found.of, 'image')}"
    widest = max((each.high - each.low) / 2 for row in found.rows for each in row.accuracies)
    return f"{images}: as they are {found.clean}, corrupted {found.mean:.4f} on average; each below +- {widest:.3f}"


def write(folder: Path, predictions: Predictions, found: Robustness) -> None:
    """report.html and robustness.csv."""
    names = [row.corruption for row in found.rows]
    seen = {name: [shown(image) for image in images] for name, images in zip(names, found.seen, strict=True)}
    page = (
        environment(predictions.evaluation.labels)
        .get_template("robustness.html.j2")
        .render(
            predictions=predictions,
            found=found,
            about=about(found),
            rows=[(row, seen[row.corruption]) for row in found.worst_first()],
            curves=svg.svg(curves(found)),
        )
    )
    (folder / FILES[0]).write_text(page, encoding="utf-8")
    (folder / FILES[1]).write_text(found.as_csv(), encoding="utf-8")


def curves(found: Robustness) -> Figure:
    """Accuracy by severity, 0 being the images as they are."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for row in found.worst_first():
        values = [found.clean.value, *(each.value for each in row.accuracies)]
        axes.plot(range(len(values)), values, marker="o", markersize=3, label=row.corruption)
    axes.set(xlabel="severity", ylabel="accuracy", ylim=(0, 1))
    axes.legend(loc="lower left", fontsize=8)
    return figure
