"""The proof of an exported variant: what is measured through the serving engine, and what must hold."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from app.artifact.golden import ROW_SUM_TOLERANCE
from app.engines import Outputs, Runs
from training.console.terminal import count
from training.data.pixels import Pixels
from training.metrics.classification import CHANCE, Accuracy, Floats, shown
from training.models.servable import Servable

FP32_AGREEMENT = 0.999
FP32_DIFFERENCE = 1e-3
FP32_DROP = 0.001
INT8_AGREEMENT = 0.98
INT8_DROP = 0.005
INT8_SPEEDUP = 1.6
INT8_SHOWN = 0.95  # of agreement, with 95 % confidence: 98 % of a handful show nothing
INT8_IMAGES = 160  # of which 98 % show that; a smaller val is joined by images of train
INT8_LEAST_IMAGES = 59  # of which 100 % show that
LEAST_CALIBRATION = 16
# The self-test's images: a variant must be close on them here already, or that test would allow anything.
FP32_GOLDEN_DIFFERENCE = 5e-5
INT8_GOLDEN_DIFFERENCE = 0.1
BATCHES = (1, 8)  # one waiting client, and a filled queue


@dataclass(frozen=True)
class Proof:
    """Measured on `images` of val and, for what needs no labels, on `judges` of train: `agreement` with the eager
    checkpoint, `difference`: largest of a probability to its, `row_sum`: largest distance of a row's sum to 1. Of val:
    `accuracy`, `differ`: how many are called something else than by the checkpoint, `lost`: of these, right there and
    wrong here, `won`: the reverse. `cpu_ms`: batch size -> CPU ms per image on one thread."""

    images: int
    accuracy: float
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
        return float(binomtest(self.lost, discordant, 0.5, alternative="greater").pvalue) if discordant else 1.0


@dataclass(frozen=True)
class Verdict:
    """One engine's line of the export. `golden_difference`: largest on the golden images; `objection`: why it is not
    kept, or empty; `test`: its accuracy on test, measured once it is kept. `file` is empty for the checkpoint."""

    name: str
    file: str
    proof: Proof
    golden_difference: float
    objection: str
    test: Accuracy | None = None


class EagerEngine:
    """The checkpoint itself behind the engines' protocol: the reference that every variant is measured against."""

    device = "cpu"

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See Engine.run."""
        with torch.inference_mode():
            values = self._servable(torch.from_numpy(pixels))
        heatmap = None if values.heatmap is None else values.heatmap.numpy()
        return Outputs(values.probabilities.numpy(), values.logits.numpy(), heatmap)


def probabilities_of(engine: Runs, pixels: Pixels) -> Floats:
    """float32[N, K] through the engine that serves."""
    return np.concatenate([engine.run(batch).probabilities for batch in pixels.batches()])


def answers_of(engine: Runs, pixels: Pixels) -> Outputs:
    """Probabilities and logits of a whole split; heat maps, K times as large, are not kept."""
    batches = [engine.run(batch)[:2] for batch in pixels.batches()]
    probabilities, logits = (np.concatenate(part) for part in zip(*batches, strict=True))
    return Outputs(probabilities, logits, None)


def judges(val: int, train: int) -> int:
    """How many images of train join so many of val, so that INT8 can be judged: half, or what it takes at least.

    Agreement needs no labels, but what has calibrated a variant cannot judge it.
    """
    most = max(train // 2, min(INT8_LEAST_IMAGES - val, train - LEAST_CALIBRATION))
    return max(0, min(INT8_IMAGES - val, most, train - 2))  # 2: the batch that graphs are traced with


def measure(engines: Mapping[str, Runs], val: Pixels, judging: Pixels | None = None) -> dict[str, Proof]:
    """Every engine against the one called `checkpoint`, on the same pixels: val, and others that judge agreement."""
    speed = cpu_ms(engines, val)
    sets = [val] if judging is None else [val, judging]

    def ask(engine: Runs) -> Floats:
        return np.concatenate([probabilities_of(engine, pixels) for pixels in sets])

    reference, n = ask(engines["checkpoint"]), len(val)
    expected = reference.argmax(axis=1)
    was_right = expected[:n] == val.labels
    proofs = {}
    for name, engine in engines.items():
        answers = reference if name == "checkpoint" else ask(engine)
        top1 = answers.argmax(axis=1)
        right = top1[:n] == val.labels
        proofs[name] = Proof(
            images=n,
            accuracy=float(right.mean()),
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
        repeats = {name: _repeats(engine, batch) for name, engine in engines.items()}
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                times[name].append(_cpu_seconds(engine, batch, repeats[name]))
        for name in engines:
            answer[name][size] = float(np.median(times[name])) * 1000 / size
    return answer


def _repeats(engine: Runs, batch: NDArray[np.uint8]) -> int:
    """As many runs as take about 50 ms; also the warm-up (TorchScript compiles in its first runs)."""
    for _ in range(3):
        engine.run(batch)
    return max(3, int(0.05 / max(_cpu_seconds(engine, batch, 3), 1e-6)))


def _cpu_seconds(engine: Runs, batch: NDArray[np.uint8], repeats: int) -> float:
    started = time.process_time()
    for _ in range(repeats):
        engine.run(batch)
    return (time.process_time() - started) / repeats


def objection(name: str, proofs: Mapping[str, Proof], golden_difference: float) -> str:
    """Why the variant must not be kept, or an empty string. `proofs` also holds `checkpoint` and `onnx`.

    Every comparison is written so that NaN fails it.
    """
    proof, checkpoint = proofs[name], proofs["checkpoint"]
    int8 = name == "onnx-int8"
    agreement, drop, golden = (
        (INT8_AGREEMENT, INT8_DROP, INT8_GOLDEN_DIFFERENCE)
        if int8
        else (FP32_AGREEMENT, FP32_DROP, FP32_GOLDEN_DIFFERENCE)
    )
    if not proof.row_sum <= ROW_SUM_TOLERANCE:
        return f"probabilities sum to 1 only within {proof.row_sum:.1e} (limit {ROW_SUM_TOLERANCE:.0e})"
    if not proof.agreement >= agreement:
        return f"agrees with the checkpoint on {proof.agreement:.2%} of {proof.compared} (limit {agreement:.1%})"
    if int8 and (unproven := _unproven(proof)):
        return unproven
    by_chance = int8 and proof.drop_by_chance >= CHANCE
    if not (checkpoint.accuracy - proof.accuracy <= drop or by_chance):
        return f"top-1 {proof.accuracy:.4f} against {checkpoint.accuracy:.4f} on val (limit {drop:.3f} lower)"
    if not int8 and not proof.difference <= FP32_DIFFERENCE:
        return f"a probability differs by {proof.difference:.1e} on {proof.compared} (limit {FP32_DIFFERENCE:.0e})"
    if not golden_difference <= golden:
        return f"a probability differs by {golden_difference:.1e} on the golden images (limit {golden:.0e})"
    if int8 and not proof.speedup_over(proofs["onnx"]) >= INT8_SPEEDUP:
        return f"{proof.speedup_over(proofs['onnx']):.2f}x the speed of onnx (limit {INT8_SPEEDUP}x)"
    return ""


def _unproven(proof: Proof) -> str:
    """Of an INT8 that agrees on 98 %: why that is not enough, or an empty string."""
    if not proof.shown_agreement >= INT8_SHOWN:
        n, least = count(proof.images + proof.judges, "image"), f"{proof.shown_agreement:.1%}"
        return f"too few images to decide on it: {n} show an agreement of at least {least} (limit {INT8_SHOWN:.0%})"
    agreeing = binomtest(proof.images - proof.differ, proof.images, INT8_AGREEMENT, alternative="less")
    if not agreeing.pvalue >= CHANCE:  # train, which the network knows by heart, may look easier
        return f"differs from the checkpoint on {proof.differ} of {count(proof.images, 'image')} of val alone"
    return ""


def tolerance(golden_difference: float, int8: bool) -> float:
    """What the self-test will allow: for fp32 a constant, for INT8 half as much again as was measured here.

    INT8 kernels of other instruction sets may round differently; below 0.02 that would be refused for nothing.
    """
    return max(1.5 * golden_difference, 0.02) if int8 else 2 * FP32_GOLDEN_DIFFERENCE
