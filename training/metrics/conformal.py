"""What most new images will not exceed, by so many that were kept out of training: conformal prediction.

Papadopoulos et al. 2002; Angelopoulos and Bates 2021, arXiv:2107.07511. The promise holds on average over vals of that
size, for new images of val's kind.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.console.terminal import count
from training.metrics.classification import Accuracy, Floats, Labels


def threshold(scores: NDArray[np.floating], share: float) -> float | None:
    """The score that at most 1 - `share` of new images exceed: of n, the ceil(share (n + 1))-th smallest.

    The plain quantile of 20 images is exceeded by 9 % of new ones where 5 % were meant, that of 5 by 20 %. None where
    there is no such image.
    """
    place = math.ceil(share * (len(scores) + 1) - 1e-9)
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else None


def least_images(share: float) -> int:
    """With fewer even the highest score is exceeded more often: 19 for 0.95."""
    return math.ceil(share / (1 - share) - 1e-9)


def least_probability(labels: Labels, probabilities: Floats, coverage: float) -> float | None:
    """A set of all labels with at least this probability holds the right one of new images in that share.

    The least ambiguous sets: Sadinle, Lei and Wasserman 2019, arXiv:1609.00451. The shortest decimal that is the
    float32, as the probabilities are served. None where there are too few images.
    """
    found = threshold(-probabilities[np.arange(len(labels)), labels], coverage)
    return None if found is None else float(str(np.float32(-found)))


def sets(probabilities: Floats, least: float) -> NDArray[np.bool_]:
    """bool[N, K]: which labels are in each image's set, the most probable in any case."""
    inside = probabilities >= np.float32(least)
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside


@dataclass(frozen=True)
class Sets:
    """Of all labels with at least `probability` (None: val, of `val_n` images, is too small to promise `coverage`).
    `covered`: the held-out images whose label is in their set. `sizes` int64[N]: of each of them."""

    probability: float | None
    coverage: float
    val_n: int
    covered: Accuracy | None
    sizes: Labels

    @classmethod
    def of(cls, probability: float | None, coverage: float, val_n: int, labels: Labels, held_out: Floats) -> "Sets":
        """Decided on val, then measured once on the held-out split, float32[N, K]."""
        if probability is None:
            return cls(None, coverage, val_n, None, np.zeros(0, np.int64))
        inside = sets(held_out, probability)
        right = int(inside[np.arange(len(labels)), labels].sum())
        return cls(probability, coverage, val_n, Accuracy.of(right, len(labels)), inside.sum(axis=1))

    def counts(self) -> list[tuple[int, int]]:
        """Rows (labels in a set, how many images have one of that size); sizes that there are."""
        sizes, images = np.unique(self.sizes, return_counts=True)
        return list(zip(sizes.tolist(), images.tolist(), strict=True))

    @property
    def always_one(self) -> bool:
        """Whether the first label alone keeps the promise, so that no set says more."""
        return self.probability is not None and bool((self.sizes == 1).all())

    def __str__(self) -> str:
        images, share = count(self.val_n, "val image"), f"{100 * self.coverage:g} %"
        if self.probability is None:
            return f"none: {images} cannot promise {share} (at least {least_images(self.coverage)})"
        said = (
            f"labels with p >= {self.probability:.4f}, which hold the right one of {share} of images like the {images}"
        )
        return said + ("; the first label alone does, see --coverage" if self.always_one else "")
