"""Images to try the service with: those that the model's author gave, or else drawings; the self-test has both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.artifact.decoder.header import kind_of
from app.artifact.golden import FILE, Golden, is_shown
from app.artifact.manifest import ArtifactError, Manifest

_COUNT = 5


@dataclass(frozen=True)
class Sample:
    """`data`: the encoded file; `label` and `probability` (0..1) are what the checkpoint said of it at the export.
    `credit`: whom it is of; a drawing has none."""

    data: bytes
    media_type: str
    label: str
    probability: float
    credit: str = ""


def choose(folder: Path, manifest: Manifest) -> list[Sample]:
    """Those that the author gave, in that order; else at most five drawings that browsers show, the surest of each
    label first, so that they differ. Raises ArtifactError."""
    golden = Golden.load(folder)
    answers = golden.probabilities.argmax(axis=1)
    credits_ = manifest.card.samples if manifest.card else ()
    if len(credits_) > len(golden.files):
        raise ArtifactError(f"the card names {len(credits_)} samples, {FILE} has {len(golden.files)} images")
    if credits_:
        chosen = list(range(len(golden.files) - len(credits_), len(golden.files)))
    else:
        shown = [place for place, file in enumerate(golden.files) if is_shown(file)]
        surest = sorted(shown, key=lambda place: -golden.probabilities[place].max())
        first = [place for rank, place in enumerate(surest) if answers[place] not in answers[surest[:rank]]]
        chosen = [*first, *(place for place in surest if place not in first)][:_COUNT]
    return [
        Sample(
            golden.files[place],
            f"image/{kind_of(golden.files[place]).lower()}",
            manifest.labels[answers[place]],
            float(np.round(golden.probabilities[place].max(), 4)),
            credit,
        )
        for place, credit in zip(chosen, credits_ or [""] * len(chosen), strict=True)
    ]
