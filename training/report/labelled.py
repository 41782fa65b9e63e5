"""The report on a run: what was measured on labelled images, and what was not right, as one page."""

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from app.artifact.manifest import Manifest
from training.metrics import label_errors, plots, selective
from training.metrics.label_errors import Mistake
from training.report import confusions, contact_sheet, data_section, document, html, svg
from training.runs.history import SCORES, scored_by
from training.variants.gates import Verdict
from training.variants.labelled import Labelled

CSV_MISTAKES = 2000
CSV_POINTS = 1000


def write(folder: Path, manifest: Manifest, rows: Sequence[Verdict], evidence: Labelled) -> None:
    """report.json and report.html into `folder`, which holds the artifact's other files already."""
    found = evidence.mistakes
    document.of_labelled(manifest, rows, evidence).save(folder)
    html.write(
        "page.html.j2",
        folder,
        manifest,
        rows,
        evaluation=evidence.evaluation,
        split=evidence.split,
        images=evidence.images,
        mistakes=found,
        suspects=label_errors.suspects(found),
        sure=label_errors.sure(manifest.temperature),
        per_class=evidence.evaluation.worst_first(),
        line=evidence.line,
        familiar=evidence.familiar,
        sets=evidence.sets,
        checkpoint_has_maps=manifest.heatmap is not None,
        temperature=evidence.temperature,
        trained=evidence.run.meta.created,
        **images(evidence, found),
        **figures(evidence),
        **provenance(manifest, evidence),
    )


def images(evidence: Labelled, found: Sequence[Mistake]) -> dict[str, Any]:
    """The contact sheet, the confusions whose cells lead to it, and the data."""
    contact, data = contact_sheet.make(found, evidence), data_section.make(evidence)
    names = evidence.run.labels
    rows = [[m.path, names[m.label], names[m.predicted], m.confidence, m.loss] for m in found[:CSV_MISTAKES]]
    return {
        "sheet": contact,
        "csv_mistakes": CSV_MISTAKES,
        "mistakes_csv": svg.csv_uri([["path", "label", "prediction", "p", "loss"], *rows]),
        "confusions": confusions.make(evidence.evaluation, set(contact.pairs)),
        "confusions_csv": svg.csv_uri(confusions.as_rows(evidence.evaluation)),
        "data": data,
        "sizes": svg.svg(plots.sizes(data.sides, min(evidence.held_out.size))),
    }


def figures(evidence: Labelled) -> dict[str, Any]:
    """Each as SVG, with its numbers as CSV."""
    labels, probabilities = evidence.held_out.labels, evidence.outputs.probabilities
    curve = selective.coverage_curve(labels, probabilities)
    history, chosen_by = evidence.run.history(), scored_by(evidence.run.recipe)
    step = -(-len(curve[0]) // CSV_POINTS)
    points = [[f"{value:.6f}" for value in row] for row in zip(*(part[::step] for part in curve), strict=True)]
    return {
        "reliability": svg.svg(plots.reliability(evidence.evaluation)),
        "coverage": svg.svg(plots.coverage(curve, evidence.line)),
        "coverage_rows": selective.at_coverages(labels, probabilities),
        "coverage_csv": svg.csv_uri([["confidence", "coverage", "accuracy"], *points]),
        "ood_scores": svg.svg(plots.ood_scores(evidence.familiar, evidence.split)),
        "history": history,
        "kept": evidence.run.meta.kept,
        "best": evidence.run.best()["epoch"],
        "chosen_by": ("lowest " if chosen_by == "val_loss" else "highest ") + SCORES[chosen_by],
        "curves": svg.svg(plots.curves(evidence.run)),
        "history_csv": svg.csv_uri([list(history[0]), *(list(row.values()) for row in history)]),
    }


def provenance(manifest: Manifest, evidence: Labelled) -> dict[str, Any]:
    """Where the artifact comes from, without the folders of that machine."""
    meta, words = evidence.run.meta, []
    for argument in meta.command[1:]:  # an absolute path, also as the value of `--out=` or of a recipe's key
        key, equals, value = argument.rpartition("=")
        path = PurePath(value.strip("\"'"))
        words.append(f"{key}{equals}{path.name}" if path.is_absolute() else argument)
    return {
        "command": shlex.join(["sightglass", *words]),
        "seed": evidence.run.recipe.seed,
        "meta": meta,
        "seconds": manifest.provenance["seconds"],
        "source": PurePath(meta.data.source).name,
    }
