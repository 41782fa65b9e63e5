"""What is taken for what: the matrix as cells, the largest pairs, and an image of a matrix too large for cells."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from training.metrics.classification import Evaluation
from training.report.thumbnails import data_uri

MAX_CELLS = 30  # classes
LARGEST = 25
_RIGHT, _WRONG = (66, 133, 204), (217, 100, 30)


@dataclass(frozen=True)
class Cell:
    """`share` of the images of label `label` that are called `predicted`; `shown`: the sheet has one of them."""

    label: int
    predicted: int
    count: int
    share: float
    shown: bool


@dataclass(frozen=True)
class Confusions:
    """`rows` up to 30 classes, else none and `image` instead: a data: URI, one pixel a cell."""

    rows: list[list[Cell]]
    pairs: list[Cell]
    image: str


def make(evaluation: Evaluation, shown: Collection[tuple[int, int]]) -> Confusions:
    """From the counts; `shown` are the pairs that the contact sheet has images of."""
    counts = np.array(evaluation.confusion_matrix)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))

    def cell(label: int, predicted: int) -> Cell:
        share = float(shares[label, predicted])
        return Cell(label, predicted, int(counts[label, predicted]), share, (label, predicted) in shown)

    classes = range(len(counts))
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:LARGEST]
    places = [(int(place) // len(counts), int(place) % len(counts)) for place in order]
    pairs = [cell(*place) for place in places if wrong[place]]
    if len(counts) <= MAX_CELLS:
        return Confusions([[cell(row, column) for column in classes] for row in classes], pairs, "")
    # blue on the diagonal, orange elsewhere, the clearer the larger the share; the root makes one in a hundred visible
    colours = np.where(np.eye(len(counts), dtype=bool)[..., None], np.array(_RIGHT), np.array(_WRONG))
    opacity = np.round(255 * np.sqrt(shares))[..., None]
    image = np.concatenate([colours, opacity], axis=2).astype(np.uint8)
    return Confusions([], pairs, data_uri(image, lossless=True))


def as_rows(evaluation: Evaluation) -> list[list[object]]:
    """Every cell that is not empty: label, called, images."""
    names, counts = evaluation.labels, np.array(evaluation.confusion_matrix)
    filled = [[names[row], names[column], int(counts[row, column])] for row, column in np.argwhere(counts)]
    return [["label", "called", "images"], *filled]
