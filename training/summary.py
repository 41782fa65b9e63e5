"""What one pass over the pictures of a split comes to: mean and deviation of their pixels, and a hash of each."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.dhash import Hashes, difference_hash

_LUMA = np.array([[0.299], [0.587], [0.114]])  # Rec. 601
Channels = NDArray[np.float64]


class Part(NamedTuple):
    """Of some pictures: uint8[n, 16], the sums of values and of their squares float64[C], how many pixels."""

    hashes: Hashes
    total: Channels
    squares: Channels
    pixels: int


class Summary:
    """Of a split, as it is read."""

    def __init__(self, channels: int) -> None:
        """3: of RGB; 1: of luma."""
        self._channels = channels
        self._parts: list[Part] = []

    def measure(self, pixels: NDArray[np.uint8]) -> Part:
        """uint8[n, H, W, 3] -> what `add` takes; in any thread."""
        values = pixels.reshape(-1, 3) / 255
        if self._channels == 1:
            values = values @ _LUMA
        return Part(difference_hash(pixels), values.sum(axis=0), (values**2).sum(axis=0), len(values))

    def add(self, part: Part) -> None:
        """The next pictures of the split."""
        self._parts.append(part)

    @property
    def hashes(self) -> Hashes:
        """uint8[N, 16], in the split's order."""
        return np.concatenate([part.hashes for part in self._parts])

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel in 0..1, over every pixel; std is at least 1/255."""
        pixels = sum(part.pixels for part in self._parts)
        mean = np.sum([part.total for part in self._parts], axis=0) / pixels
        squares = np.sum([part.squares for part in self._parts], axis=0) / pixels
        std = np.sqrt(np.maximum(squares - mean**2, (1 / 255) ** 2))
        return tuple(float(round(m, 6)) for m in mean), tuple(float(round(s, 6)) for s in std)
