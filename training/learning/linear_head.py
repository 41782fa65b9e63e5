"""A linear head fitted at once to the features of a network that is left as it is: logistic regression, whose L2
penalty is chosen by stratified cross-validation."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-8, 5))  # 1 / L2, of features of deviation 1 in the mean
_UNKNOWN = 10.0**-2  # where nothing can be left out
_FOLDS, _STEPS = 5, 200
_MOST_IMAGES = 3_000  # to choose the strength by, which does not go by their number: the loss is a sum, not a mean


class LinearHead(NamedTuple):
    """`weight` float32[K, D] and `bias` float32[K] for features as they are, fitted with the inverse L2 penalty
    `strength`; `log_loss` (in nats) and `accuracy` (0..1) by cross-validation, of images that it was not fitted to."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    log_loss: float
    accuracy: float


def fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, balanced: bool = False, seed: int = 0
) -> LinearHead:
    """Of features float32[N, D] and labels int64[N], all of 0..classes-1 among them; `balanced`: rare ones weigh more.

    scikit-learn's LogisticRegression (L-BFGS); the penalty is the one with the least log-loss, by a sample where there
    are many images. What has not converged is judged, and used, as it is. Where too few images are there to leave any
    out, the penalty is a middling one, and the scores are of the images that it was fitted to.
    """
    centre = features.mean(axis=0)
    scale = float(np.sqrt(features.var(axis=0).mean())) or 1.0
    scaled = (features - centre) / scale
    sample = np.random.default_rng(seed).permutation(len(labels))[: max(_MOST_IMAGES, 10 * classes)]
    counts = np.bincount(labels[sample])
    folds = min(_FOLDS, int(np.sort(counts)[-2]))
    x, y = scaled, labels
    if folds >= 2:  # a class with fewer images than folds has no say
        sample = sample[counts[labels[sample]] >= folds]
        x, y = scaled[sample], labels[sample]
    weight_of = "balanced" if balanced else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        losses, hits = np.zeros(len(_STRENGTHS)), np.zeros(len(_STRENGTHS))
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y) if folds >= 2 else ()
        for fitted, held in splits:
            model = LogisticRegression(class_weight=weight_of, max_iter=_STEPS, warm_start=True)
            for number, strength in enumerate(_STRENGTHS):
                said = model.set_params(C=strength).fit(x[fitted], y[fitted]).predict_proba(x[held])
                losses[number] += log_loss(y[held], said, labels=model.classes_) * len(held)
                hits[number] += (model.classes_[said.argmax(axis=1)] == y[held]).sum()
        best = int(losses.argmin()) if folds >= 2 else _STRENGTHS.index(_UNKNOWN)
        model = LogisticRegression(C=_STRENGTHS[best], class_weight=weight_of, max_iter=_STEPS).fit(scaled, labels)
    if folds < 2:
        losses[best] = log_loss(y, model.predict_proba(x)) * len(y)
        hits[best] = (model.predict(x) == y).sum()
    weight, bias = model.coef_, model.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return LinearHead(
        weight.astype(np.float32),
        (bias - weight @ centre).astype(np.float32),
        _STRENGTHS[best],
        float(losses[best] / len(y)),
        float(hits[best] / len(y)),
    )
