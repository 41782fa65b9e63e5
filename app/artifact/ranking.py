"""Labels by their probability."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranked = list[tuple[str, float]]


def rank(probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int) -> Ranked:
    """The top_k labels of float32[K] by falling probability; of equals the first label, as argmax says."""
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    # by way of str: the shortest decimal that is this float32, half as long in JSON as its float64
    shortest = [float(str(probability)) for probability in probabilities[best]]
    return [(labels[place], probability) for place, probability in zip(best.tolist(), shortest, strict=True)]
