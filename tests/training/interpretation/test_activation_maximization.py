"""Activation maximisation raises the logit until the network calls the noise that class."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.settings import DEFAULT_MODEL
from training.interpretation.activation_maximization import maximise
from training.runs.trained_model import TrainedModel

STEPS = 25


def logits(loaded: TrainedModel, pixels: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return loaded.network(loaded.normalise(torch.from_numpy(pixels)))


def test_the_logit_rises_and_the_network_calls_the_image_that_class() -> None:
    loaded = TrainedModel.load(DEFAULT_MODEL)
    labels = [3, 8]
    found = maximise(loaded, labels, steps=STEPS)
    assert (found.pixels.shape, found.pixels.dtype) == ((2, 32, 32, 3), np.uint8)
    answers = logits(loaded, found.pixels)
    assert answers.argmax(dim=1).tolist() == labels
    assert found.after == pytest.approx([answers[0, 3].item(), answers[1, 8].item()], abs=1e-4)
    assert all(after > before + 3 for before, after in zip(found.before, found.after, strict=True))
    assert all(each > 0.9 for each in found.probability)


def test_it_is_the_same_every_time_and_another_with_another_seed() -> None:
    loaded = TrainedModel.load(DEFAULT_MODEL)
    one, again, other = (maximise(loaded, [5], steps=3, seed=seed).pixels for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_grey_network_gets_a_grey_image(digits_run: Path) -> None:
    loaded = TrainedModel.load(digits_run)
    seen: list[int] = []
    found = maximise(loaded, [7], steps=STEPS, progress=seen.append)
    assert np.array_equal(found.pixels[..., 0], found.pixels[..., 2])
    assert logits(loaded, found.pixels).argmax().item() == 7
    assert seen == list(range(1, STEPS + 1))
