"""Images to try the service with: some of the golden ones, which every artifact carries."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.artifact.decoder.header import kind_of
from app.artifact.golden import Golden

_COUNT = 5
# what every browser shows as it is meant; a CMYK JPEG and a 16-bit PNG test the decoder, not the eye
_SHOWN = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P")}


@dataclass(frozen=True)
class Sample:
    """`data`: the encoded file; `label` and `probability` (0..1) are what the checkpoint said of it at the export."""

    data: bytes
    media_type: str
    label: str
    probability: float


def choose(folder: Path, labels: tuple[str, ...]) -> list[Sample]:
    """At most five that browsers show, the surest of each label first, so that they differ. Raises ArtifactError."""
    golden = Golden.load(folder)
    kinds = [kind_of(file) for file in golden.files]
    modes = [Image.open(io.BytesIO(file)).mode for file in golden.files]  # from the header alone
    shown = [place for place, kind in enumerate(kinds) if modes[place] in _SHOWN.get(kind, ())]
    surest = sorted(shown, key=lambda place: -golden.probabilities[place].max())
    answers = golden.probabilities.argmax(axis=1)
    first = [place for rank, place in enumerate(surest) if answers[place] not in answers[surest[:rank]]]
    chosen = [*first, *(place for place in surest if place not in first)][:_COUNT]
    return [
        Sample(
            golden.files[place],
            f"image/{kinds[place].lower()}",
            labels[answers[place]],
            float(np.round(golden.probabilities[place].max(), 4)),
        )
        for place in chosen
    ]
