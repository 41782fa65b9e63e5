"""What a run needs before its first epoch: every image, read once, splits where the data have none, and the network."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from app import machine
from app.artifact.decoder.decode import InputSpec
from training.console.progress import Talk
from training.console.terminal import count
from training.data import pixels, quality, splits
from training.data.copies.fingerprint import Hashes
from training.data.pixels import Pixels
from training.data.quality import Copies
from training.data.statistics import Summary
from training.errors import TrainingError
from training.learning import device
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.models.servable import Normalise
from training.runs.trained_model import untrained
from training.threads import use_cores

Sets = dict[str, Pixels]
Summaries = dict[str, Summary]


class RunData(NamedTuple):
    """The splits, how their images become the model's, the fingerprints of each split's images, (path, why) of what
    is no image, and the paths of each image that stands under more labels than one."""

    sets: Sets
    input: InputSpec
    hashes: dict[str, Hashes]
    skipped: tuple[tuple[str, str], ...]
    two_labels: list[tuple[str, ...]]


def read(plan: Plan, talk: Talk) -> RunData:
    """Decode every image once; mean and std come from train, the weights, or the run that is resumed.

    Splits that are made, not given, are made of what could be read, with all copies of an image on one side.
    Raises TrainingError where a class has no image to train on.
    """
    spec = plan.recipe.input_spec()
    sets, summaries = load(plan, spec, talk)
    skipped = tuple(each for split in sets.values() for each in split.skipped)
    kept = np.concatenate([summary.kept for summary in summaries.values()])
    copies = Copies.of(sets, {name: summary.hashes for name, summary in summaries.items()})
    whole = None if plan.resumed else splits.unsplit(plan.data)
    given = sets.keys() - {whole}
    if whole:
        sets, summaries = split(plan, whole, sets, summaries, copies)
        keep(plan, sets, spec, talk)
    quality.say_counts(plan.data, sets, skipped, talk)
    quality.say_copies(copies, sets, [name for name in sets if name not in given], talk)
    two_labels = copies.two_labels()
    quality.say_two_labels(two_labels, talk)
    quality.say_crop(kept, talk)
    if lacking := sorted(set(range(len(plan.data.labels))) - set(sets["train"].labels.tolist())):
        message = f'no readable image of "{plan.data.labels[lacking[0]]}" is left to train on'
        raise TrainingError(message, "look at the files of that class")
    if plan.resumed:
        spec = plan.resumed.input
    elif plan.weights and plan.weights.input:
        spec = plan.recipe.input_spec(plan.weights.input.mean, plan.weights.input.std)
    else:
        if plan.weights:
            measured = "mean and deviation are measured on these images, crop and interpolation are the recipe's"
            talk.fact("", f"nothing says what preprocessing {plan.weights.name} learnt with: {measured}")
        spec = plan.recipe.input_spec(*summaries["train"].mean_and_std(spec.channels))
    hashes = {name: summary.hashes for name, summary in summaries.items()}
    return RunData(sets, spec, hashes, skipped, two_labels)


def learner(plan: Plan, data: RunData, talk: Talk) -> Learner:
    """The network with its first weights, and what trains it; said in four lines."""
    recipe = plan.recipe
    torch.manual_seed(recipe.seed)
    network = untrained(recipe, len(plan.data.labels))
    start = "resumed" if plan.resumed else "from scratch"
    if plan.weights:
        kept = plan.weights.copy_into(network, plan.data.labels, recipe.model, blocks=recipe.blocks)
        origin = plan.weights.origin
        licence = f" ({origin.source}, {origin.licence})" if origin else ""
        start = f"from {plan.weights.name}{licence}" + ("" if kept else ", with a new head")
    normalise = Normalise(data.input.mean, data.input.std, recipe.enlarge)
    made = Learner(network, normalise, recipe, len(data.sets["train"]), plan.device)
    threads = count(use_cores(), "thread")
    parameters = sum(p.numel() for p in made.network.parameters()) / 1e6
    talk.fact("recipe", f"{plan.choice.recipe}: {plan.choice.why}")
    if plan.choice.expect:
        talk.fact("expect", plan.choice.expect)
    enlarged = f" enlarged to {recipe.enlarge}" if recipe.enlarge else ""
    fit = "" if recipe.fit == "crop" else f" (fit {recipe.fit})"
    size = f"{recipe.input_size} px{fit}{enlarged}"
    cut = f", its first {count(recipe.blocks, 'block')}" if recipe.blocks else ""
    talk.fact("model", f"{recipe.model}{cut} at {size}, {parameters:.2f} M parameters, {start}")
    where = f"{threads} ({machine.cores().reason})" if plan.device == "cpu" else device.described(plan.device)
    how = f"{made.precision}, torch {torch.__version__}; {count(recipe.epochs, 'epoch')}"
    talk.fact("machine", f"{plan.device}, {where}, {how}")
    return made


def load(plan: Plan, spec: InputSpec, talk: Talk) -> tuple[Sets, Summaries]:
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


def split(plan: Plan, whole: str, sets: Sets, summaries: Summaries, copies: Copies) -> tuple[Sets, Summaries]:
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


def keep(plan: Plan, sets: Sets, spec: InputSpec, talk: Talk) -> None:
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
