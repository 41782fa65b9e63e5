"""What an artifact's manifest says: the model's input and output, what was measured, and where it comes from."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from app import machine
from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.artifact.decoder.geometry import Box
from app.artifact.manifest import Machine, Manifest, Metrics, Score, Variant
from app.engines.variants import BASELINE, VARIANTS
from training.metrics.classification import Accuracy
from training.models.layer_table import field_of
from training.runs.checkpoint import Run
from training.variants import gates
from training.variants.evidence import Evidence
from training.variants.gates import Verdict
from training.variants.unlabelled import Unlabelled


def describe(name: str, version: int, rows: list[Verdict], evidence: Evidence | Unlabelled) -> Manifest:
    """The manifest, but for the files' checksums."""
    model, measured = evidence.checkpoint, None if isinstance(evidence, Unlabelled) else evidence
    split, doubt = (measured.split, measured.doubt) if measured else ("", None)
    kept = {row.name: row for row in rows if row.file and not row.objection}
    heatmap = model.run(np.zeros((1, model.input.height, model.input.width, 3), np.uint8)).heatmap
    size = None if heatmap is None else (heatmap.shape[2], heatmap.shape[3])
    int8 = [variant for variant in kept if VARIANTS[variant].precision == "int8"]
    return Manifest(
        schema_version=manifest.schema_of(model.input, doubt, measured=measured is not None),
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=model.labels,
        input=model.input,
        temperature=model.temperature,
        heatmap=size,
        doubt=doubt,
        heatmap_box=size and heatmap_box(model.network.features, model.input, size, model.recipe.enlarge),
        variants={
            variant: Variant(
                file=row.file,
                agreement=row.proof.agreement,
                max_probability_difference=row.proof.difference,
                tolerance=gates.tolerance(row.golden_difference, int8=variant in int8),
                cpu_ms_per_image={str(batch): ms for batch, ms in row.proof.cpu_ms.items()},
                score=row.test and _score(row.test, split),
                doubt=row.doubt,
            )
            for variant, row in kept.items()
        },
        default_variant=int8[0] if int8 else BASELINE,
        metrics=measured and _metrics(measured),
        machine=Machine(cpu=machine.cpu_model(), instruction_set=machine.instruction_set()),
        provenance=evidence.provenance if isinstance(evidence, Unlabelled) else _provenance(evidence.run),
        files={},
    )


def heatmap_box(features: nn.Module, spec: InputSpec, size: tuple[int, int], enlarge: int = 0) -> Box | None:
    """Where the grid float[h, w] of the last features lies in the model's pixels, each place in the middle of what it
    sees. None where a place sees everything.

    With padded strides that is not where h x w even tiles would be: three of 2, with kernels of 3 and padding of 1,
    shift a grid of 8-pixel places by 3.5 pixels.
    """
    given = (enlarge, enlarge) if enlarge else (spec.height, spec.width)
    field = field_of(features, spec.channels, *given)
    if field is None:
        return None
    (top, bottom), (left, right) = field.rows.extent(size[0]), field.columns.extent(size[1])
    tall, wide = spec.height / given[0], spec.width / given[1]
    return left * wide, top * tall, right * wide, bottom * tall


def _provenance(run: Run) -> dict[str, Any]:
    meta = run.meta
    return {
        "recipe": run.recipe.model_dump(mode="json") | {"weights": Path(run.recipe.weights).name},
        "data": {"source": Path(meta.data.source).name, "images": meta.data.images},
        **({"weights": {"name": Path(meta.weights or "").name, **meta.origin.model_dump()}} if meta.origin else {}),
        "trained": meta.model_dump(include={"created", "versions", "hardware", "commit"}),
        "best_epoch": run.best()["epoch"],
        "seconds": round(sum(row["seconds"] for row in run.history())),
    }


def _metrics(evidence: Evidence) -> Metrics:
    evaluation = evidence.evaluation
    return Metrics(
        score=_score(evaluation.accuracy, evidence.split),
        macro_f1=evaluation.macro_f1,
        ece=evaluation.ece,
        majority=evaluation.majority,
    )


def _score(result: Accuracy, split: str) -> Score:
    return Score(split=split, n=result.n, accuracy=result.value, low=result.low, high=result.high)
