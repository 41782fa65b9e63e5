"""What a `train` command will do, decided before anything is read or written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training import locks
from training.data import splits
from training.data.dataset import Data
from training.data.source import index
from training.errors import TrainingError
from training.learning import device as devices
from training.learning.recipe_choice import Choice, choose
from training.recipes import recipe
from training.recipes.recipe import Recipe
from training.recipes.spans import spans
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.weights import pretrained
from training.weights.pretrained import Weights


@dataclass(frozen=True)
class Plan:
    """`asked` is the recipe before its weights had their say, `choice` its name and why it is that one; `device` is
    cpu, cuda or mps; `weights` is where the network starts (None: from scratch); `resumed` is the run to go on with;
    `force`: a run that is there is replaced; `minutes`: what the run may take, None without a bound."""

    data: Data
    out: Path
    recipe: Recipe
    asked: Recipe
    choice: Choice
    device: str
    weights: Weights | None
    resumed: Run | None
    force: bool = False
    minutes: float | None = None


def make(
    source: str,
    out: Path,
    name: str | None = None,
    overrides: Sequence[str] = (),
    *,
    weights: str | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    offline: bool = False,
    minutes: float | None = None,
) -> Plan:
    """Index the data, choose or load the recipe, find the `weights`, and check device and run folder.

    Raises TrainingError, with `offline` also for weights that would have to be downloaded.
    """
    device = devices.choose(device)
    locks.require_free(out)
    if resume:
        return replace(resumption(source, out, name, overrides, weights, device), minutes=minutes)
    checkpoint.require_new(out, force=force)
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise TrainingError(f'"{out}" lies in the data, where it would be taken for a class', "--out runs/NAME")
    data = index(source)
    choice = Choice(name, "as asked") if name else choose(data, weights is not None)
    asked = recipe.load(choice.recipe, overrides)
    chosen, start = pretrained.resolve(asked, weights, recipe.keys(overrides), offline=offline)
    if start is None and any(span.phase.unfrozen_stages is not None for span in spans(chosen)):
        raise TrainingError(
            f"{choice.recipe} freezes stages, which without weights have learnt nothing", "--from RUN|ARTIFACT|WEIGHTS"
        )
    minutes = choice.minutes if minutes is None else minutes
    splits.require_shares(data, chosen.val_fraction, chosen.test_fraction)
    return Plan(data, out, chosen, asked, choice, device, start, None, force, minutes)


def resumption(
    source: str, out: Path, name: str | None, overrides: Sequence[str], weights: str | None, device: str
) -> Plan:
    """To go on with the run in `out` as it was begun. Raises TrainingError."""
    run = Run.open(out)
    if weights not in (None, run.meta.weights, run.recipe.weights):
        raise TrainingError(
            f'"{out}" started from {run.meta.weights or "scratch"}, not from {weights}',
            "leave --from out: the run has its weights",
        )
    if name is not None and recipe.load(name, overrides) != run.asked:
        raise TrainingError(f'"{out}" was started with other settings', "--resume alone takes the recorded recipe")
    if name is None and recipe.override(run.asked, overrides) != run.asked:
        raise TrainingError("a run cannot be resumed with other settings", "leave --set out, or name a new --out")
    return Plan(run.data(source), out, run.recipe, run.asked, Choice(*run.choice), device, None, run)
