"""Accuracy against coverage, and the line that is drawn on val."""

import numpy as np
import pytest

from training import rejection
from training.score import Floats, Labels


def answers(confidence: list[float], right: list[bool]) -> tuple[Labels, Floats]:
    """Two classes; class 0 is always predicted."""
    probabilities = np.array([[each, 1 - each] for each in confidence], np.float32)
    return np.where(right, 0, 1).astype(np.int64), probabilities


def test_the_curve_is_what_counting_gives() -> None:
    labels, probabilities = answers([0.9, 0.6, 0.8, 0.7], [True, False, True, False])
    confidence, coverage, accuracy = rejection.coverage_curve(labels, probabilities)
    assert confidence == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert coverage.tolist() == [1, 0.75, 0.5, 0.25]
    assert accuracy == pytest.approx([0.5, 2 / 3, 1, 1])


def test_equal_confidences_are_accepted_together() -> None:
    """Else the curve would depend on the order of the files."""
    labels, probabilities = answers([0.8, 0.8, 0.6], [True, False, True])
    confidence, coverage, accuracy = rejection.coverage_curve(labels, probabilities)
    assert coverage == pytest.approx([1, 2 / 3])
    assert accuracy == pytest.approx([2 / 3, 0.5])
    assert len(confidence) == 2


def test_the_line_is_the_smallest_confidence_at_which_val_is_99_percent_right() -> None:
    val = answers([0.6, 0.7, 0.8, 0.9], [False, True, True, True])
    test = answers([0.65, 0.75, 0.72, 0.99], [False, False, True, True])
    found = rejection.suggest(*val, *test)
    assert found.confidence == pytest.approx(0.7)
    assert found.reaches_target
    assert found.on_held_out is not None
    assert (found.coverage, found.on_held_out.value) == (0.75, pytest.approx(2 / 3))


def test_test_pictures_do_not_move_the_line() -> None:
    val = answers([0.6, 0.7, 0.8, 0.9], [False, True, True, True])
    lines = {rejection.suggest(*val, *answers([0.95, 0.6], right)).confidence for right in ([True, False], [False] * 2)}
    assert len(lines) == 1


def test_where_99_percent_is_out_of_reach_most_right_counts_but_not_of_a_lucky_few() -> None:
    confidence = [0.99, *np.linspace(0.9, 0.6, 29)]
    right = [True, False, False, *[True] * 17, *[False] * 10]
    found = rejection.suggest(*answers(confidence, right), *answers([0.55], [True]))
    assert not found.reaches_target
    assert found.on_val.n == 20, "the single surest answer is right, but it is a thirtieth of val"
    assert found.on_held_out is None
    assert found.coverage == 0


def test_nothing_is_rejected_where_everything_is_right() -> None:
    val = answers([0.6, 0.9], [True, True])
    found = rejection.suggest(*val, *answers([0.5], [False]))
    assert found.confidence == 0
    assert found.coverage == 1
