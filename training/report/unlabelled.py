"""The report on a network as its makers published it: what it answers, and what is proven of its variants."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.artifact.manifest import Manifest
from training.report import document, html
from training.report.thumbnails import Thumbnail, thumbnails
from training.variants.gates import Verdict
from training.variants.unlabelled import Unlabelled

_SEEN, _ANSWERS = 16, 3
Seen = tuple[str, Thumbnail, list[tuple[str, float]]]


def write(folder: Path, manifest: Manifest, rows: Sequence[Verdict], evidence: Unlabelled) -> None:
    """report.json and report.html into `folder`, which holds the artifact's other files already."""
    document.of_variants(manifest, rows).save(folder)
    html.write(
        "unlabelled.html.j2",
        folder,
        manifest,
        rows,
        evidence=evidence,
        source=evidence.source,
        weights=manifest.provenance["weights"],
        seen=seen(evidence) if evidence.images else [],
    )


def seen(evidence: Unlabelled) -> list[Seen]:
    """(path, image, first answers) of a few images that are judged by, spread evenly."""
    samples, probabilities = evidence.val.samples, evidence.probabilities
    places = np.unique(np.linspace(0, len(samples) - 1, _SEEN).astype(np.int64))
    paths = [samples[place].path for place in places]
    images = thumbnails(paths, evidence.data.read, evidence.checkpoint.input)
    labels, found = evidence.checkpoint.labels, []
    for place in places:
        row = probabilities[place]
        found.append([(labels[each], float(row[each])) for each in row.argsort()[::-1][:_ANSWERS]])
    return list(zip(paths, images, found, strict=True))
