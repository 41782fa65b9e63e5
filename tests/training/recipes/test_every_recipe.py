"""Every recipe that ships trains: as it is but for its epochs, and for the size of what is published for 224 pixels."""

from pathlib import Path

import pytest
import torch

from tests.commands import QUIET
from tests.training import colours
from training.learning import plan
from training.models import registry
from training.recipes import recipe
from training.runs.checkpoint import Run
from training.train import train


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_trains(name: str, tmp_path: Path) -> None:
    chosen = recipe.load(name)
    settings = [f"epochs={max(1, len(chosen.phases))}", "batch_size=12", "val_fraction=0.3"]
    if chosen.model.startswith(registry.ZOO):
        settings += ["input_size=32"]
    data = colours.write(tmp_path / "data", each=10)
    weights = None
    if chosen.weights:  # not to be had without a network: as many random numbers
        weights = str(tmp_path / "weights.pth")
        torch.save(registry.build(chosen.model, 3, 10, 32).state_dict(), weights)
    train(plan.make(str(data), tmp_path / "run", name, settings, weights=weights), QUIET)
    run = Run.open(tmp_path / "run")
    assert len(run.history()) == run.recipe.epochs
    assert run.recipe.model == chosen.model


def test_the_ablation_differs_in_nothing_but_what_it_is_about() -> None:
    whole, without, slow = (
        recipe.load(name).model_dump()
        for name in ("residual-cnn-adam", "residual-cnn-no-norm", "residual-cnn-no-norm-low-lr")
    )
    assert {key for key in whole if whole[key] != without[key]} == {"model"}
    assert {key for key in without if without[key] != slow[key]} == {"lr"}
    assert slow["lr"] == pytest.approx(without["lr"] / 10)
