"""What is measured of a variant through the serving engine, beside the checkpoint and on the same pixels."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from app.artifact.doubt import ood_scores
from app.engines import Outputs, Runs
from training.console.terminal import count
from training.data.pixels import Pixels
from training.metrics.classification import Floats, shown

CHECKPOINT = "checkpoint"  # the name, among the engines, of what they are measured against
BATCHES = (1, 8)  # one waiting client, and a filled queue


@dataclass(frozen=True)
class Proof:
    """Measured on `images` of val and, for what needs no labels, on `judges` of train: `agreement` with the eager
    checkpoint, `difference`: largest of a probability to its, `row_sum`: largest distance of a row's sum to 1. Of val:
    `accuracy` (None where it has no labels), `differ`: how many are called something else than by the checkpoint,
    `lost`: of these, right there and wrong here, `won`: the reverse. `cpu_ms`: batch size -> CPU ms per image on one
    thread."""

    images: int
    accuracy: float | None
    agreement: float
    difference: float
    row_sum: float
    cpu_ms: dict[int, float]
    judges: int = 0
    differ: int = 0
    lost: int = 0
    won: int = 0

    def speedup_over(self, other: "Proof") -> float:
        """The smaller of the ratios at batch 1 and 8."""
        return min(other.cpu_ms[size] / self.cpu_ms[size] for size in BATCHES)

    @property
    def compared(self) -> str:
        """The images that `agreement` is of, in words."""
        if self.accuracy is None:
            return count(self.images, "photograph or piece of one", "photographs and pieces of them")
        return f"val and {count(self.judges, 'image')} of train" if self.judges else "val"

    @property
    def shown_agreement(self) -> float:
        """What `agreement` shows, with 95 % confidence: at least this."""
        n = self.images + self.judges
        return float(shown(round(self.agreement * n), n))

    @property
    def drop_by_chance(self) -> float:
        """How often a variant as right as the checkpoint would lose as many images of val: exact McNemar test, 1947."""
        discordant = self.lost + self.won
        return float(bdtrc(self.lost - 1, discordant, 0.5)) if discordant else 1.0


class Answers(NamedTuple):
    """One row per image: probabilities and logits float32[N, K], out-of-distribution scores float64[N]."""

    probabilities: Floats
    logits: Floats
    ood_scores: NDArray[np.float64]

    @classmethod
    def of(cls, outputs: Outputs) -> "Answers":
        """Without the heat maps, which are K times as large."""
        return cls(outputs.probabilities, outputs.logits, ood_scores(outputs.logits, outputs.heatmap))


def answers_of(engine: Runs, pixels: Pixels) -> Answers:
    """Of a whole split."""
    batches = [Answers.of(engine.run(batch)) for batch in pixels.batches()]
    return Answers(*(np.concatenate(part) for part in zip(*batches, strict=True)))


def measure(
    engines: Mapping[str, Runs], val: Pixels, judges: Pixels | None = None, *, labelled: bool = True
) -> dict[str, Proof]:
    """Every engine against the one called `checkpoint`, on the same pixels: val, and `judges` besides, as to agreement.

    Not `labelled`: nobody knows of val what is right.
    """
    speed = cpu_ms(engines, val)
    sets = [val] if judges is None else [val, judges]

    def ask(engine: Runs) -> Floats:
        return np.concatenate([answers_of(engine, pixels).probabilities for pixels in sets])

    reference, n = ask(engines[CHECKPOINT]), len(val)
    expected = reference.argmax(axis=1)
    was_right = (expected[:n] == val.labels) & labelled
    proofs = {}
    for name, engine in engines.items():
        answers = reference if name == CHECKPOINT else ask(engine)
        top1 = answers.argmax(axis=1)
        right = (top1[:n] == val.labels) & labelled
        proofs[name] = Proof(
            images=n,
            accuracy=float(right.mean()) if labelled else None,
            agreement=float((top1 == expected).mean()),
            difference=float(np.abs(answers - reference).max()),
            row_sum=float(np.abs(answers.sum(axis=1) - 1).max()),
            cpu_ms=speed[name],
            judges=len(answers) - n,
            differ=int((top1 != expected)[:n].sum()),
            lost=int((was_right & ~right).sum()),
            won=int((right & ~was_right).sum()),
        )
    return proofs


def cpu_ms(engines: Mapping[str, Runs], pixels: Pixels, rounds: int = 7) -> dict[str, dict[int, float]]:
    """Median over interleaved rounds of process CPU time per image; the engines must have one thread each."""
    answer: dict[str, dict[int, float]] = {name: {} for name in engines}
    for size in BATCHES:
        batch = pixels.take(np.arange(size) % len(pixels))
        repeats = {}
        for name, engine in engines.items():
            _cpu_seconds(engine, batch, 3)  # TorchScript compiles in its first runs
            about_50_ms = int(0.05 / max(_cpu_seconds(engine, batch, 3), 1e-6))
            repeats[name] = max(3, about_50_ms)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                times[name].append(_cpu_seconds(engine, batch, repeats[name]))
        for name in engines:
            answer[name][size] = float(np.median(times[name])) * 1000 / size
    return answer


def _cpu_seconds(engine: Runs, batch: NDArray[np.uint8], repeats: int) -> float:
    started = time.process_time()
    for _ in range(repeats):
        engine.run(batch)
    return (time.process_time() - started) / repeats
