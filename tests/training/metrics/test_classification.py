"""Scores, against scikit-learn and slow references."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from training.metrics.classification import (
    Accuracy,
    Calibration,
    Evaluation,
    expected_calibration_error,
    macro_f1,
    reliability,
    shown,
)

NAMES = ("ant", "bee", "cat", "dog", "elk")


def predictions(n: int = 500) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels without a single `elk`, and probabilities that are right more often than not."""
    generator = np.random.default_rng(0)
    labels = generator.choice(4, n, p=[0.5, 0.3, 0.15, 0.05]).astype(np.int64)
    logits = generator.normal(size=(n, 5)) * 1.5
    logits[np.arange(n), labels] += 1.5
    exponentials = np.exp(logits)
    return labels, (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


LABELS, PROBABILITIES = predictions()
EVALUATION = Evaluation.of(NAMES, LABELS, PROBABILITIES)
PREDICTED = PROBABILITIES.argmax(axis=1)


def test_accuracy_and_macro_f1_are_scikit_learns() -> None:
    assert EVALUATION.accuracy.value == pytest.approx(metrics.accuracy_score(LABELS, PREDICTED))
    assert EVALUATION.accuracy.correct == (LABELS == PREDICTED).sum()
    assert EVALUATION.macro_f1 == pytest.approx(metrics.f1_score(LABELS, PREDICTED, average="macro", zero_division=0))


def test_a_class_that_nobody_has_or_is_called_is_not_in_the_macro_f1() -> None:
    labels, predicted = np.array([0, 0, 3, 3, 1]), np.array([0, 3, 3, 3, 1])
    assert macro_f1(labels, predicted) == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


def test_every_class_has_scikit_learns_precision_recall_and_f1() -> None:
    report = metrics.classification_report(
        LABELS, PREDICTED, labels=range(5), target_names=NAMES, output_dict=True, zero_division=0
    )
    for row in EVALUATION.per_class:
        expected = report[row.label]
        assert (row.precision, row.recall, row.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
        assert row.n == expected["support"]


def test_the_confusion_matrix_has_a_row_per_label_and_a_column_per_answer() -> None:
    pairs = list(zip(LABELS, PREDICTED, strict=True))
    assert EVALUATION.confusion_matrix == tuple(tuple(pairs.count((i, j)) for j in range(5)) for i in range(5))


def test_most_often_called_is_the_largest_confusion() -> None:
    for i, row in enumerate(EVALUATION.per_class):
        wrong = [count if j != i else 0 for j, count in enumerate(EVALUATION.confusion_matrix[i])]
        assert row.confused_n == max(wrong)
        assert row.confused == (NAMES[wrong.index(max(wrong))] if max(wrong) else "")


def test_the_majority_is_the_most_frequent_label() -> None:
    assert EVALUATION.majority_label == "ant"
    assert EVALUATION.majority == pytest.approx((LABELS == 0).mean())


def test_ece_is_guos_formula() -> None:
    total = 0.0
    for number in range(15):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(PROBABILITIES, LABELS, strict=True)
            if number / 15 < row.max() <= (number + 1) / 15
        ]
        if inside:
            confidence = sum(float(c) for c, _ in inside) / len(inside)
            right = sum(bool(r) for _, r in inside) / len(inside)
            total += len(inside) / len(LABELS) * abs(confidence - right)
    assert EVALUATION.ece == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(("confidence", "right", "expected"), [(1.0, 10, 0.0), (1.0, 5, 0.5), (0.7, 7, 0.0)])
def test_ece_of_constant_confidence_is_its_distance_to_the_accuracy(
    confidence: float, right: int, expected: float
) -> None:
    labels = np.array([0] * right + [1] * (10 - right))
    rows = np.tile(np.array([confidence, 1 - confidence], np.float32), (10, 1))
    assert expected_calibration_error(reliability(labels, rows)) == pytest.approx(expected, abs=1e-6)


def test_every_prediction_lies_in_exactly_one_bin() -> None:
    assert sum(each.n for each in EVALUATION.reliability) == len(LABELS)


def test_a_bin_includes_its_upper_edge_and_not_its_lower() -> None:
    """(low, high], as in Guo et al.: certainty belongs to the last bin."""
    rows = np.array([[0.5, 0.5, 0, 0], [0.75, 0.25, 0, 0], [1, 0, 0, 0]], np.float32)  # exact in binary
    bins = reliability(np.zeros(3, np.int64), rows, bins=4)
    assert [each.n for each in bins] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(correct: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    found = Accuracy.of(correct, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_accuracy_reads_as_one_phrase() -> None:
    assert str(Accuracy.of(332, 367)) == "0.9046 (332/367, 95 % interval 0.870-0.931)"


def test_json_has_every_score_as_a_plain_value() -> None:
    document = EVALUATION.as_json()
    assert document["n"] == 500
    assert document["accuracy"] == EVALUATION.accuracy.value
    assert document["accuracy_interval"] == [EVALUATION.accuracy.low, EVALUATION.accuracy.high]
    assert document["calibration"] == {
        "verdict": EVALUATION.calibration.verdict,
        "ece_by_chance": EVALUATION.calibration.chance,
    }
    assert {"macro_f1", "ece", "per_class", "confusion_matrix", "majority", "labels"} <= set(document)


def calibration(n: int, says: float, right: float) -> Calibration:
    """Two classes; all say the same, and as many are right."""
    rows = np.full((n, 2), [says, 1 - says], np.float32)
    return Calibration.of((np.arange(n) >= round(right * n)).astype(np.int64), rows)


@pytest.mark.parametrize(
    ("n", "says", "right", "verdict"),
    [
        (2000, 0.9, 0.9, "good"),
        (2000, 0.9, 0.885, "good"),
        (2000, 0.9, 0.8, "overconfident"),
        (2000, 0.8, 0.9, "underconfident"),
        (100, 0.99, 0.9, "overconfident"),
        (20, 0.9, 0.8, "too few images to tell"),
        (20, 0.9, 0.9, "too few images to tell"),
        (20, 0.9999, 1.0, "too few images to tell"),
        (1, 0.9, 1.0, "too few images to tell"),
        (1, 0.9999, 0.0, "overconfident"),
        (168, 0.9999, 1.0, "good"),
        (10**5, 0.9, 0.89, "good"),
    ],
)
def test_calibration_is_judged_by_what_chance_gives_with_as_many_images(
    n: int, says: float, right: float, verdict: str
) -> None:
    found = calibration(n, says, right)
    assert found.verdict == verdict
    assert str(found).startswith(f"{verdict}: ")
    assert f"(ECE {found.ece:.3f}; with {n:,} image" in str(found)


def test_too_sure_here_and_not_sure_enough_there_is_neither() -> None:
    rows = np.repeat(np.array([[0.7, 0.3], [0.9, 0.1]], np.float32), 1000, axis=0)
    labels = np.concatenate([np.arange(1000) >= 850, np.arange(1000) >= 750]).astype(np.int64)
    assert Calibration.of(labels, rows).verdict == "uneven"


def test_five_in_a_hundred_that_are_calibrated_have_a_larger_error_than_chance_is_said_to_give() -> None:
    generator, exceeded = np.random.default_rng(0), 0
    for _ in range(200):
        confidence = generator.uniform(0.5, 1, 300)
        rows = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
        found = Calibration.of((generator.random(300) >= confidence).astype(np.int64), rows, draws=200)
        exceeded += found.ece > found.chance
    assert 2 <= exceeded <= 20


def test_the_error_that_is_judged_is_the_one_that_is_printed() -> None:
    assert EVALUATION.calibration.ece == pytest.approx(EVALUATION.ece, abs=1e-6)


def test_what_a_count_shows_is_clopper_and_pearsons_lower_bound() -> None:
    """All right: the n-th root of 0.05. Else what `binom.test(x, n, alternative = "greater")` of R says."""
    assert shown(20, 20) == pytest.approx(0.05 ** (1 / 20))
    assert shown(9, 10) == pytest.approx(0.6058367, abs=1e-6)
    assert shown(0, 5) == 0
    assert shown(np.array([0, 299]), np.array([3, 299])).tolist() == [0, pytest.approx(0.99003, abs=1e-5)]
