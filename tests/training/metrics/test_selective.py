"""Accuracy against coverage, and the line that is drawn on val."""

import numpy as np
import pytest

from training.metrics import selective
from training.metrics.classification import Floats, Labels


def answers(confidence: list[float], right: list[bool]) -> tuple[Labels, Floats]:
    """Two classes; class 0 is always predicted."""
    probabilities = np.array([[each, 1 - each] for each in confidence], np.float32)
    return np.where(right, 0, 1).astype(np.int64), probabilities


def test_the_curve_is_what_counting_gives() -> None:
    labels, probabilities = answers([0.9, 0.6, 0.8, 0.7], [True, False, True, False])
    confidence, coverage, accuracy = selective.coverage_curve(labels, probabilities)
    assert confidence == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert coverage.tolist() == [1, 0.75, 0.5, 0.25]
    assert accuracy == pytest.approx([0.5, 2 / 3, 1, 1])


def test_equal_confidences_are_accepted_together() -> None:
    """Else the curve would depend on the order of the files."""
    labels, probabilities = answers([0.8, 0.8, 0.6], [True, False, True])
    confidence, coverage, accuracy = selective.coverage_curve(labels, probabilities)
    assert coverage == pytest.approx([1, 2 / 3])
    assert accuracy == pytest.approx([2 / 3, 0.5])
    assert len(confidence) == 2


def many(*groups: tuple[float, int, int]) -> tuple[Labels, Floats]:
    """Groups of (confidence, right, wrong)."""
    confidence = [each for each, right, wrong in groups for _ in range(right + wrong)]
    return answers(confidence, [place < right for _, right, wrong in groups for place in range(right + wrong)])


def test_the_line_is_the_smallest_confidence_at_which_val_shows_99_percent() -> None:
    val = many((0.6, 50, 10), (0.7, 100, 0), (0.8, 150, 0), (0.9, 150, 0))
    test = answers([0.65, 0.75, 0.72, 0.99], [False, False, True, True])
    found = selective.suggest(*val, *test)
    assert found.confidence == pytest.approx(0.7)
    assert found.reaches_target
    assert found.on_held_out is not None
    assert (found.coverage, found.on_held_out.value) == (0.75, pytest.approx(2 / 3))
    assert str(found) == (
        "accept p >= 0.700: 400 of 400 val images right there, which shows at least 99.3 % with 95 % confidence "
        "(the lowest line at which that is 99 %)"
    )


def test_test_images_do_not_move_the_line() -> None:
    val = many((0.6, 50, 10), (0.8, 300, 0))
    lines = {selective.suggest(*val, *answers([0.95, 0.6], right)).confidence for right in ([True, False], [False] * 2)}
    assert lines == {float(np.float32(0.8))}


def test_99_of_100_is_luck_and_no_line() -> None:
    """It would be the line if what is right of val were what is right: of 100 images it takes one."""
    found = selective.suggest(*many((0.6, 9, 1), (0.9, 99, 1)), *answers([0.7], [True]))
    assert not found.reaches_target
    assert found.confidence is None
    assert str(found).endswith("; to show 99 % takes 299 without a mistake")


@pytest.mark.parametrize(("n", "line"), [(1, None), (20, None), (298, None), (299, 0.0), (5000, 0.0)])
def test_a_val_without_a_mistake_needs_no_line_if_it_is_large_enough_to_say_so(n: int, line: float | None) -> None:
    found = selective.suggest(*many((0.8, n, 0)), *answers([0.5], [False]))
    assert found.confidence == line
    assert found.coverage == 1
    assert str(found).startswith("none: " if line is None else "nothing needs to be rejected: ")


def test_where_99_percent_is_out_of_reach_most_right_counts_but_not_of_a_lucky_few() -> None:
    val = many((0.99, 25, 0), (0.9, 57, 3), (0.8, 80, 20), (0.6, 50, 40))
    found = selective.suggest(*val, *answers([0.55], [True]))
    assert not found.reaches_target
    assert found.confidence == pytest.approx(0.9)
    assert found.on_val.n == 85, "the 25 surest are all right, but that shows no more than 88.7 %"
    assert found.on_held_out is None
    assert found.coverage == 0
    assert str(found).endswith("(no line shows 99 %)")


def test_a_confidence_that_means_nothing_gives_no_line() -> None:
    found = selective.suggest(*many((0.9, 180, 20), (0.8, 180, 20)), *answers([0.5], [True]))
    assert found.confidence is None
    assert str(found).endswith("and no line that accepts a tenth of val shows more")


def test_what_lies_above_a_line_is_99_percent_right_in_nineteen_vals_of_twenty() -> None:
    """Right with p = confidence ** 0.3, confidence of Beta(20, 1): the accuracy above a line c is known."""
    generator, wrong, lines = np.random.default_rng(0), 0, 0
    for _ in range(200):
        confidence = generator.beta(20, 1, 1000)
        right = generator.random(1000) < confidence**0.3
        line = selective.choose(*answers(confidence.tolist(), right.tolist()))
        above = 20 / 20.3 * (1 - (line or 0) ** 20.3) / (1 - (line or 0) ** 20)
        lines += line is not None
        wrong += line is not None and above < 0.99
    assert lines > 50
    assert wrong <= 0.07 * 200, "with the share of val that is right it were every second one"
