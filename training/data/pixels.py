"""The images of one split as arrays: every file is hashed and decoded once; what cannot be decoded is listed."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app import machine
from app.artifact.decoder.confined import DecoderLost
from app.artifact.decoder.decode import ImageError, InputSpec, decode
from app.artifact.decoder.geometry import Geometry
from training.console.progress import Report, Talk
from training.data.dataset import Data, Sample
from training.data.folders.layouts import SHAPE
from training.data.statistics import Part, Summary
from training.errors import TrainingError, reason

_File = tuple[str, str, Geometry | None]  # see _read
_MOST_BYTES = 2**20  # of pixels at once: what a cache holds


@dataclass(frozen=True)
class Pixels:
    """`labels` int64[N] and `sha256` belong to `samples`; `skipped` is (path, why) of files that are no images;
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

    def part(self, places: NDArray[np.int64]) -> "Pixels":
        """Those of the images, in this order; what was skipped belongs to no part."""
        return replace(
            self,
            samples=tuple(self.samples[place] for place in places),
            sha256=tuple(self.sha256[place] for place in places),
            labels=self.labels[places],
            skipped=(),
            _take=lambda indices: self._take(places[indices]),
        )

    def batches(self, most_bytes: int = _MOST_BYTES) -> Iterator[NDArray[np.uint8]]:
        """The whole split in order, as many images at a time as fill a megabyte: 341 of 32 px, 6 of 224 px."""
        size = max(1, most_bytes // (self.size[0] * self.size[1] * 3))
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))


def load(
    data: Data,
    split: str,
    spec: InputSpec,
    recorded: Sequence[str] | None = None,
    memory: int | None = None,
    progress: Report = lambda _: None,
    summary: Summary | None = None,
) -> Pixels:
    """Read, hash and decode every file of a split, on all cores (Pillow and hashlib release the GIL).

    Decoded pixels stay in memory while they need at most `memory` bytes (default: a quarter of what there is).
    `recorded` are the sha256 sums the files must still have. `summary` is given every image, decoded but once.

    Raises TrainingError for a changed or missing file, or when the split has no file that is an image.
    """
    samples = data.splits[split]
    size = spec.height * spec.width * 3
    keep = len(samples) * size <= (machine.memory_bytes() // 4 if memory is None else memory)
    pixels = np.empty((len(samples), spec.height, spec.width, 3), np.uint8) if keep else None
    results = read_all(data, samples, spec, pixels, progress, summary)
    if recorded is not None:
        pairs = zip(samples, results, recorded, strict=True)
        if changed := [sample.path for sample, (digest, *_), was in pairs if digest != was]:
            raise TrainingError(
                f"{len(changed)} of {len(samples)} files changed or vanished since training, the first: {changed[0]}",
                "restore them, or start a new run",
            )
    good = np.array([position for position, (_, why, _) in enumerate(results) if not why], dtype=np.int64)
    skipped = tuple((samples[position].path, why) for position, (_, why, _) in enumerate(results) if why)
    if not samples:
        raise TrainingError(f'"{data.source}" has no files in class folders', SHAPE)
    if not len(good):
        raise TrainingError(f"none of the {len(samples)} files of {split} is an image; the first: {skipped[0][1]}")
    chosen = tuple(samples[position] for position in good)
    if pixels is not None and skipped:
        pixels = pixels[good]
    return Pixels(
        chosen,
        tuple(results[position][0] for position in good),
        np.array([sample.label for sample in chosen], dtype=np.int64),
        skipped,
        (spec.height, spec.width),
        partial(decode_now, data, chosen, spec) if pixels is None else pixels.__getitem__,
        in_memory=pixels is not None,
    )


def load_all(
    data: Data, spec: InputSpec, talk: Talk, recorded: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Pixels]:
    """Every split that has files; see `load`."""
    splits = {}
    for name, samples in data.splits.items():
        if samples:
            with talk.step(f"reading {name}", len(samples)) as progress:
                splits[name] = load(data, name, spec, recorded[name] if recorded else None, progress=progress)
    return splits


def decode_now(data: Data, samples: Sequence[Sample], spec: InputSpec, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """`Pixels.take` where the split does not fit into memory."""
    with ThreadPoolExecutor(machine.cores().usable) as pool:
        return np.stack(list(pool.map(lambda i: decode(data.read(samples[i].path), spec).pixels, indices)))


def read_all(
    data: Data,
    samples: Sequence[Sample],
    spec: InputSpec,
    pixels: NDArray[np.uint8] | None,
    progress: Report,
    summary: Summary | None,
) -> list[_File]:
    """Of each file what `_read` says; `pixels` takes the images."""

    shape, cores, results = (spec.height, spec.width, 3), machine.cores().usable, []
    size = max(1, min(32, len(samples) // (4 * cores), _MOST_BYTES // math.prod(shape)))  # so that no thread is idle

    def read(start: int) -> tuple[list[_File], Part | None]:
        chunk = samples[start : start + size]
        room = np.empty((len(chunk), *shape), np.uint8) if pixels is None else pixels[start : start + size]
        found = [_read(data, sample, spec, place) for sample, place in zip(chunk, room, strict=True)]
        if summary is None:
            return found, None
        good = np.array([not why for _, why, _ in found])
        shown = [shown for _, _, shown in found if shown]
        return found, summary.measure(room[good], shown, spec.crop_fraction)

    with ThreadPoolExecutor(cores) as pool:
        for found, part in pool.map(read, range(0, len(samples), size)):
            results += found
            if summary is not None and part is not None:
                summary.add(part)
            progress(len(results))
    return results


def _read(data: Data, sample: Sample, spec: InputSpec, place: NDArray[np.uint8]) -> _File:
    """The file's sha256, why it is no image, or an empty string, and where in it the model's pixels lie; these go to
    `place`, uint8[H, W, 3]."""
    digest = ""
    try:
        file = data.read(sample.path)
        digest = hashlib.sha256(file).hexdigest()
        decoded = decode(file, spec)
    except DecoderLost:  # which says nothing about the image
        raise
    except (ImageError, OSError) as error:
        return digest, reason(error), None
    place[:] = decoded.pixels
    return digest, "", decoded.geometry
