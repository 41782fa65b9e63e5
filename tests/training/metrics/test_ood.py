"""What is called unfamiliar, and how often by mistake."""

import numpy as np
import pytest

from training.metrics.ood import Familiarity, threshold


def test_the_threshold_is_vals_and_false_alarms_are_counted_on_the_held_out_split() -> None:
    val = -np.linspace(0, 10, 101)
    found = Familiarity(val, -np.array([0, 5.0, 9, 10]), np.array([0.5, -10]), threshold(val))
    assert found.threshold is not None
    assert (found.val > found.threshold).sum() == 4, "of 101: the 97th is the threshold, ceil(0.95 x 102)"
    assert (found.false_alarms.correct, found.false_alarms.n) == (1, 4)
    assert found.drawings_found == 1
    assert str(found) == "a score above -0.400, which at most 5 % of images like the 101 val images have"


def test_what_is_no_number_is_unfamiliar() -> None:
    found = Familiarity(np.zeros(20), np.array([-1.0, np.nan]), np.array([np.nan]), 0.0)
    assert (found.false_alarms.correct, found.drawings_found) == (1, 1)


@pytest.mark.parametrize("n", [1, 5, 18])
def test_a_val_too_small_to_set_a_threshold_sets_none_and_says_so(n: int) -> None:
    scores = np.random.default_rng(0).normal(size=n)
    found = Familiarity(scores, scores, scores, threshold(scores))
    assert found.threshold is None
    assert (found.drawings_found, found.false_alarms.correct) == (0, 0)
    assert str(found).startswith(f"no threshold: {n} val image")
    assert str(found).endswith("cannot set one that 5 % exceed (at least 19)")
