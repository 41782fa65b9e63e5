"""The data that a run was made from: how many, of which class, in which sizes, what was skipped, what lies twice."""

import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from training.data.copies import near_duplicates
from training.data.copies.near_duplicates import Twins
from training.data.dataset import Sample
from training.report.thumbnails import Thumbnail, shown, thumbnails
from training.variants.labelled import Labelled

MEASURED = 1000  # files whose headers are read for their size
SEEN = 8
PAIRS_SHOWN = 6


@dataclass(frozen=True)
class TwinImages:
    """Two images that look nearly the same, in two splits."""

    here: Sample
    there: Sample
    bits: int
    images: tuple[Thumbnail, Thumbnail]


@dataclass(frozen=True)
class Samples:
    """`counts`: split -> images of each class; `skipped`: (path, why); `two_labels`: the paths of each image that
    stands under more labels than one; `sides`: the shorter side in pixels of up to
    1,000 held-out files; `seen`: (path, the image, what the model gets)."""

    counts: dict[str, list[int]]
    repeated: dict[str, int]
    twins: list[Twins]
    closest: list[TwinImages]
    skipped: list[tuple[str, str]]
    two_labels: list[list[str]]
    sides: list[int]
    seen: list[tuple[str, Thumbnail, Thumbnail]]


def make(evidence: Labelled) -> Samples:
    """Counts and copies come from what the run recorded; only the images that are shown are decoded."""
    splits = evidence.data.splits
    sums = evidence.run.checksums()
    twins = near_duplicates.between(sums, near_duplicates.load(evidence.run.folder))
    classes = range(len(evidence.run.labels))
    # what the training could not read: lines of path, tab, reason; a reason may end in a path of that machine
    skipped = [line.partition("\t") for line in _lines(evidence, "skipped.txt")]
    per_class = {name: Counter(sample.label for sample in samples) for name, samples in splits.items()}
    return Samples(
        counts={name: [found[label] for label in classes] for name, found in per_class.items()},
        repeated={name: len(digests) - len(set(digests)) for name, digests in sums.items()},
        twins=twins,
        closest=closest(twins, splits, evidence) if evidence.images else [],
        skipped=[(path, why.partition(": '")[0]) for path, _, why in skipped],
        two_labels=[line.split("\t") for line in _lines(evidence, "two_labels.txt")],
        sides=shorter_sides(evidence),
        seen=as_seen(evidence) if evidence.images else [],
    )


def closest(twins: list[Twins], splits: dict[str, tuple[Sample, ...]], evidence: Labelled) -> list[TwinImages]:
    """The nearest pairs of all splits together."""
    rows = [(bits, each.here, here, each.there, there) for each in twins for here, there, bits in each.near or ()]
    chosen = [(splits[h][i], splits[t][j], bits) for bits, h, i, t, j in sorted(rows)[:PAIRS_SHOWN]]
    paths = [sample.path for here, there, _ in chosen for sample in (here, there)]
    small = thumbnails(paths, evidence.data.read, evidence.run.input)
    return [
        TwinImages(here, there, bits, (small[2 * place], small[2 * place + 1]))
        for place, (here, there, bits) in enumerate(chosen)
    ]


def _lines(evidence: Labelled, name: str) -> list[str]:
    """Of a file of the run that is there only where there was something to say."""
    try:
        text = (evidence.run.folder / name).read_text("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n") if line]


def shorter_sides(evidence: Labelled) -> list[int]:
    """By the files' headers; every n-th file, so that all classes have their share. EXIF does not change this side."""
    samples = evidence.held_out.samples
    chosen = samples[:: -(-len(samples) // MEASURED)]
    sides = []
    for sample in chosen:
        with Image.open(io.BytesIO(evidence.data.read(sample.path))) as image:
            sides.append(min(image.size))
    return sides


def as_seen(evidence: Labelled) -> list[tuple[str, Thumbnail, Thumbnail]]:
    """8 images spread evenly over the held-out split, which lies in the order of its classes."""
    samples = evidence.held_out.samples
    places = np.unique(np.linspace(0, len(samples) - 1, SEEN).astype(np.int64))
    paths = [samples[place].path for place in places]
    before = thumbnails(paths, evidence.data.read, evidence.run.input)
    after = [shown(pixels) for pixels in evidence.held_out.take(places)]
    return list(zip(paths, before, after, strict=True))
