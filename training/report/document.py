"""report.json: what was measured and decided, without images or file names."""

from collections.abc import Sequence
from dataclasses import asdict

from app.artifact import report
from app.artifact.manifest import Manifest
from app.artifact.report import Report
from training.metrics import label_errors
from training.report.verdict_table import gate_sentence, word
from training.variants.gates import Verdict
from training.variants.labelled import Labelled


def of_variants(manifest: Manifest, rows: Sequence[Verdict]) -> Report:
    """What there is to say where nobody knows what is right."""
    return Report(
        name=manifest.name,
        version=manifest.version,
        variants=tuple(report.Verdict(**asdict(row), verdict=word(row, manifest)) for row in rows),
        gates=gate_sentence(),
    )


def of_labelled(manifest: Manifest, rows: Sequence[Verdict], evidence: Labelled) -> Report:
    """That, and what labelled images show; None for what val was too small to fit."""
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
    measured = {
        "evaluation": report.Evaluation(split=evidence.split, **evidence.evaluation.as_json()),
        "probable_wrong_labels": len(label_errors.suspects(evidence.mistakes)),
        "temperature": report.Temperature(**asdict(evidence.temperature), value=manifest.temperature),
        "reject_below": reject_below,
        "unfamiliar": unfamiliar,
        "fitted": tuple(sentence for _, sentence in evidence.thresholds),
        "history": tuple(evidence.run.history()),
    }
    return of_variants(manifest, rows).model_copy(update=measured)
