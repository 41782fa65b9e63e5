"""Pictures that lie in two splits: the same file (sha256), or one that looks nearly the same (a perceptual hash)."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.artifact.golden import DAMAGE
from training.checkpoint import replacing
from training.pixels import Pixels

FILE = "dhash.npz"  # of a run: split -> uint8[N, 16]
NEAR_BITS = 7  # of 128; with 8 bands of 16 bits no pair as near as this is missed
_BANDS = 8
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


def hashes(pixels: Pixels) -> Hashes:
    """uint8[N, 16] of a whole split."""
    return np.concatenate([difference_hash(batch) for batch in pixels.batches()])


def save(run: Path, sets: Mapping[str, Pixels]) -> None:
    """Hash every split while its pictures are at hand: an export does not read train again."""
    with replacing(run / FILE) as file:
        np.savez(file, allow_pickle=False, **{name: hashes(split) for name, split in sets.items()})


def load(run: Path) -> dict[str, Hashes] | None:
    """What `save` wrote; None for a run made before there was such a file, or where it is damaged."""
    try:
        with np.load(io.BytesIO((run / FILE).read_bytes())) as file:
            return {name: file[name] for name in file.files}
    except DAMAGE:
        return None


@dataclass(frozen=True)
class Twins:
    """Pictures of split `here` that split `there` has as well: (index here, index there, bits that differ), the
    nearest first. `exact` have the same sha256; `near` have not, or is None where no hashes are known."""

    here: str
    there: str
    exact: tuple[tuple[int, int, int], ...]
    near: tuple[tuple[int, int, int], ...] | None


def between(sums: Mapping[str, Sequence[str]], known: Mapping[str, Hashes] | None) -> list[Twins]:
    """One row per pair of splits; `sums` are the sha256 sums of each split's files."""
    names = list(sums)
    pairs = [(here, there) for i, there in enumerate(names) for here in names[i + 1 :]]
    return [_twins(here, there, sums, known) for here, there in pairs]


def _twins(here: str, there: str, sums: Mapping[str, Sequence[str]], known: Mapping[str, Hashes] | None) -> Twins:
    where = {digest: place for place, digest in enumerate(sums[there])}
    exact = tuple((place, where[digest], 0) for place, digest in enumerate(sums[here]) if digest in where)
    if known is None or any(len(known.get(name, ())) != len(sums[name]) for name in (here, there)):
        return Twins(here, there, exact, None)
    same = {place for place, _, _ in exact}
    found = [row for row in nearest(known[here], known[there]) if row[0] not in same]
    return Twins(here, there, exact, tuple(sorted(found, key=lambda row: row[2])))


def nearest(queries: Hashes, others: Hashes) -> list[tuple[int, int, int]]:
    """(query, the other nearest to it, bits that differ) for every query that has one within NEAR_BITS.

    8 bands of 16 bits: two hashes that differ in 7 bits agree in one band at least, so that only those which share a
    band are compared. 5,000 against 45,000 photographs take 0.4 s; where borders are alike many share a band, and
    MNIST's 10,000 against 54,000 take about a minute.
    """
    best = np.full(len(queries), NEAR_BITS + 1)
    which = np.zeros(len(queries), np.int64)
    for band in range(_BANDS):
        keys, wanted = _band(others, band), _band(queries, band)
        order = np.argsort(keys, kind="stable")
        starts, ends = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        for query in np.flatnonzero(ends > starts):
            candidates = order[starts[query] : ends[query]]
            bits = np.unpackbits(others[candidates] ^ queries[query], axis=1).sum(axis=1)
            least = int(bits.argmin())
            if bits[least] < best[query]:
                best[query], which[query] = bits[least], candidates[least]
    return [(int(i), int(which[i]), int(best[i])) for i in np.flatnonzero(best <= NEAR_BITS)]


def _band(hashed: Hashes, band: int) -> NDArray[np.uint16]:
    return np.ascontiguousarray(hashed[:, 2 * band : 2 * band + 2]).view(np.uint16)[:, 0]
