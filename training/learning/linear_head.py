"""A linear head fitted at once to the features of a network that is left as it is: logistic regression, whose L2
penalty is chosen by stratified cross-validation."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-8, 5))  # 1 / L2, of features of deviation 1 in the mean
_UNKNOWN = 10.0**-2  # where a class has a single image, and nothing can be left out
_FOLDS = 5
_MOST_IMAGES = 3_000  # to choose the strength by, which does not go by their number: the loss is a sum, not a mean


class LinearHead(NamedTuple):
    """`weight` float32[K, D] and `bias` float32[K] for features as they are; `log_loss` and `accuracy` are of images
    that it was not fitted to, by cross-validation, with the inverse L2 penalty `strength`; of its own where a class has
    but one."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    log_loss: float
    accuracy: float


def fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, balanced: bool = False, seed: int = 0
) -> LinearHead:
    """features float32[V, N, D]: V views of N images, all in the same fold; labels int64[N].

    scikit-learn's LogisticRegression (L-BFGS); the penalty is the one with the least log-loss, by a sample where there
    are many images. What has not converged is judged, and used, as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _fit(features, labels, classes, balanced, seed)


def _fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, balanced: bool, seed: int
) -> LinearHead:
    views, images, width = features.shape
    centre = features.mean(axis=(0, 1))
    scale = float(np.sqrt(features.var(axis=(0, 1)).mean())) or 1.0
    scaled = (features - centre) / scale
    chosen = np.random.default_rng(seed).permutation(images)[: max(_MOST_IMAGES, 10 * classes)]
    sample, known, group = scaled[:, chosen].reshape(-1, width), np.tile(labels[chosen], views), np.tile(chosen, views)
    counts = np.bincount(labels[chosen])
    folds = min(_FOLDS, int(counts[counts > 0].min()))
    losses, hits = np.zeros(len(_STRENGTHS)), np.zeros(len(_STRENGTHS))
    weight_of = "balanced" if balanced else None
    best = _STRENGTHS.index(_UNKNOWN)
    if folds >= 2:
        for fitted, held in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(sample, known, group):
            model = LogisticRegression(class_weight=weight_of, max_iter=200, warm_start=True)
            first = held[held < len(chosen)]  # the images as they are
            for number, strength in enumerate(_STRENGTHS):
                model.set_params(C=strength).fit(sample[fitted], known[fitted])
                said = model.predict_proba(sample[first])
                losses[number] += log_loss(known[first], said, labels=model.classes_) * len(first)
                hits[number] += (model.classes_[said.argmax(axis=1)] == known[first]).sum()
        best = int(losses.argmin())
    rows, of = scaled.reshape(-1, width), np.tile(labels, views)
    model = LogisticRegression(C=_STRENGTHS[best], class_weight=weight_of, max_iter=200).fit(rows, of)
    if folds < 2:
        said = model.predict_proba(sample)
        losses[best] = log_loss(known, said, labels=model.classes_) * len(chosen)
        hits[best] = (model.classes_[said.argmax(axis=1)] == known).sum() / views
    weight, bias = model.coef_, model.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return LinearHead(
        weight.astype(np.float32),
        (bias - weight @ centre).astype(np.float32),
        _STRENGTHS[best],
        float(losses[best] / len(chosen)),
        float(hits[best] / len(chosen)),
    )
