"""The instant head: what is solved for, what cross-validation chooses, and a run of it, from images to heat maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tests.commands import QUIET, Sightglass
from tests.training import colours
from training.learning import linear_head, plan
from training.recipes import recipe
from training.runs.checkpoint import Run
from training.train import train
from training.weights import pretrained


def blobs(classes: int, each: int, noise: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features float32[N, 64] far from 0 and of unequal scales, and their labels."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, 64))
    labels = np.repeat(np.arange(classes), each)
    features = centres[labels] + noise * generator.normal(size=(len(labels), 64))
    return (5 * features + 100).astype(np.float32), labels


def share_right(head: linear_head.LinearHead, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(((features @ head.weight.T + head.bias).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_it_is_scikit_learns_regression_on_the_features_as_they_are(classes: int) -> None:
    features, labels = blobs(classes, 20, 1.0)
    head = linear_head.fit(features, labels, classes)
    scale = float(np.sqrt(features.var(axis=0).mean()))
    scaled = (features - features.mean(axis=0)) / scale
    reference = LogisticRegression(C=head.strength, max_iter=1000).fit(scaled, labels)
    logits = features @ head.weight.T + head.bias
    said = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.allclose(said / said.sum(axis=1, keepdims=True), reference.predict_proba(scaled), atol=1e-3)


def test_the_more_noise_the_stronger_the_penalty() -> None:
    chosen = [linear_head.fit(*blobs(4, 30, noise), 4).strength for noise in (0.5, 8.0)]
    assert chosen[0] > chosen[1]


def test_what_it_says_of_itself_holds_for_others() -> None:
    features, labels = blobs(5, 200, 3.0)
    order = np.random.default_rng(1).permutation(len(labels))
    seen, others = order[:500], order[500:]
    head = linear_head.fit(features[seen], labels[seen], 5)
    assert head.accuracy == pytest.approx(share_right(head, features[others], labels[others]), abs=0.05)


def test_of_many_images_a_sample_chooses_the_penalty_and_all_are_fitted() -> None:
    features, labels = blobs(4, 2500, 4.0)
    head = linear_head.fit(features, labels, 4)
    assert head.accuracy == pytest.approx(share_right(head, *blobs(4, 2500, 4.0)), abs=0.03)


@pytest.mark.parametrize("each", [1, 2, 3])
def test_a_handful_of_images_is_enough(each: int) -> None:
    features, labels = blobs(3, each, 0.2)
    head = linear_head.fit(features, labels, 3)
    assert share_right(head, *blobs(3, 50, 0.2)) == 1.0


def test_a_class_too_rare_to_be_left_out_stops_nobody_elses_choice() -> None:
    features, labels = blobs(3, 40, 8.0)
    kept = np.arange(81)  # of the third class one
    with_it = linear_head.fit(features[kept], labels[kept], 3)
    without = linear_head.fit(features[:80], labels[:80], 2)
    assert with_it.accuracy < 0.9, "of images left out: its own it knows all"
    assert with_it.log_loss == pytest.approx(without.log_loss, rel=0.2)
    assert with_it.weight.shape == (3, 64)


def test_rare_classes_count_as_much_where_that_is_asked_for() -> None:
    features, labels = blobs(2, 200, 6.0)
    kept = np.concatenate([np.arange(200), np.arange(200, 215)])
    others = blobs(2, 200, 6.0, seed=0)
    plain, balanced = (
        linear_head.fit(features[kept], labels[kept], 2, balanced=balanced) for balanced in (False, True)
    )
    recall = [share_right(head, others[0][200:], others[1][200:]) for head in (plain, balanced)]
    assert recall[1] > recall[0]


def test_a_run_of_it_is_a_run_like_any_other(tmp_path: Path, sightglass: Sightglass) -> None:
    data = colours.write(tmp_path / "data", each=20)
    settings = ["input_size=64", "val_fraction=0.3", "test_fraction=0.2"]
    train(plan.make(str(data), tmp_path / "run", "instant-head", settings), QUIET)
    run = Run.open(tmp_path / "run")
    assert run.best()["val_accuracy"] > 0.8
    assert run.meta.origin is not None
    assert run.meta.origin.licence == "Apache-2.0"
    scores = json.loads(sightglass("evaluate", tmp_path / "run", "--json").out)
    assert scores["accuracy"] > 0.8
    _, further = pretrained.resolve(recipe.load("fine-tuning"), str(tmp_path / "run"))
    assert further is not None
    assert further.origin == run.meta.origin, "who goes on from it is bound by the same licence"
    resumed = sightglass("train", data, "--out", tmp_path / "run", "--resume")
    assert resumed.code == 0
    told = sightglass("explain", tmp_path / "run", next((data / "red").iterdir()), "--out", tmp_path / "maps")
    assert told.code == 0
