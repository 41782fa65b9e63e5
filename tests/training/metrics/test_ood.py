"""The energy score and its threshold."""

import numpy as np
import pytest

from training.metrics.ood import LEAST_IMAGES, Familiarity, energy, threshold


def test_energy_is_minus_the_logsumexp_of_the_logits() -> None:
    logits = np.array([[0, 0], [np.log(3), 0], [1000, 0]], np.float32)
    assert energy(logits) == pytest.approx([-np.log(2), -np.log(4), -1000])


def test_the_threshold_is_vals_and_false_alarms_are_counted_on_the_held_out_split() -> None:
    val = np.linspace(0, 10, 101, dtype=np.float32)[:, None] * np.array([1, 0], np.float32)
    held_out = np.array([[0, 0], [5, 0], [9, 0], [10, 0]], np.float32)
    drawings = np.array([[-3, -3], [10, 0]], np.float32)
    found = Familiarity.of(val, held_out, drawings)
    assert found.threshold is not None
    assert (found.val > found.threshold).sum() == 4, "of 101: the 97th is the threshold, ceil(0.95 x 102)"
    assert (found.false_alarms.correct, found.false_alarms.n) == (1, 4)
    assert found.drawings_found == 1
    assert Familiarity.of(val, held_out - 50, drawings).threshold == found.threshold


@pytest.mark.parametrize("n", [LEAST_IMAGES, 20, 39, 200])
def test_new_images_exceed_the_threshold_of_a_small_val_no_more_often_than_5_times_in_100(n: int) -> None:
    """Energies spread evenly over 0..1: the share above the threshold is one less it."""
    found = [threshold(np.random.default_rng(seed).random(n)) for seed in range(2000)]
    alarms = [1 - each for each in found if each is not None]
    assert len(alarms) == 2000
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.003 if n != 200 else 0.006)
    assert np.mean(alarms) < 0.053


@pytest.mark.parametrize("n", [1, 5, 18])
def test_a_val_too_small_to_set_a_threshold_sets_none_and_says_so(n: int) -> None:
    logits = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    found = Familiarity.of(logits, logits, logits)
    assert found.threshold is None
    assert (found.drawings_found, found.false_alarms.correct) == (0, 0)
    assert str(found).startswith(f"no threshold: {n} val image")
    assert str(found).endswith("cannot set one that 5 % exceed (at least 19)")
