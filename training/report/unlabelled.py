"""Both files of a report on a network as its makers published it: what it answers, what is proven of its variants."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.artifact import report
from app.artifact.manifest import Manifest, fingerprint
from app.artifact.report import Report
from app.engines.variants import BASELINE
from training.report.html import FILES, environment
from training.report.thumbnails import Thumbnail, thumbnails
from training.report.verdict_table import gate_sentence, word
from training.variants.gates import Verdict
from training.variants.unlabelled import Unlabelled

_SEEN, _ANSWERS = 16, 3
Seen = tuple[str, Thumbnail, list[tuple[str, float]]]


def write(folder: Path, manifest: Manifest, rows: Sequence[Verdict], evidence: Unlabelled) -> None:
    """report.json and report.html into `folder`, which holds the artifact's other files already."""
    words = [word(row, manifest) for row in rows]
    Report(
        name=manifest.name,
        version=manifest.version,
        variants=tuple(report.Verdict(**asdict(row), verdict=said) for row, said in zip(rows, words, strict=True)),
        gates=gate_sentence(),
    ).save(folder)
    page = (
        environment(manifest.labels)
        .get_template("unlabelled.html.j2")
        .render(
            manifest=manifest,
            labels=manifest.labels,
            evidence=evidence,
            source=evidence.source,
            weights=manifest.provenance["weights"],
            seen=seen(evidence) if evidence.images else [],
            rows=rows,
            words=words,
            onnx=next(row.proof for row in rows if row.name == BASELINE),
            gates=gate_sentence(),
            chance=[],
            refused=[row.name for row in rows if row.objection],
            recipe=json.dumps(manifest.provenance["recipe"], indent=1),
            files={path.name: fingerprint(path) for path in sorted(folder.iterdir()) if path.is_file()},
        )
    )
    (folder / FILES[1]).write_text(page, encoding="utf-8")


def seen(evidence: Unlabelled) -> list[Seen]:
    """(path, image, first answers) of a few images that are judged by, spread evenly."""
    samples, probabilities = evidence.judging.samples, evidence.probabilities
    places = np.unique(np.linspace(0, len(samples) - 1, _SEEN).astype(np.int64))
    paths = [samples[place].path for place in places]
    images = thumbnails(paths, evidence.data.read, evidence.checkpoint.input)
    labels, found = evidence.checkpoint.labels, []
    for place in places:
        row = probabilities[place]
        found.append([(labels[each], float(row[each])) for each in row.argsort()[::-1][:_ANSWERS]])
    return list(zip(paths, images, found, strict=True))
