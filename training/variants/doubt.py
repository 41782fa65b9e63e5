"""The thresholds of doubt, fitted on val, and what they do to a variant's answers on the held-out split."""

from collections.abc import Sequence

import numpy as np

from app.artifact.doubt import Accept, Doubt, Doubted, PredictionSet, Score, Unfamiliar
from training.metrics import conformal, ood, selective
from training.metrics.classification import Labels
from training.variants.proof import Answers

COVERAGE = 0.95


def fit(labels: Labels, answers: Sequence[Answers], score: Score, coverage: float = COVERAGE) -> Doubt:
    """On val, for all variants that are served: `answers` of the checkpoint, first, and of each that differs from it.

    Of each threshold the most cautious, so that what it promises holds for every one: the highest score, the highest
    line, the lowest probability. None where one of them has none.
    """
    probabilities = [each.probabilities for each in answers]
    highest = [ood.threshold(each.ood_scores) for each in answers]
    lines = [selective.choose(labels, each) for each in probabilities]
    lowest = [conformal.least_probability(labels, each, coverage) for each in probabilities]
    unfamiliar, accept, sets = None, None, None
    if None not in highest:
        most = max(each for each in highest if each is not None)
        unfamiliar = Unfamiliar(score=score, threshold=most, accepts=ood.FAMILIAR_SHARE)
    if None not in lines:
        line = max(each for each in lines if each is not None)
        accepted = [selective.at(line, labels, each, labels, each) for each in probabilities]
        shown = min(each.shown for each in accepted)
        accept = Accept(confidence=float(str(np.float32(line))), shown=shown)
    if None not in lowest:
        least = min(each for each in lowest if each is not None)
        sets = PredictionSet(score="least-ambiguous", probability=least, coverage=coverage)
    return Doubt(n=len(labels), unfamiliar=unfamiliar, accept=accept, set=sets)


def measure(doubt: Doubt, split: str, labels: Labels, answers: Answers, tolerance: float) -> Doubted:
    """Of a variant's answers, float32[N, K], to the held-out split, where nothing is decided any more."""
    probabilities = answers.probabilities
    unfamiliar = accepted = right = coverage = size = None
    if doubt.unfamiliar:
        unfamiliar = float((~(answers.ood_scores <= doubt.unfamiliar.threshold)).mean())
    if doubt.accept:
        inside = probabilities.max(axis=1) >= np.float32(doubt.accept.confidence)
        accepted = float(inside.mean())
        right = float((probabilities.argmax(axis=1) == labels)[inside].mean()) if inside.any() else None
    if doubt.set:
        chosen = conformal.sets(probabilities, doubt.set.probability)
        coverage, size = float(chosen[np.arange(len(labels)), labels].mean()), float(chosen.sum(axis=1).mean())
    return Doubted(
        split=split,
        n=len(labels),
        unfamiliar=unfamiliar,
        accepted=accepted,
        right=right,
        coverage=coverage,
        set_size=size,
        tolerance=tolerance,
    )
