"""Images that are there twice: the same file (sha256), or one that looks nearly the same (see `fingerprint`)."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.artifact.golden import DAMAGE
from training.atomic import replacing
from training.data.copies.fingerprint import HASH_BYTES, Hashes

FILE = "dhash.npz"  # of a run: split -> fingerprints
NEAR_BITS = 7  # of 128; with 4 bands of 32 bits no pair as near as this is missed
_NEAR_COLOUR = 8  # of 255, in each area
_NEAR_LIGHT = 12  # of 255, in all areas alike: an image made a little darker
_LARGE = 0.1  # of a class: what val or test can take
_BANDS = 4
_PAIRS = 1 << 20  # compared at once
_MOST_PAIRS = 100 * _PAIRS  # compared for `groups`: 25 s, for 60,000 digits in white on black; of photographs few are

Places = NDArray[np.intp]


def save(run: Path, hashes: Mapping[str, Hashes]) -> None:
    """Keep what was hashed while it was read: an export does not read train again."""
    with replacing(run / FILE) as file:
        np.savez(file, allow_pickle=False, **hashes)


def load(run: Path) -> dict[str, Hashes] | None:
    """What `save` wrote; None for a run made before there was such a file, or where it is damaged."""
    try:
        with np.load(io.BytesIO((run / FILE).read_bytes())) as file:
            return {name: file[name] for name in file.files}
    except DAMAGE:
        return None


@dataclass(frozen=True)
class Twins:
    """Images of split `here` that split `there` has as well: (index here, index there, bits that differ), the
    nearest first. `exact` have the same sha256; `near` have not, or is None where no hashes are known."""

    here: str
    there: str
    exact: tuple[tuple[int, int, int], ...]
    near: tuple[tuple[int, int, int], ...] | None


def between(sums: Mapping[str, Sequence[str]], known: Mapping[str, Hashes] | None) -> list[Twins]:
    """One row per pair of splits; `sums` are the sha256 sums of each split's files."""
    names = list(sums)
    pairs = [(here, there) for i, there in enumerate(names) for here in names[i + 1 :]]
    rows = []
    for here, there in pairs:
        where = {digest: place for place, digest in enumerate(sums[there])}
        exact = tuple((place, where[digest], 0) for place, digest in enumerate(sums[here]) if digest in where)
        same, alike = {place for place, _, _ in exact}, None
        if known is not None and all(len(known.get(name, ())) == len(sums[name]) for name in (here, there)):
            found = (row for row in nearest(known[here], known[there]) if row[0] not in same)
            alike = tuple(sorted(found, key=lambda row: row[2]))
        rows.append(Twins(here, there, exact, alike))
    return rows


def nearest(queries: Hashes, others: Hashes) -> list[tuple[int, int, int]]:
    """(query, the other nearest to it, bits that differ) for every query that has one within NEAR_BITS; of several
    that are equally near the first.

    4 bands of 32 bits: of 7 bits that differ one band at least has no more than one, so that a query is compared only
    with what has one of its bands but for a bit (multi-index hashing, Norouzi et al. 2012, arXiv:1307.2939).
    4,000 against 20,000 CIFAR-10 photographs take 0.2 s of one core, with and without black borders around them.
    """
    different, first = np.unique(others, axis=0, return_index=True)
    questions, place = np.unique(queries, axis=0, return_inverse=True)
    n = len(others)
    best = np.full(len(questions), (NEAR_BITS + 1) * n, np.int64)  # bits * n + first: the nearest, and then the first
    for rows, found, bits in neighbours(questions, different):
        np.minimum.at(best, rows, bits * n + first[found])
    best = best[place.reshape(-1)]
    return [(int(i), int(best[i] % n), int(best[i] // n)) for i in np.flatnonzero(best < (NEAR_BITS + 1) * n)]


def groups(sums: Sequence[str], known: Hashes, labels: NDArray[np.int64]) -> Places:
    """intp[N]: for each image the first that it is a copy of, by sha256 or by looks, directly or over others; itself
    where there is none. Looks do not count in a class that is mostly of large groups: of parts that a camera shows
    one like the other, or of frames of a film, they say nothing, and only what is odd would be left for val."""
    where: dict[str, int] = {}
    every = np.arange(len(sums))
    exact = np.array([where.setdefault(digest, place) for place, digest in enumerate(sums)], np.intp)
    different, first, inverse = np.unique(known, axis=0, return_index=True, return_inverse=True)
    looks = [(every, first[inverse.reshape(-1)])]
    looks += [(first[rows], first[found]) for rows, found, _ in neighbours(different, different, _MOST_PAIRS)]
    one, other = (np.concatenate(side) for side in zip(*looks, strict=True))
    group = _joined(np.concatenate([every, one]), np.concatenate([exact, other]))
    mute = np.zeros(labels.max(initial=0) + 1, bool)  # classes in which looks say nothing
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        sizes = np.unique(group[members], return_counts=True)[1]
        mute[label] = 2 * sizes[sizes <= max(3, _LARGE * len(members))].sum() < len(members)
    if not mute.any():
        return group
    counts = ~(mute[labels[one]] | mute[labels[other]])
    return _joined(np.concatenate([every, one[counts]]), np.concatenate([exact, other[counts]]))


def _joined(one: Places, other: Places) -> Places:
    """intp[N]: of each place the lowest that it is joined with by pairs of the two, of which `one` has every place."""
    n = int(one.max(initial=-1)) + 1
    number, component = connected_components(coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n)), False)
    lowest = np.full(number, n, np.intp)
    np.minimum.at(lowest, component, np.arange(n))
    found: Places = lowest[component]
    return found


def neighbours(
    queries: Hashes, known: Hashes, most_pairs: float = math.inf
) -> Iterator[tuple[Places, Places, NDArray[np.int64]]]:
    """Rows of `queries`, the rows of `known` that look nearly the same, and how many bits differ; some pairs again.

    Stops when about `most_pairs` have been compared: where all look alike, likeness says little.
    """
    typical = known[:, :HASH_BYTES]
    query_bands, known_bands = _bands(queries[:, :HASH_BYTES], typical), _bands(typical, typical)
    for band in range(_BANDS):
        order = np.argsort(known_bands[:, band], kind="stable")
        keys = known_bands[order, band]
        for flipped in (0, *(1 << bit for bit in range(32))):
            wanted = query_bands[:, band] ^ np.uint32(flipped)
            starts, ends = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
            most_pairs -= int((ends - starts).sum())
            if most_pairs < 0:
                return
            for rows, places in pairs_between(starts, ends):
                found = order[places]
                bits = np.bitwise_count(query_bands[rows] ^ known_bands[found]).sum(axis=1, dtype=np.int64)
                near = np.flatnonzero(bits <= NEAR_BITS)
                near = near[_same_colours(queries[rows[near]], known[found[near]])]
                yield rows[near], found[near], bits[near]


def _same_colours(here: Hashes, there: Hashes) -> NDArray[np.bool_]:
    """bool[N] of two uint8[N, 64]; true where there is only the hash."""
    if here.shape[1] == HASH_BYTES or not len(here):
        return np.ones(len(here), bool)
    apart = here[:, HASH_BYTES:].astype(np.int16) - there[:, HASH_BYTES:]
    light = apart.mean(axis=1, keepdims=True)
    alike: NDArray[np.bool_] = (np.abs(apart - light).max(axis=1) <= _NEAR_COLOUR) & (
        np.abs(light[:, 0]) <= _NEAR_LIGHT
    )
    return alike


def _bands(hashed: Hashes, typical: Hashes) -> NDArray[np.uint32]:
    """uint32[N, 4]: the bits dealt to the bands in turn, those that vary most among the `typical` first.

    Where borders are alike so are their bits, and a band of only such bits would hold nearly every image.
    """
    spread = np.abs(np.unpackbits(typical, axis=1).mean(axis=0) - 0.5) if len(typical) else np.zeros(128)
    order = np.argsort(spread, kind="stable").reshape(-1, _BANDS).T.reshape(-1)
    dealt = np.packbits(np.unpackbits(hashed, axis=1)[:, order], axis=1)
    return np.ascontiguousarray(dealt).view(np.uint32)


def pairs_between(starts: Places, ends: Places) -> Iterator[tuple[Places, Places]]:
    """Row i with every place from starts[i] to ends[i], about a million pairs at a time."""
    counts = ends - starts
    met = np.flatnonzero(counts)
    for rows in np.split(met, np.flatnonzero(np.diff(np.cumsum(counts[met]) // _PAIRS)) + 1):
        many = counts[rows]
        offsets = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(rows, many), np.repeat(starts[rows], many) + offsets
