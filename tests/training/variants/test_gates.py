"""What is measured of a variant, and the limits that decide about it."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines import Outputs
from tests.commands import hurried
from training.data import pixels
from training.data.pixels import Pixels
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants import gates, proof, tolerance
from training.variants.proof import Proof

CHECKPOINT = Proof(images=1000, accuracy=0.9, agreement=1.0, difference=0.0, row_sum=1e-7, cpu_ms={1: 10.0, 8: 8.0})
ONNX = Proof(images=1000, accuracy=0.9, agreement=1.0, difference=1e-6, row_sum=1e-7, cpu_ms={1: 4.0, 8: 3.0})
INT8 = Proof(images=1000, accuracy=0.897, agreement=0.985, difference=0.04, row_sum=1e-6, cpu_ms={1: 2.0, 8: 1.5})


class Burner:
    """Needs `cpu_ms` of CPU time for each image; answers the same for all."""

    device = "cpu"

    def __init__(self, cpu_ms: float) -> None:
        self._seconds = cpu_ms / 1000

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        end = time.process_time() + self._seconds * len(pixels)
        while time.process_time() < end:
            pass
        rows = np.full((len(pixels), 2), 0.5, np.float32)
        return Outputs(rows, rows, None)


class Doctored:
    """The answers of an engine with some rows replaced."""

    device = "cpu"

    def __init__(self, engine: TrainedModel, rows: dict[int, NDArray[np.float32]]) -> None:
        self._engine, self._rows = engine, rows

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        outputs = self._engine.run(pixels)
        probabilities = outputs.probabilities.copy()
        for row, answer in self._rows.items():
            if row < len(probabilities):
                probabilities[row] = answer
        return outputs._replace(probabilities=probabilities)


@pytest.fixture(scope="module")
def engine(digits_run: Path) -> TrainedModel:
    return TrainedModel.load(digits_run)


@pytest.fixture(scope="module")
def val(digits_run: Path) -> Pixels:
    run = Run.open(digits_run)
    return pixels.load(run.data(), "val", run.input)


def why(name: str, proof: Proof) -> str:
    return gates.objection(name, {"checkpoint": CHECKPOINT, "onnx": ONNX, name: proof}, 0.0)


@pytest.mark.parametrize(("images", "judges"), [(1, 0), (49, 0), (5, 53), (58, 0)])
def test_int8_is_not_decided_on_a_handful_of_images(images: int, judges: int) -> None:
    """That 58 of 58 agree shows no more than 95.0 %; whose labels are known makes no difference to agreement."""
    perfect = replace(INT8, images=images, judges=judges, agreement=1.0, accuracy=0.9)
    assert why("onnx-int8", perfect).startswith(f"too few images to decide on it: {images + judges} image")
    assert why("onnx", replace(ONNX, images=images)) == "", "fp32 is compared number by number"
    assert (why("onnx-int8", replace(perfect, images=images + 1)) == "") == (images + judges == 58)


def test_a_small_val_is_joined_by_images_of_train_that_calibrate_nothing() -> None:
    assert [gates.judges_needed(val, 1000) for val in (5000, 160, 159, 80, 1)] == [0, 0, 1, 80, 159]
    assert [gates.judges_needed(10, train) for train in (2, 3, 20, 300, 301)] == [0, 1, 10, 150, 150]
    assert gates.judges_needed(9, 72) + 9 == 59, "half would not do: 22 are left to calibrate with"


def test_images_of_train_do_not_outvote_val() -> None:
    """The network knows them by heart: 150 that agree say little about three of ten new ones that do not."""
    small = replace(INT8, images=10, judges=150, agreement=157 / 160, differ=3, accuracy=0.9)
    assert why("onnx-int8", small) == "differs from the checkpoint on 3 of 10 images of val alone"
    assert why("onnx-int8", replace(small, differ=1)) == ""
    assert "of val and 150 images of train" in why("onnx-int8", replace(small, agreement=0.97))


@pytest.mark.parametrize(
    ("images", "lost", "won", "kept"),
    [(179, 1, 0, True), (179, 3, 0, True), (1000, 6, 0, False), (1000, 8, 2, True), (1000, 12, 2, False)],
)
def test_a_drop_of_a_few_images_is_refused_only_where_chance_does_not_give_it(
    images: int, lost: int, won: int, kept: bool
) -> None:
    """Of as many images that only one of the two has right, a coin would give as many to the checkpoint."""
    changed = replace(INT8, images=images, lost=lost, won=won, differ=lost + won, agreement=1 - (lost + won) / images)
    proof = replace(changed, accuracy=0.9 - (lost - won) / images)
    assert 0.9 - proof.accuracy > gates.INT8_DROP
    assert (why("onnx-int8", proof) == "") == kept
    assert kept or why("onnx-int8", proof).startswith("top-1 ")


def test_the_exact_test_is_mcnemars() -> None:
    """10 to 2: the binomial tail 79 / 4096."""
    assert replace(INT8, lost=10, won=2).drop_by_chance == pytest.approx(79 / 4096)
    assert replace(INT8, lost=0, won=0).drop_by_chance == 1


def test_good_proofs_meet_no_objection() -> None:
    assert why("onnx", ONNX) == why("torchscript", ONNX) == why("onnx-int8", INT8) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agreement": 0.998}, "agrees with the checkpoint on 99.80% of val"),
        ({"accuracy": 0.898}, "top-1 0.8980 against 0.9000"),
        ({"difference": 0.002}, "a probability differs by 2.0e-03"),
        ({"row_sum": 2e-5}, "probabilities sum to 1 only within 2.0e-05"),
        ({"row_sum": float("nan")}, "probabilities sum to 1 only within nan"),
        ({"difference": float("nan")}, "a probability differs by nan"),
    ],
)
def test_an_fp32_variant_is_refused_beyond_each_limit(change: dict[str, float], reason: str) -> None:
    assert why("onnx", replace(ONNX, **change)).startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agreement": 0.979}, "agrees with the checkpoint on 97.90% of val"),
        ({"accuracy": 0.894, "lost": 6}, "top-1 0.8940 against 0.9000"),
        ({"accuracy": 0.894, "lost": 6, "agreement": float("nan")}, "agrees with the checkpoint on nan"),
        ({"row_sum": 2e-5}, "probabilities sum to 1 only within 2.0e-05"),
        ({"row_sum": float("nan")}, "probabilities sum to 1 only within nan"),
        ({"cpu_ms": {1: 2.6, 8: 1.5}}, "1.54x the speed of onnx"),
        ({"cpu_ms": {1: 2.0, 8: 2.0}}, "1.50x the speed of onnx"),
    ],
)
def test_int8_is_refused_beyond_each_limit(change: dict[str, float], reason: str) -> None:
    assert why("onnx-int8", replace(INT8, **change)).startswith(reason)


def test_an_int8_may_be_better_than_the_checkpoint() -> None:
    assert why("onnx-int8", replace(INT8, accuracy=0.95)) == ""


def test_int8_is_compared_with_onnx_not_with_the_checkpoint() -> None:
    as_fast_as_onnx = replace(INT8, cpu_ms=ONNX.cpu_ms)
    assert "1.00x the speed of onnx" in why("onnx-int8", as_fast_as_onnx)


def test_cpu_time_is_measured_per_image_at_batch_1_and_8(val: Pixels) -> None:
    found = proof.cpu_ms({"slow": Burner(2.0), "fast": Burner(0.5)}, val, rounds=3)
    assert found["slow"] == pytest.approx({1: 2.0, 8: 2.0}, rel=0.15)
    assert found["fast"] == pytest.approx({1: 0.5, 8: 0.5}, rel=0.15)


@pytest.fixture(scope="module")
def proofs(engine: TrainedModel, val: Pixels) -> dict[str, Proof]:
    """Measured: the checkpoint, itself again, one wrong row, and one row of NaN where the right answer is label 0."""
    truth = engine.run(val.take(np.array([3]))).probabilities[0]
    zero = int(np.flatnonzero(val.labels == 0)[0])
    variants = {
        "checkpoint": engine,
        "onnx": engine,
        "wrong": Doctored(engine, {3: np.roll(truth, 1)}),
        "nan": Doctored(engine, {zero: np.full(10, np.nan, np.float32)}),
    }
    with hurried():
        return proof.measure(variants, val)


def test_an_engine_agrees_with_itself(proofs: dict[str, Proof], engine: TrainedModel, val: Pixels) -> None:
    proof = proofs["onnx"]
    assert (proof.agreement, proof.difference) == (1.0, 0.0)
    assert proof.row_sum < 1e-6
    expected = engine.run(val.take(np.arange(len(val)))).probabilities.argmax(axis=1) == val.labels
    assert proof.accuracy == expected.mean()


def test_one_wrong_answer_is_measured_and_refused(proofs: dict[str, Proof], engine: TrainedModel, val: Pixels) -> None:
    truth = engine.run(val.take(np.array([3]))).probabilities[0]
    assert proofs["wrong"].agreement == pytest.approx(1 - 1 / len(val))
    assert proofs["wrong"].difference == pytest.approx(np.abs(truth - np.roll(truth, 1)).max(), abs=1e-4)
    assert gates.objection("onnx", proofs | {"onnx": proofs["wrong"]}, 0.0).startswith(
        "agrees with the checkpoint on 99.4"
    )


def test_judges_count_for_agreement_and_not_for_accuracy(engine: TrainedModel, val: Pixels) -> None:
    truth = engine.run(val.take(np.array([3]))).probabilities[0]
    variants = {"checkpoint": engine, "wrong": Doctored(engine, {3: np.roll(truth, 1)})}
    few = replace(
        val, samples=val.samples[:5], labels=val.labels[:5], sha256=val.sha256[:5], _take=lambda rows: val.take(rows)
    )
    with hurried():
        wrong = proof.measure(variants, few, val)["wrong"]
    assert (wrong.images, wrong.judges) == (5, len(val))
    assert (wrong.differ, wrong.lost, wrong.won) == (1, 1, 0)
    assert wrong.accuracy == pytest.approx(0.8)
    assert wrong.agreement == pytest.approx(1 - 2 / (5 + len(val))), "it is wrong about the fourth of each"


def test_one_row_that_is_no_number_is_refused(proofs: dict[str, Proof]) -> None:
    """`nan > limit` is False: a comparison the wrong way round lets it pass, for the argmax of NaN is 0."""
    assert proofs["nan"].agreement == 1.0
    assert gates.objection("onnx", proofs | {"onnx": proofs["nan"]}, 0.0)


def test_a_self_test_allows_half_as_much_again_as_was_measured_and_a_floor() -> None:
    assert tolerance.of_probability(0.1, int8=True) == pytest.approx(0.15)
    assert tolerance.of_probability(1e-6, int8=True) == 0.02
    assert tolerance.of_probability(1e-6, int8=False) == 1e-4


@pytest.mark.parametrize(("name", "limit"), [("onnx", 5e-5), ("onnx-int8", 0.1)])
def test_a_variant_that_is_far_off_on_the_golden_images_is_refused(name: str, limit: float) -> None:
    """Else the self-test, whose tolerance comes from this figure, would allow anything."""
    proofs = {"checkpoint": CHECKPOINT, "onnx": ONNX, "onnx-int8": INT8}
    assert gates.objection(name, proofs, limit) == ""
    for difference in (1.01 * limit, float("nan")):
        assert "on the golden images" in gates.objection(name, proofs, difference)
