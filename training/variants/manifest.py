"""What an artifact's manifest says: the model's input and output, what was measured, and where it comes from."""

from datetime import UTC, datetime

import numpy as np
from torch import nn

from app import machine
from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.artifact.decoder.geometry import Box
from app.artifact.manifest import Machine, Manifest, Score, Variant
from app.engines.variants import BASELINE, VARIANTS
from training.metrics.classification import Accuracy
from training.models.layer_table import field_of
from training.variants import tolerance
from training.variants.evidence import Evidence
from training.variants.gates import Verdict


def describe(name: str, version: int, rows: list[Verdict], evidence: Evidence) -> Manifest:
    """The manifest, but for the files' checksums."""
    model, metrics, doubt = evidence.checkpoint, evidence.metrics, evidence.doubt
    kept = {row.name: row for row in rows if row.file and not row.objection}
    heatmap = model.run(np.zeros((1, model.input.height, model.input.width, 3), np.uint8)).heatmap
    size = None if heatmap is None else (heatmap.shape[2], heatmap.shape[3])
    int8 = [variant for variant in kept if VARIANTS[variant].precision == "int8"]
    return Manifest(
        schema_version=manifest.schema_of(model.input, doubt, evidence.card, measured=metrics is not None),
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=model.labels,
        input=model.input,
        temperature=model.temperature,
        heatmap=size,
        doubt=doubt,
        card=evidence.card,
        heatmap_box=size and heatmap_box(model.network.features, model.input, size, model.recipe.enlarge),
        variants={
            variant: Variant(
                file=row.file,
                agreement=row.proof.agreement,
                max_probability_difference=row.proof.difference,
                tolerance=tolerance.of_probability(row.golden_difference, int8=variant in int8),
                cpu_ms_per_image={str(batch): ms for batch, ms in row.proof.cpu_ms.items()},
                score=row.test and score(row.test, evidence.split),
                doubt=row.doubt,
            )
            for variant, row in kept.items()
        },
        default_variant=int8[0] if int8 else BASELINE,
        metrics=metrics,
        machine=Machine(cpu=machine.cpu_model(), instruction_set=machine.instruction_set()),
        provenance=evidence.provenance,
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


def score(result: Accuracy, split: str) -> Score:
    """As manifests say it."""
    return Score(split=split, n=result.n, accuracy=result.value, low=result.low, high=result.high)
