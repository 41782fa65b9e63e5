"""What one pass over the images of a split comes to: their fingerprints, crops, mean and deviation of the pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.artifact.decoder.geometry import Geometry, margins
from training.data.copies.fingerprint import Hashes, fingerprint

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_Sums = NDArray[np.float64]


class Part(NamedTuple):
    """Of n images: fingerprints uint8[n, 64]; the share that the crop keeps float32[n]; over the pixels of each, the
    sum of x float64[n, 3] and of x x^T float64[n, 3, 3], exact because all are whole numbers, or of no image where
    they were not asked for."""

    hashes: Hashes
    kept: NDArray[np.float32]
    totals: _Sums
    products: _Sums


class Summary:
    """Of a split, as it is read."""

    def __init__(self, moments: bool) -> None:
        """`moments`: whether `mean_and_std` will be asked for, which takes a quarter of the time of decoding."""
        self._moments = moments
        self._parts: list[Part] = []
        self._pixels = 1

    def measure(self, pixels: NDArray[np.uint8], shown: Sequence[Geometry], crop_fraction: float) -> Part:
        """uint8[n, H, W, 3] and where in their images these lie -> what `add` takes; in any thread."""
        self._pixels = pixels.shape[1] * pixels.shape[2]
        values = (pixels if self._moments else pixels[:0]).reshape(-1, self._pixels, 3).astype(np.float64)
        areas = [(each.right - each.left) * (each.bottom - each.top) / (each.width * each.height) for each in shown]
        kept = np.array(areas, np.float32) / crop_fraction**2
        totals, products = np.ones(self._pixels) @ values, values.transpose(0, 2, 1) @ values
        # hashes of what is inside, or padding would make all images of one shape look alike
        height, width = pixels.shape[1:3]
        edges = [margins(each[2:], (width, height)) for each in shown]
        if any(map(any, edges)):
            inside = (each[None, y : height - y, x : width - x] for each, (x, y) in zip(pixels, edges, strict=True))
            hashes = np.concatenate([fingerprint(each) for each in inside])
        else:
            hashes = fingerprint(pixels)
        return Part(hashes, kept, totals, products)

    def add(self, part: Part) -> None:
        """The next images of the split."""
        self._parts.append(part)

    def part(self, places: NDArray[np.int64]) -> "Summary":
        """Of those images alone, in this order."""
        chosen = Summary(self._moments)
        chosen._pixels = self._pixels
        all_ = [np.concatenate(values) for values in zip(*self._parts, strict=True)]
        chosen.add(Part(*(values[places] if len(values) else values for values in all_)))
        return chosen

    @property
    def hashes(self) -> Hashes:
        """uint8[N, 64], in the split's order."""
        return np.concatenate([part.hashes for part in self._parts])

    @property
    def kept(self) -> NDArray[np.float32]:
        """float32[N]: the share of each image that its crop to the model's aspect ratio keeps."""
        return np.concatenate([part.kept for part in self._parts])

    def mean_and_std(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of RGB or, for one channel, of luma: in 0..1, over every pixel; std is at least 1/255."""
        weights = np.eye(3) if channels == 3 else _LUMA[None]  # float64[C, 3]
        totals = np.concatenate([part.totals for part in self._parts])
        products = np.concatenate([part.products for part in self._parts])
        pixels = self._pixels * len(totals)
        mean = weights @ totals.sum(axis=0) / pixels / 255
        squares = np.diag(weights @ products.sum(axis=0) @ weights.T) / pixels / 255**2
        std = np.sqrt(np.maximum(squares - mean**2, (1 / 255) ** 2))
        return tuple(float(round(m, 6)) for m in mean), tuple(float(round(s, 6)) for s in std)
