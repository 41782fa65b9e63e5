"""The energy score and its threshold."""

import numpy as np
import pytest

from training.familiarity import Familiarity, energy


def test_energy_is_minus_the_logsumexp_of_the_logits() -> None:
    logits = np.array([[0, 0], [np.log(3), 0], [1000, 0]], np.float32)
    assert energy(logits) == pytest.approx([-np.log(2), -np.log(4), -1000])


def test_the_threshold_is_vals_and_false_alarms_are_counted_on_the_held_out_split() -> None:
    val = np.linspace(0, 10, 101, dtype=np.float32)[:, None] * np.array([1, 0], np.float32)
    held_out = np.array([[0, 0], [5, 0], [9, 0], [10, 0]], np.float32)
    drawings = np.array([[-3, -3], [10, 0]], np.float32)
    found = Familiarity.of(val, held_out, drawings)
    assert (found.val > found.threshold).mean() == pytest.approx(0.05, abs=0.01)
    assert (found.false_alarms.correct, found.false_alarms.n) == (1, 4)
    assert found.drawings_found == 1
    assert Familiarity.of(val, held_out - 50, drawings).threshold == found.threshold
