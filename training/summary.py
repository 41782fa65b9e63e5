"""What one pass over the pictures of a split comes to: a hash of each, and mean and deviation of their pixels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.dhash import Hashes, difference_hash

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_Sums = NDArray[np.float64]


class Part(NamedTuple):
    """Of some pictures: hashes uint8[n, 16]; over their pixels, the sum of x float64[3] and of x x^T float64[3, 3],
    exact because all are whole numbers; and how many pixels. The last three of no use where they were not asked for."""

    hashes: Hashes
    total: _Sums
    products: _Sums
    pixels: int


class Summary:
    """Of a split, as it is read."""

    def __init__(self, moments: bool) -> None:
        """`moments`: whether `mean_and_std` will be asked for, which takes a quarter of the time of decoding."""
        self._moments = moments
        self._parts: list[Part] = []

    def measure(self, pixels: NDArray[np.uint8]) -> Part:
        """uint8[n, H, W, 3] -> what `add` takes; in any thread."""
        values = pixels.reshape(-1, 3).astype(np.float64) if self._moments else np.zeros((0, 3))
        return Part(difference_hash(pixels), np.ones(len(values)) @ values, values.T @ values, len(values))

    def add(self, part: Part) -> None:
        """The next pictures of the split."""
        self._parts.append(part)

    @property
    def hashes(self) -> Hashes:
        """uint8[N, 16], in the split's order."""
        return np.concatenate([part.hashes for part in self._parts])

    def mean_and_std(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of RGB or, for one channel, of luma: in 0..1, over every pixel; std is at least 1/255."""
        weights = np.eye(3) if channels == 3 else _LUMA[None]  # float64[C, 3]
        pixels = sum(part.pixels for part in self._parts)
        mean = weights @ sum(part.total for part in self._parts) / pixels / 255
        squares = np.diag(weights @ sum(part.products for part in self._parts) @ weights.T) / pixels / 255**2
        std = np.sqrt(np.maximum(squares - mean**2, (1 / 255) ** 2))
        return tuple(float(round(m, 6)) for m in mean), tuple(float(round(s, 6)) for s in std)
