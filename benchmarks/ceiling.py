"""What the machine could do at best: decode and network in a plain loop, one process a core, no HTTP."""

import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app import engines
from app.artifact import manifest
from app.artifact.image import decode


@dataclass(frozen=True)
class Ceiling:
    """Of one kind of picture, variant and batch size. CPU milliseconds are per image and of one process on one core."""

    images_per_second: float
    decode_ms: float
    resize_ms: float
    engine_ms: float

    @property
    def cpu_ms(self) -> float:
        """All of an image."""
        return self.decode_ms + self.resize_ms + self.engine_ms


def measure(artifact: Path, variant: str, picture: bytes, batch: int, seconds: float, cores: int) -> Ceiling:
    """`cores` processes side by side for `seconds` each."""
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        loops = [pool.submit(_loop, artifact, variant, picture, batch, seconds) for _ in range(cores)]
        each = [loop.result() for loop in loops]
    middle = [float(np.mean(column)) for column in zip(*each, strict=True)]
    return Ceiling(middle[0] * cores, *middle[1:])


def _loop(artifact: Path, variant: str, picture: bytes, batch: int, seconds: float) -> tuple[float, ...]:
    described = manifest.load(artifact)
    engine = engines.load(variant, artifact / described.variants[variant].file, "cpu", 1)
    spec = described.input

    def one_batch() -> None:
        engine.run(np.stack([decode(picture, spec).pixels for _ in range(batch)]))

    def only_load() -> None:
        with Image.open(io.BytesIO(picture)) as image:
            image.draft(None, (2 * spec.width, 2 * spec.height))
            image.load()

    pixels = np.stack([decode(picture, spec).pixels] * batch)
    wall, _cpu = _time(one_batch, seconds)
    load_ms = _time(only_load, seconds / 4)[1] * 1e3
    decode_ms = _time(lambda: decode(picture, spec), seconds / 4)[1] * 1e3
    engine_ms = _time(lambda: engine.run(pixels), seconds / 4)[1] * 1e3 / batch
    return batch / wall, load_ms, max(0.0, decode_ms - load_ms), engine_ms


def _time(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of one call, after a tenth of the time to warm up."""
    for limit in (seconds / 10, seconds):
        calls, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < limit:
            work()
            calls += 1
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls
