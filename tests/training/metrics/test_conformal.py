"""Split conformal prediction keeps its promise, for small vals too, or makes none."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom

from training.metrics import conformal
from training.metrics.classification import Floats, Labels
from training.metrics.conformal import Sets


@pytest.mark.parametrize("n", [19, 20, 39, 200])
def test_new_images_exceed_the_threshold_of_a_small_val_no_more_often_than_promised(n: int) -> None:
    """Scores spread evenly over 0..1: the share above the threshold is one less it."""
    found = [conformal.threshold(np.random.default_rng(seed).random(n), 0.95) for seed in range(2000)]
    alarms = [1 - each for each in found if each is not None]
    assert len(alarms) == 2000
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.003 if n != 200 else 0.006)
    assert np.mean(alarms) < 0.053


@pytest.mark.parametrize(("share", "n"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_one_image_too_few_promises_nothing(share: float, n: int) -> None:
    scores = np.arange(n, dtype=np.float64)
    assert conformal.least_images(share) == n
    assert conformal.threshold(scores, share) == n - 1
    assert conformal.threshold(scores[1:], share) is None


def drawn(n: int, generator: np.random.Generator) -> tuple[Labels, Floats]:
    """A classifier of 5 classes that is right 70 % of the time, and overconfident."""
    labels = generator.integers(5, size=n)
    logits = generator.normal(0, 1, (n, 5)) + 1.5 * np.eye(5)[labels]
    raised = np.exp(3 * logits)
    return labels, (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def inside(labels: Labels, probabilities: Floats, least: float) -> NDArray[np.bool_]:
    return conformal.sets(probabilities, least)[np.arange(len(labels)), labels]


@pytest.mark.parametrize(("coverage", "n"), [(0.8, 30), (0.9, 100), (0.95, 19), (0.95, 300), (0.99, 150)])
def test_sets_cover_as_often_as_promised_within_what_chance_allows(coverage: float, n: int) -> None:
    """The number of m new images that a val of n covers is beta-binomial (Angelopoulos and Bates 2021, section 3.2)."""
    generator, m, covered = np.random.default_rng(n), 100, []
    for _ in range(400):
        least = conformal.least_probability(*drawn(n, generator), coverage)
        assert least is not None
        covered.append(int(inside(*drawn(m, generator), least).sum()))
    place = int(np.ceil(coverage * (n + 1) - 1e-9))
    expected = betabinom(m, place, n + 1 - place)
    error = expected.std() / 400**0.5
    assert expected.mean() >= coverage * m
    assert np.mean(covered) == pytest.approx(expected.mean(), abs=4 * error)
    assert np.std(covered) == pytest.approx(expected.std(), rel=0.2)


def test_no_set_is_empty_and_the_first_label_is_in_each() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]], np.float32)
    assert conformal.sets(probabilities, 0.9).tolist() == [[True, False, False]] * 2
    assert conformal.sets(probabilities, 0.3).tolist() == [[True, True, False], [True, True, True]]


def test_the_threshold_is_a_probability_as_it_is_served_and_its_own_label_is_in() -> None:
    labels, probabilities = drawn(50, np.random.default_rng(3))
    least = conformal.least_probability(labels, probabilities, 0.9)
    assert least is not None
    assert len(str(least)) <= len("0.123456789")
    right = probabilities[np.arange(50), labels]
    assert (right == np.float32(least)).sum() == 1
    assert (right >= np.float32(least)).sum() == 46, "ceil(0.9 x 51)"


def test_what_sets_do_is_measured_on_the_held_out_split_and_said() -> None:
    labels, held_out = np.array([0, 1, 2]), np.array([[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]], np.float32)
    found = Sets.of(0.4, 0.95, 1000, labels, held_out)
    assert found.covered is not None
    assert (found.covered.correct, found.covered.n) == (2, 3)
    assert found.counts() == [(1, 2), (2, 1)]
    assert str(found) == "labels with p >= 0.4000, which hold the right one of 95 % of images like the 1,000 val images"
    assert str(Sets.of(0.7, 0.95, 1000, labels, held_out)).endswith("; the first label alone does, see --coverage")
    assert str(Sets.of(None, 0.99, 60, labels, held_out)) == "none: 60 val images cannot promise 99 % (at least 99)"
