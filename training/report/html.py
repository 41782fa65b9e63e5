"""Both files of a report: what was measured becomes one page that needs no network and no script."""

import json
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from rich.cells import cell_len

from app.artifact import report
from app.artifact.manifest import Manifest, fingerprint
from app.artifact.report import Report
from app.engines.variants import BASELINE
from training.console.terminal import distinct
from training.metrics import label_errors, plots, selective
from training.metrics.label_errors import Mistake
from training.report import confusions, contact_sheet, data_section, svg
from training.report.verdict_table import chance, fitted, gate_sentence, word
from training.runs.history import SCORES, scored_by
from training.variants.evidence import Evidence
from training.variants.gates import Verdict

FILES = (report.FILE, "report.html")
CSV_MISTAKES = 2000
CSV_POINTS = 1000


def write(folder: Path, manifest: Manifest, rows: Sequence[Verdict], evidence: Evidence) -> None:
    """report.json and report.html into `folder`, which holds the artifact's other files already."""
    found = evidence.mistakes
    document(manifest, rows, evidence).save(folder)
    page = (
        environment(manifest.labels)
        .get_template("page.html.j2")
        .render(
            manifest=manifest,
            evaluation=evidence.evaluation,
            split=evidence.split,
            labels=manifest.labels,
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
            rows=rows,
            words=[word(row, manifest) for row in rows],
            onnx=next(row.proof for row in rows if row.name == BASELINE),
            gates=gate_sentence(),
            chance=chance(rows),
            refused=[row.name for row in rows if row.objection],
            **images(evidence, found),
            **figures(evidence),
            **provenance(folder, manifest, evidence),
        )
    )
    (folder / FILES[1]).write_text(page, encoding="utf-8")


def document(manifest: Manifest, rows: Sequence[Verdict], evidence: Evidence) -> Report:
    """Figures without images or file names; None for what val was too small to fit."""
    line, familiar, doubt = evidence.line, evidence.familiar, evidence.doubt
    reject_below = unfamiliar = None
    if line.confidence is not None:
        reject_below = report.Line(
            confidence=line.confidence,
            coverage=line.coverage,
            accuracy=line.on_held_out.value if line.on_held_out else None,
            val_accuracy=line.on_val.value,
            val_shown=line.shown,
        )
    if doubt.unfamiliar:
        unfamiliar = report.Unfamiliar(
            method=doubt.unfamiliar.score,
            threshold=doubt.unfamiliar.threshold,
            false_alarm_rate=familiar.false_alarms.value,
        )
    return Report(
        name=manifest.name,
        version=manifest.version,
        evaluation=report.Evaluation(split=evidence.split, **evidence.evaluation.as_json()),
        variants=tuple(report.Verdict(**asdict(row), verdict=word(row, manifest)) for row in rows),
        gates=gate_sentence(),
        probable_wrong_labels=len(label_errors.suspects(evidence.mistakes)),
        temperature=report.Temperature(**asdict(evidence.temperature), value=manifest.temperature),
        reject_below=reject_below,
        unfamiliar=unfamiliar,
        fitted=tuple(sentence for _, sentence in fitted(evidence)),
        history=tuple(evidence.run.history()),
    )


def environment(labels: Sequence[str]) -> jinja2.Environment:
    """The page's templates and their filters."""

    @cache
    def cut(columns: int) -> dict[str, str]:
        return distinct(labels, columns)

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "name": lambda text: Markup("<bdi>{}</bdi>").format(_plain(text)),  # of its own writing direction
        "plain": _plain,
        # where the style would cut it at its end: as it is if that is short enough
        "short": lambda label, columns: label if cell_len(label) <= columns else cut(columns)[label],
        "percent": lambda share: f"{100 * share:.1f} %",
        "count": "{:,}".format,
        "median": np.median,
    }
    return environment


def _plain(text: str) -> str:
    """A label or path, which may hold anything that a file name can: bytes that are no UTF-8, line ends, NUL."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(repr(each)[1:-1] if unicodedata.category(each) == "Cc" else each for each in text)


def images(evidence: Evidence, found: Sequence[Mistake]) -> dict[str, Any]:
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


def figures(evidence: Evidence) -> dict[str, Any]:
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


def provenance(folder: Path, manifest: Manifest, evidence: Evidence) -> dict[str, Any]:
    """Where the artifact comes from, without the folders of that machine."""
    meta, words = evidence.run.meta, []
    for argument in meta.command[1:]:  # an absolute path, also as the value of `--out=` or of a recipe's key
        key, equals, value = argument.rpartition("=")
        path = PurePath(value.strip("\"'"))
        words.append(f"{key}{equals}{path.name}" if path.is_absolute() else argument)
    return {
        "command": shlex.join(["sightglass", *words]),
        "recipe": json.dumps(manifest.provenance["recipe"], indent=1),
        "seed": evidence.run.recipe.seed,
        "meta": meta,
        "seconds": manifest.provenance["seconds"],
        "source": PurePath(meta.data.source).name,
        "files": {path.name: fingerprint(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }
