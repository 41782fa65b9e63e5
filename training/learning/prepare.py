"""What a run reads before it trains: every image, once; then the splits that the data have not are made."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app import machine
from app.artifact.decoder.decode import InputSpec
from training.console.progress import Talk
from training.data import pixels, quality, splits
from training.data.fingerprint import Hashes
from training.data.pixels import Pixels
from training.data.quality import Copies
from training.data.statistics import Summary
from training.errors import TrainingError
from training.learning.plan import Plan
from training.recipes.recipe import Recipe

Sets = dict[str, Pixels]
Summaries = dict[str, Summary]


class Read(NamedTuple):
    """The splits, how their images become the model's, the fingerprints of each split's images, (path, why) of what
    is no image, and the paths of each image that stands under more labels than one."""

    sets: Sets
    input: InputSpec
    hashes: dict[str, Hashes]
    skipped: tuple[tuple[str, str], ...]
    two_labels: list[tuple[str, ...]]


def read(plan: Plan, talk: Talk) -> Read:
    """Decode every image once; mean and std come from train, the weights, or the run that is resumed.

    Splits that are made, not given, are made of what could be read, with all copies of an image on one side.
    """
    spec = _unmeasured(plan.recipe)
    sets, summaries = _load(plan, spec, talk)
    skipped = tuple(each for split in sets.values() for each in split.skipped)
    kept = np.concatenate([summary.kept for summary in summaries.values()])
    copies = Copies.of(sets, {name: summary.hashes for name, summary in summaries.items()})
    whole = None if plan.resumed else splits.unsplit(plan.data)
    given = sets.keys() - {whole}
    if whole:
        sets, summaries = _split(plan, whole, sets, summaries, copies)
        _keep(plan, sets, spec, talk)
    quality.say_counts(plan.data, sets, skipped, talk)
    quality.say_copies(copies, sets, [name for name in sets if name not in given], talk)
    quality.say_two_labels(copies.two_labels(), talk)
    quality.say_crop(kept, talk)
    _require_every_class(plan.data.labels, sets["train"])
    hashes = {name: summary.hashes for name, summary in summaries.items()}
    return Read(sets, _measured(plan, spec, summaries["train"], talk), hashes, skipped, copies.two_labels())


def _load(plan: Plan, spec: InputSpec, talk: Talk) -> tuple[Sets, Summaries]:
    """What is trained on and val stay in memory while they need at most a quarter of it; test is only looked at."""
    memory = machine.memory_bytes() // 4
    recorded = plan.resumed.checksums() if plan.resumed else {}
    unmeasured = not plan.resumed and not (plan.weights and plan.weights.input)
    sets, summaries = {}, {}
    for name, samples in plan.data.splits.items():
        room = 0 if name == "test" else memory
        summaries[name] = Summary(moments=unmeasured and name in ("all", "train"))
        with talk.step(f"reading {'images' if name == 'all' else name}", len(samples)) as progress:
            sets[name] = pixels.load(plan.data, name, spec, recorded.get(name), room, progress, summaries[name])
        if sets[name].in_memory:
            memory -= len(samples) * spec.height * spec.width * 3
    return sets, summaries


def _split(plan: Plan, whole: str, sets: Sets, summaries: Summaries, copies: Copies) -> tuple[Sets, Summaries]:
    """With train, val and test in place of `whole`."""
    recipe, loaded, summary = plan.recipe, sets[whole], summaries[whole]
    data = replace(plan.data, splits={name: split.samples for name, split in sets.items()})
    made = splits.split(data, recipe.val_fraction, recipe.test_fraction, recipe.seed, copies.first()).splits
    place = {sample.path: number for number, sample in enumerate(loaded.samples)}
    given = sets.keys() - {whole}
    places = {name: np.array([place[s.path] for s in made[name]], np.int64) for name in made.keys() - given}
    return (
        {name: sets[name] if name in given else loaded.part(places[name]) for name in made},
        {name: summaries[name] if name in given else summary.part(places[name]) for name in made},
    )


def _keep(plan: Plan, sets: Sets, spec: InputSpec, talk: Talk) -> None:
    """Take into memory what fits there without the rest: to decode val once more is less than in every epoch."""
    memory = machine.memory_bytes() // 4
    for name in ("train", "val"):
        loaded = sets[name]
        size = len(loaded) * spec.height * spec.width * 3
        if not loaded.in_memory and size <= memory:
            data = replace(plan.data, splits={name: loaded.samples})
            with talk.step(f"reading {name}", len(loaded)) as progress:
                sets[name] = pixels.load(data, name, spec, loaded.sha256, memory, progress)
        memory -= size if sets[name].in_memory else 0


def _require_every_class(labels: tuple[str, ...], train: Pixels) -> None:
    lacking = sorted(set(range(len(labels))) - set(train.labels.tolist()))
    if lacking:
        raise TrainingError(
            f'no readable image of "{labels[lacking[0]]}" is left to train on', "look at the files of that class"
        )


def _measured(plan: Plan, spec: InputSpec, train: Summary, talk: Talk) -> InputSpec:
    if plan.resumed:
        return plan.resumed.input
    if plan.weights and plan.weights.input:
        return spec.model_copy(update={"mean": plan.weights.input.mean, "std": plan.weights.input.std})
    if plan.weights:
        measured = "mean and deviation are measured on these images, crop and interpolation are the recipe's"
        talk.fact("", f"nothing says what preprocessing {plan.weights.name} learnt with: {measured}")
    mean, std = train.mean_and_std(spec.channels)
    return spec.model_copy(update={"mean": mean, "std": std})


def _unmeasured(recipe: Recipe) -> InputSpec:
    """The recipe's, with a mean and std that change nothing."""
    return InputSpec(
        width=recipe.input_size,
        height=recipe.input_size,
        channels=recipe.channels,
        crop_fraction=recipe.crop_fraction,
        interpolation=recipe.interpolation,
        fit=recipe.fit,
        mean=(0.0,) * recipe.channels,
        std=(1.0,) * recipe.channels,
    )
