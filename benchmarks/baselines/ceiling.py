"""What the machine could do at best: decode and network in a plain loop, one process a core, no HTTP."""

import io
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from app import engines
from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec, decode
from app.engines import Runs

COMPILED = "torch.compile"  # beside the artifact's own variants


@dataclass(frozen=True)
class Ceiling:
    """Of one kind of image, variant and batch size; the milliseconds are an image's, of one process on one core.

    `cpu_ms` is the CPU of the loop itself. The parts are timed apart, each with its code and data hot in the caches,
    so that together they come to less.
    """

    per_second: float
    cpu_ms: float
    decode_ms: float
    resize_ms: float
    engine_ms: float


def measure(
    artifact: Path, variant: str, encoded: bytes, batches: Sequence[int], seconds: float, cores: int
) -> dict[int, Ceiling]:
    """By batch size, `cores` processes side by side for `seconds` each. Raises compiled.CannotCompile."""
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        loops = [pool.submit(_loops, artifact, variant, encoded, batches, seconds) for _ in range(cores)]
        each = [loop.result() for loop in loops]
    return {batch: _together([one[batch] for one in each]) for batch in batches}


def _together(each: list[Ceiling]) -> Ceiling:
    middle = {field.name: float(np.mean([getattr(one, field.name) for one in each])) for field in fields(Ceiling)}
    return Ceiling(**middle | {"per_second": sum(one.per_second for one in each)})


def _loops(artifact: Path, variant: str, encoded: bytes, batches: Sequence[int], seconds: float) -> dict[int, Ceiling]:
    """In a process of its own."""
    engine, spec = _engine(artifact, variant, batches), manifest.load(artifact).input
    load_ms = _time(lambda: _load(encoded, spec), seconds / 4)[1] * 1e3
    decode_ms = _time(lambda: decode(encoded, spec), seconds / 4)[1] * 1e3
    pixels = decode(encoded, spec).pixels
    resize_ms = max(0.0, decode_ms - load_ms)

    def at(batch: int) -> Ceiling:
        stacked = np.stack([pixels] * batch)
        wall, cpu = _time(lambda: engine.run(np.stack([decode(encoded, spec).pixels for _ in range(batch)])), seconds)
        engine_ms = _time(lambda: engine.run(stacked), seconds / 4)[1] * 1e3 / batch
        return Ceiling(batch / wall, cpu * 1e3 / batch, load_ms, resize_ms, engine_ms)

    return {batch: at(batch) for batch in batches}


def _engine(artifact: Path, variant: str, batches: Sequence[int]) -> Runs:
    if variant == COMPILED:
        from benchmarks.baselines.compiled import CompiledEngine  # here, because the other loops need no torch

        return CompiledEngine(artifact, batches)
    return engines.load(variant, artifact / manifest.load(artifact).variants[variant].file, "cpu", 1)


def _load(encoded: bytes, spec: InputSpec) -> None:
    """What decoding costs before anything is resized."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft(None, (2 * spec.width, 2 * spec.height))
        image.load()


def _time(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of one call, after a tenth of the time to warm up; CPU of all threads of the process."""
    for limit in (seconds / 10, seconds):
        calls, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < limit:
            work()
            calls += 1
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls
