"""Of images without labels no accuracy is asked for, but all else."""

import pytest

from training.variants import gates
from training.variants.proof import CHECKPOINT, Proof

MS = {1: 1.0, 8: 1.0}
CHECKED = Proof(160, None, 1.0, 0.0, 0.0, {1: 4.0, 8: 4.0})


def verdict(agreement: float, difference: float = 1e-2, golden: float = 0.0) -> str:
    proofs = {
        CHECKPOINT: CHECKED,
        "onnx": Proof(160, None, 1.0, 0.0, 0.0, {1: 2.0, 8: 2.0}),
        "onnx-int8": Proof(160, None, agreement, difference, 0.0, MS),
    }
    return gates.objection("onnx-int8", proofs, golden)


def test_int8_that_agrees_is_kept() -> None:
    assert verdict(1.0) == ""
    assert verdict(158 / 160) == ""


@pytest.mark.parametrize(
    ("agreement", "golden", "why"),
    [(0.97, 0.0, "of 160 photographs and pieces of them"), (float("nan"), 0.0, "agrees"), (1.0, 0.5, "golden images")],
)
def test_int8_that_does_not_is_refused(agreement: float, golden: float, why: str) -> None:
    assert why in verdict(agreement, golden=golden)
