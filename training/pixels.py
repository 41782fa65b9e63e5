"""The pictures of one split as arrays: every file is hashed and decoded once; what cannot be decoded is listed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.artifact.image import ImageError, InputSpec, decode
from app.engines import machine
from training import TrainingError, reason
from training.samples import Data, Sample

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Pixels:
    """`labels` int64[N] and `sha256` belong to `samples`; `skipped` is (path, why) of files that are no pictures;
    `size` is the model's height and width; `in_memory`: to take some costs no decoding."""

    samples: tuple[Sample, ...]
    sha256: tuple[str, ...]
    labels: NDArray[np.int64]
    skipped: tuple[tuple[str, str], ...]
    size: tuple[int, int]
    _take: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    in_memory: bool = True

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8[len(indices), H, W, 3]: from memory where the split fits there, else decoded now."""
        return self._take(indices)

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """The whole split in order, as many pictures at a time as make about a megabyte: 341 of 32 px, 6 of 224 px."""
        size = max(1, 2**20 // (self.size[0] * self.size[1] * 3))
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))


def load(
    data: Data,
    split: str,
    spec: InputSpec,
    recorded: Sequence[str] | None = None,
    memory: int | None = None,
    progress: Progress = lambda _: None,
) -> Pixels:
    """Read, hash and decode every file of a split, on all cores (Pillow and hashlib release the GIL).

    Decoded pixels stay in memory while they need at most `memory` bytes (default: a quarter of what there is).
    `recorded` are the sha256 sums the files must still have.

    Raises TrainingError for a changed or missing file, or when no file of the split is a picture.
    """
    samples = data.splits[split]
    size = spec.height * spec.width * 3
    keep = len(samples) * size <= (machine.memory_bytes() // 4 if memory is None else memory)
    pixels = np.empty((len(samples), spec.height, spec.width, 3), np.uint8) if keep else None
    results = _read_all(data, samples, spec, pixels, progress)
    if recorded is not None:
        _require_unchanged(samples, [digest for digest, _ in results], recorded)

    good = np.array([position for position, (_, why) in enumerate(results) if not why], dtype=np.int64)
    skipped = tuple((samples[position].path, why) for position, (_, why) in enumerate(results) if why)
    if not len(good):
        raise TrainingError(f"none of the {len(samples)} files of {split} is a picture; the first: {skipped[0][1]}")
    chosen = tuple(samples[position] for position in good)
    if pixels is not None and skipped:
        pixels = pixels[good]
    return Pixels(
        chosen,
        tuple(results[position][0] for position in good),
        np.array([sample.label for sample in chosen], dtype=np.int64),
        skipped,
        (spec.height, spec.width),
        _decoding(data, chosen, spec) if pixels is None else pixels.__getitem__,
        in_memory=pixels is not None,
    )


def _read_all(
    data: Data, samples: Sequence[Sample], spec: InputSpec, pixels: NDArray[np.uint8] | None, progress: Progress
) -> list[tuple[str, str]]:
    """Of each file its sha256 and why it is no picture, or an empty string; `pixels` takes the pictures."""

    def read(position: int) -> tuple[str, str]:
        digest, why = "", ""
        try:
            file = data.read(samples[position].path)
            digest = hashlib.sha256(file).hexdigest()
            picture = decode(file, spec).pixels
            if pixels is not None:
                pixels[position] = picture
        except (ImageError, OSError) as error:
            why = reason(error)
        return digest, why

    results = []
    with ThreadPoolExecutor(machine.cores().usable) as pool:
        for done, result in enumerate(pool.map(read, range(len(samples)), chunksize=64), start=1):
            results.append(result)
            progress(done)
    return results


def _decoding(
    data: Data, samples: Sequence[Sample], spec: InputSpec
) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    """`Pixels.take` where the split does not fit into memory: decodes every time it is asked."""

    def take(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        with ThreadPoolExecutor(machine.cores().usable) as pool:
            return np.stack(list(pool.map(lambda i: decode(data.read(samples[i].path), spec).pixels, indices)))

    return take


def _require_unchanged(samples: Sequence[Sample], found: Sequence[str], recorded: Sequence[str]) -> None:
    changed = [sample.path for sample, new, old in zip(samples, found, recorded, strict=True) if new != old]
    if changed:
        raise TrainingError(
            f"{len(changed)} of {len(samples)} files changed or vanished since training, the first: {changed[0]}",
            "restore them, or start a new run",
        )


def mean_and_std(pixels: Pixels, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel in 0..1 (Rec. 601 luma for one channel), over every pixel of the split; std is at least 1/255."""
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for batch in pixels.batches():
        values = batch.reshape(-1, 3) / 255
        if channels == 1:
            values = values @ np.array([[0.299], [0.587], [0.114]])
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
        count += len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, (1 / 255) ** 2))
    return tuple(float(round(m, 6)) for m in mean), tuple(float(round(s, 6)) for s in std)
