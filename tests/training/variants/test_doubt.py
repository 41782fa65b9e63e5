"""The thresholds of doubt hold for every variant that is served, and what they do is measured."""

import numpy as np
import pytest

from app.artifact.doubt import Doubt
from training.metrics import ood, selective
from training.metrics.classification import Labels
from training.variants import tolerance
from training.variants.doubt import fit, measure
from training.variants.proof import Answers

K = 4


def answers(n: int, seed: int, shift: float = 0.0, sharpness: float = 2.0) -> tuple[Labels, Answers]:
    """A network that is nearly always right where it is sure, with logits that are `shift` lower than another's."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(K, size=n)
    logits = generator.normal(0, 1, (n, K)) + generator.gamma(4, 1, (n, 1)) * np.eye(K)[labels]
    raised = np.exp(sharpness * logits)
    probabilities = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    logits = (logits - shift).astype(np.float32)
    return labels, Answers(probabilities, logits, -logits.max(axis=1).astype(np.float64))


def fitted(doubt: Doubt) -> tuple[float, float, float]:
    assert doubt.unfamiliar
    assert doubt.accept
    assert doubt.set
    return doubt.unfamiliar.threshold, doubt.accept.confidence, doubt.set.probability


def test_each_threshold_is_the_most_cautious_of_those_that_the_variants_ask_for() -> None:
    labels, one = answers(2000, 0)
    _, other = answers(2000, 0, shift=0.3, sharpness=1.0)
    alone = [fitted(fit(labels, [each], "max-logit")) for each in (one, other)]
    both = fit(labels, [one, other], "max-logit")
    assert alone[0] != alone[1]
    assert fitted(both) == (max(a[0] for a in alone), max(a[1] for a in alone), min(a[2] for a in alone))
    for each in (one, other):
        said = measure(both, "val", labels, each, 0.1)
        assert said.unfamiliar is not None
        assert said.unfamiliar <= 0.05
        assert said.coverage is not None
        assert said.coverage >= 0.95
        assert both.accept is not None
        assert said.right is not None
        assert said.right >= both.accept.shown


def test_a_variant_that_shows_no_line_leaves_all_without_one() -> None:
    labels, sure = answers(2000, 0)
    unsure = sure._replace(probabilities=np.full_like(sure.probabilities, 0.25))
    assert selective.choose(labels, unsure.probabilities) is None
    assert fit(labels, [sure], "max-logit").accept is not None
    assert fit(labels, [sure, unsure], "max-logit").accept is None


@pytest.mark.parametrize(("n", "coverage", "sets"), [(18, 0.95, False), (19, 0.95, True), (98, 0.99, False)])
def test_too_few_images_give_no_threshold(n: int, coverage: float, sets: bool) -> None:
    labels, few = answers(n, 1)
    found = fit(labels, [few], "max-logit", coverage)
    assert (found.set is not None) == sets
    assert (found.unfamiliar is not None) == (n >= 19)
    assert found.n == n
    said = measure(found, "test", labels, few, 0.1)
    assert (said.coverage is None, said.set_size is None) == (not sets, not sets)
    assert (said.unfamiliar is None, said.accepted is None) == (n < 19, found.accept is None)


def test_what_is_promised_holds_on_images_that_nothing_was_fitted_on() -> None:
    found = fit(*_listed(answers(5000, 2)), "max-logit", 0.9)
    labels, new = answers(20_000, 3)
    said = measure(found, "test", labels, new, 0.1)
    assert said.unfamiliar == pytest.approx(1 - ood.FAMILIAR_SHARE, abs=0.01)
    # none is empty: where the first label alone is right more often, so are the sets
    assert said.coverage == pytest.approx(
        max(0.9, float((new.probabilities.argmax(axis=1) == labels).mean())), abs=0.01
    )
    assert said.right is not None
    assert said.right >= 0.99


def _listed(drawn: tuple[Labels, Answers]) -> tuple[Labels, list[Answers]]:
    return drawn[0], [drawn[1]]


def test_the_tolerance_is_half_as_much_again_as_was_measured_or_a_share_of_how_scores_vary() -> None:
    _, val = answers(500, 4)
    spread = float(val.ood_scores.std())
    assert tolerance.of_score(2.0, spread, int8=True) == 3.0
    assert tolerance.of_score(0.0, spread, int8=True) == pytest.approx(0.1 * spread)
    assert tolerance.of_score(0.0, spread, int8=False) == pytest.approx(0.001 * spread)
