"""What is said of an image besides its labels: the thresholds decide, and nothing is said without one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact.doubt import Accept, Doubt, Doubts, PredictionSet, Unfamiliar, ood_score, ood_scores
from app.artifact.ranking import rank

LABELS = ("cat", "dog", "frog", "horse")
FITTED = Doubt(
    n=1000,
    unfamiliar=Unfamiliar(score="max-logit", threshold=-2.0, accepts=0.95),
    accept=Accept(confidence=0.6, shown=0.99),
    set=PredictionSet(score="least-ambiguous", probability=0.2, coverage=0.95),
)


def said(probabilities: list[float], score: float = -3.0, top_k: int = 2, **changes: Any) -> Doubts:
    row = np.array(probabilities, np.float32)
    doubt = FITTED.model_copy(update=changes)
    return doubt.of(row, score, LABELS, rank(row, LABELS, top_k))


def test_an_image_is_unfamiliar_above_the_threshold_and_not_at_it() -> None:
    assert [said([1, 0, 0, 0], score)["unfamiliar"] for score in (-2.1, -2.0, -1.9)] == [False, False, True]


def test_an_answer_is_accepted_from_the_line_on_as_it_is_printed() -> None:
    """0.6 is no float32: the nearest is above it, and is served as 0.6."""
    assert said([0.6, 0.4, 0, 0])["accept"]
    assert not said([np.nextafter(np.float32(0.6), np.float32(0)), 0.4, 0, 0])["accept"]


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_a_set_holds_every_probable_label_by_falling_probability_however_many_were_asked_for(top_k: int) -> None:
    assert said([0.21, 0.35, 0.19, 0.25], top_k=top_k)["set"] == ["dog", "horse", "cat"]
    assert said([0.9, 0.1, 0, 0], top_k=top_k)["set"] == ["cat"]
    assert said([0.25, 0.25, 0.25, 0.25], top_k=top_k)["set"] == list(LABELS)


def test_a_set_is_never_empty() -> None:
    strict = PredictionSet(score="least-ambiguous", probability=0.9, coverage=0.95)
    assert said([0.1, 0.5, 0.3, 0.1], set=strict)["set"] == ["dog"]


@pytest.mark.parametrize("name", ["unfamiliar", "accept", "set"])
def test_what_has_no_threshold_is_not_said(name: str) -> None:
    assert said([1, 0, 0, 0], **{name: None}).keys() == {"unfamiliar", "accept", "set"} - {name}


def test_what_is_no_number_is_doubtful() -> None:
    nan = float("nan")
    found = said([nan] * 4, nan)
    assert (found["unfamiliar"], found["accept"], len(found["set"])) == (True, False, 1)


@pytest.mark.parametrize("maps", [None, np.random.default_rng(1).normal(size=(7, 4, 3, 3)).astype(np.float32)])
def test_the_score_is_the_strongest_evidence_for_any_class_at_any_place(maps: NDArray[np.float32] | None) -> None:
    logits = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    together = ood_scores(logits, maps)
    one_by_one = [ood_score(row, None if maps is None else maps[place]) for place, row in enumerate(logits)]
    assert (together.dtype, together.tolist()) == (np.float64, one_by_one)
    strongest = logits.max(axis=1) if maps is None else maps.max(axis=(1, 2, 3))
    assert one_by_one == pytest.approx(-strongest)
