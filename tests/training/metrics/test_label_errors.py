"""Which answers are wrong, which labels probably are, and which of them are shown."""

import csv
import io

import numpy as np
import pytest

from training.data.dataset import Sample
from training.metrics import label_errors

LABELS = ("cat", "dog", "owl")


def of(*rows: tuple[int, tuple[float, float, float]]) -> list[label_errors.Mistake]:
    samples = [Sample(f"{LABELS[label]}/{place}.jpg", label) for place, (label, _) in enumerate(rows)]
    return label_errors.find(samples, np.array([row for _, row in rows], np.float32))


def test_right_answers_are_no_mistakes_and_the_largest_loss_comes_first() -> None:
    found = of((0, (0.8, 0.1, 0.1)), (0, (0.3, 0.6, 0.1)), (1, (0.1, 0.05, 0.85)))
    assert [each.index for each in found] == [2, 1]
    assert found[0].loss == np.float32(-np.log(np.float32(0.05)))
    assert (found[1].path, found[1].pair) == ("cat/1.jpg", (0, 1))


def test_a_probability_of_nothing_has_a_finite_loss() -> None:
    assert np.isfinite(of((0, (0, 1, 0)))[0].loss)


def test_suspects_are_contradicted_with_more_than_nine_tenths_the_surest_first() -> None:
    found = of((0, (0.08, 0.92, 0)), (0, (0.2, 0.8, 0)), (1, (0.97, 0.02, 0.01)), (2, (0.1, 0.9, 0)))
    assert [each.index for each in label_errors.suspects(found)] == [2, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_what_a_run_names_its_artifact_names_whatever_its_temperature(temperature: float) -> None:
    """A temperature that softens 0.99 to 0.7 hides no wrong label; one that sharpens may show more."""
    logits = np.random.default_rng(0).normal(0, 3, (300, 6))
    samples = [Sample(f"{place}.jpg", 0) for place in range(300)]

    def named(divisor: float) -> set[int]:
        powers = np.exp(logits / divisor)
        rows = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return {each.index for each in label_errors.suspects(label_errors.find(samples, rows, divisor))}

    assert len(named(1.0)) > 20
    assert named(temperature) >= named(1.0)
    assert (named(temperature) == named(1.0)) == (temperature >= 1)


def test_the_probability_that_makes_a_suspect_is_the_one_that_is_listed() -> None:
    softened = np.array([[0.1, 0.3]], np.float64) ** (1 / 3)
    rows = (softened / softened.sum()).astype(np.float32)
    (found,) = label_errors.find([Sample("a.jpg", 0)], rows, 3.0)
    assert found.confidence == pytest.approx(rows[0, 1])
    assert found.contradiction == pytest.approx(0.75)
    assert label_errors.as_csv([found], LABELS).endswith("a.jpg,cat,dog,0.750000\n")
    assert (label_errors.sure(3.0), label_errors.sure(0.9)) == ("p > 0.9 before the temperature", "p > 0.9")


def test_the_choice_has_suspects_large_losses_and_an_image_of_every_pair() -> None:
    cats = [(0, (0.001 * k, 1 - 0.001 * k, 0)) for k in range(1, 60)]
    rare = (1, (0.35, 0.32, 0.33))
    found = of(*cats, rare)
    chosen = label_errors.choose(found, 12)
    assert len(chosen) == 12
    assert (1, 0) in {each.pair for each in chosen}, "although 59 mistakes are worse"
    assert [each.loss for each in chosen] == sorted((each.loss for each in chosen), reverse=True)
    assert chosen[0].index == 0
    assert label_errors.choose(found, 1000) == found


def test_csv_holds_any_path() -> None:
    samples = [Sample('a,"b"\n.jpg', 0)]
    found = label_errors.find(samples, np.array([[0.02, 0.98, 0]], np.float32))
    rows = list(csv.reader(io.StringIO(label_errors.as_csv(found, LABELS))))
    assert rows == [["path", "label", "suggestion", "p"], ['a,"b"\n.jpg', "cat", "dog", "0.980000"]]
