"""Every recipe that ships builds, and trains: as it is but for its epochs, and the size of what is made for 224 px."""

from pathlib import Path

import pytest
import torch

from tests.commands import QUIET
from tests.training import colours
from training.learning import optim, plan
from training.models import freezing, registry
from training.recipes import recipe
from training.recipes.spans import spans
from training.runs.checkpoint import Run
from training.train import train

# One-cycle with averaged weights; clipped gradients; cropping and resizing; frozen features below a hidden head; rates
# that differ by depth and a batch norm that stands still; phases. `make test-slow` trains the others.
ON_EVERY_PUSH = {
    "residual-cnn-onecycle",
    "residual-cnn-adam",
    "few-photos",
    "feature-extraction-hidden-head",
    "fine-tuning",
    "progressive-unfreezing",
}


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_builds(name: str) -> None:
    chosen = recipe.load(name)
    size = 32 if registry.zoo_of(chosen.model) else chosen.input_size
    network = registry.build(chosen.model, chosen.channels, 3, size, chosen.head_hidden).eval()
    for phase in (span.phase for span in spans(chosen)):
        freezing.freeze(network, phase.unfrozen_stages)
        optimizer = optim.optimizer(network, chosen, phase)
        optim.scheduler(optimizer, phase, 10)
        trained = {id(weights) for group in optimizer.param_groups for weights in group["params"]}
        assert trained == {id(weights) for weights in network.parameters() if weights.requires_grad}
    with torch.no_grad():
        assert network(torch.zeros(1, chosen.channels, size, size)).shape == (1, 3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ON_EVERY_PUSH else pytest.mark.slow) for name in recipe.names()]
)
def test_every_recipe_trains(name: str, tmp_path: Path) -> None:
    chosen = recipe.load(name)
    settings = [f"epochs={max(1, len(chosen.phases))}", "batch_size=12", "val_fraction=0.3"]
    if registry.zoo_of(chosen.model):
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
