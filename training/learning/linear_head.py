"""A linear head fitted at once to the features of a network that is left as it is: logistic regression, whose L2
penalty is chosen by stratified cross-validation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

_STRENGTHS = tuple(10.0**power for power in np.arange(-4, 2.5, 0.5))  # 1 / L2, of features of deviation 1 in the mean
_FOLDS = 5
_MOST_WORK = 2e9  # rows x features x classes x folds: above it, two folds


class LinearHead(NamedTuple):
    """`weight` float32[K, D] and `bias` float32[K] for features as they are; `log_loss` and `accuracy` are of images
    that it was not fitted to, by cross-validation, with the inverse L2 penalty `strength`."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    log_loss: float
    accuracy: float


def fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, balanced: bool = False, seed: int = 0
) -> LinearHead:
    """features float32[V, N, D]: V views of N images, all in the same fold; labels int64[N].

    scikit-learn's LogisticRegression (L-BFGS); the penalty is the one with the least log-loss, from weak to strong.
    """
    views, images, width = features.shape
    centre = features.mean(axis=(0, 1))
    scale = float(np.sqrt(features.var(axis=(0, 1)).mean())) or 1.0
    rows, of = (features.reshape(-1, width) - centre) / scale, np.tile(labels, views)
    group = np.tile(np.arange(images), views)
    counts = np.bincount(labels, minlength=classes)
    folds = min(_FOLDS if rows.size * classes * _FOLDS < _MOST_WORK else 2, int(counts[counts > 0].min()))
    losses, hits = np.zeros(len(_STRENGTHS)), np.zeros(len(_STRENGTHS))
    weight_of = "balanced" if balanced else None
    if folds >= 2:
        for fitted, held in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, of, group):
            model = LogisticRegression(class_weight=weight_of, max_iter=200, warm_start=True)
            first = held[held < images]  # the images as they are
            for number, strength in enumerate(_STRENGTHS):
                model.set_params(C=strength).fit(rows[fitted], of[fitted])
                said = model.predict_proba(rows[first])
                losses[number] += log_loss(of[first], said, labels=model.classes_) * len(first)
                hits[number] += (model.classes_[said.argmax(axis=1)] == of[first]).sum()
        best = int(losses.argmin())
    else:
        best = _STRENGTHS.index(1e-2)
    model = LogisticRegression(C=_STRENGTHS[best], class_weight=weight_of, max_iter=1000).fit(rows, of)
    weight, bias = model.coef_, model.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return LinearHead(
        weight.astype(np.float32),
        (bias - weight @ centre).astype(np.float32),
        _STRENGTHS[best],
        float(losses[best] / images),
        float(hits[best] / images),
    )
