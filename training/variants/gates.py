"""What must hold of a variant for it to be kept, and what happens where it does not (docs/adr/0006)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from app.artifact.doubt import Doubted
from app.artifact.golden import ROW_SUM_TOLERANCE, Golden
from app.engines import Runs
from app.engines.variants import BASELINE, VARIANTS
from training.console.terminal import count
from training.data.pixels import Pixels
from training.errors import Refused
from training.metrics.classification import CHANCE, Accuracy
from training.variants.proof import CHECKPOINT, Proof, measure

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


@dataclass(frozen=True)
class Verdict:
    """One engine's line of the export. `golden_difference`: largest on the golden images; `objection`: why it is not
    kept, or empty; `test` and `doubt`: its accuracy on test and what doubt does there, measured once it is kept. `file`
    is empty for the checkpoint."""

    name: str
    file: str
    proof: Proof
    golden_difference: float
    objection: str
    test: Accuracy | None = None
    doubt: Doubted | None = None


def judge(
    engines: Mapping[str, Runs], val: Pixels, judges: Pixels | None, golden: Golden, *, labelled: bool = True
) -> list[Verdict]:
    """One row per engine, the checkpoint first; `judges`: see `measure`. A refused INT8 is only left out. Of images
    that are not `labelled` no accuracy is asked for, but all else.

    Raises Refused for an fp32 variant that is not the checkpoint.
    """
    proofs = measure(engines, val, judges, labelled=labelled)
    rows = []
    for name, engine in engines.items():
        difference = float(np.abs(engine.run(golden.pixels).probabilities - golden.probabilities).max())
        file, why = "", ""
        if name != CHECKPOINT:
            file, why = VARIANTS[name].file, objection(name, proofs, difference)
        if why and VARIANTS[name].precision == "fp32":
            raise Refused(f"{name} refused: {why}", "the exported graph is not the checkpoint; nothing was written")
        rows.append(Verdict(name, file, proofs[name], difference, why))
    return rows


def judges_needed(val: int, train: int) -> int:
    """How many images of train join so many of val, so that INT8 can be judged: half, or what it takes at least.

    Agreement needs no labels, but what has calibrated a variant cannot judge it.
    """
    most = max(train // 2, min(INT8_LEAST_IMAGES - val, train - LEAST_CALIBRATION))
    return max(0, min(INT8_IMAGES - val, most, train - 2))  # 2: the batch that graphs are traced with


def objection(name: str, proofs: Mapping[str, Proof], golden_difference: float) -> str:
    """Why the variant must not be kept, or an empty string. `proofs` also holds `checkpoint` and the baseline.

    Every comparison is written so that NaN fails it.
    """
    proof, checkpoint = proofs[name], proofs[CHECKPOINT]
    int8 = VARIANTS[name].precision == "int8"
    agreement, drop, golden = (
        (INT8_AGREEMENT, INT8_DROP, INT8_GOLDEN_DIFFERENCE)
        if int8
        else (FP32_AGREEMENT, FP32_DROP, FP32_GOLDEN_DIFFERENCE)
    )
    if not proof.row_sum <= ROW_SUM_TOLERANCE:
        return f"probabilities sum to 1 only within {proof.row_sum:.1e} (limit {ROW_SUM_TOLERANCE:.0e})"
    if not proof.agreement >= agreement:
        return f"agrees with the checkpoint on {proof.agreement:.2%} of {proof.compared} (limit {agreement:.1%})"
    if int8 and not proof.shown_agreement >= INT8_SHOWN:
        n, least = count(proof.images + proof.judges, "image"), f"{proof.shown_agreement:.1%}"
        return f"too few images to decide on it: {n} show an agreement of at least {least} (limit {INT8_SHOWN:.0%})"
    same = proof.images - proof.differ
    if int8 and not bdtr(same, proof.images, INT8_AGREEMENT) >= CHANCE:
        # train, which the network knows by heart, may look easier
        return f"differs from the checkpoint on {proof.differ} of {count(proof.images, 'image')} of val alone"
    by_chance = int8 and proof.drop_by_chance >= CHANCE
    top1, before = proof.accuracy, checkpoint.accuracy
    if top1 is not None and before is not None and not (before - top1 <= drop or by_chance):
        return f"top-1 {top1:.4f} against {before:.4f} on val (limit {drop:.3f} lower)"
    if not int8 and not proof.difference <= FP32_DIFFERENCE:
        return f"a probability differs by {proof.difference:.1e} on {proof.compared} (limit {FP32_DIFFERENCE:.0e})"
    if not golden_difference <= golden:
        return f"a probability differs by {golden_difference:.1e} on the golden images (limit {golden:.0e})"
    if int8 and not proof.speedup_over(proofs[BASELINE]) >= INT8_SPEEDUP:
        return f"{proof.speedup_over(proofs[BASELINE]):.2f}x the speed of {BASELINE} (limit {INT8_SPEEDUP}x)"
    return ""
