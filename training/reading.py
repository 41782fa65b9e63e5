"""What a run reads before it trains: every split, once, and what there is to say of it."""

from collections.abc import Sequence
from typing import NamedTuple

from app.artifact.image import InputSpec
from app.engines import machine
from training import TrainingError, pixels
from training.cells import count, shortened
from training.dhash import Hashes
from training.pixels import Pixels
from training.plan import Plan
from training.progress import Talk
from training.recipe import Recipe
from training.summary import Summary


class Read(NamedTuple):
    """The splits, how their pictures become the model's, and the hashes of each split's pictures."""

    sets: dict[str, Pixels]
    input: InputSpec
    hashes: dict[str, Hashes]


def read(plan: Plan, talk: Talk) -> Read:
    """Decode every split once; mean and std come from train, the weights, or the run that is resumed.

    Train and val stay in memory while both need at most a quarter of it; test is only looked at.
    """
    spec, memory = _unmeasured(plan.recipe), machine.memory_bytes() // 4
    recorded = plan.resumed.checksums() if plan.resumed else {}
    unmeasured = not plan.resumed and not (plan.weights and plan.weights.input)
    sets, summaries = {}, {}
    for name, samples in plan.data.splits.items():
        room = 0 if name == "test" else memory
        summaries[name] = Summary(moments=unmeasured and name == "train")
        with talk.step(f"reading {name}", len(samples)) as progress:
            sets[name] = pixels.load(plan.data, name, spec, recorded.get(name), room, progress, summaries[name])
        if sets[name].in_memory:
            memory -= len(samples) * spec.height * spec.width * 3
    _describe(plan, sets, talk)
    hashes = {name: summary.hashes for name, summary in summaries.items()}
    return Read(sets, _measured(plan, spec, summaries["train"], talk), hashes)


def _measured(plan: Plan, spec: InputSpec, train: Summary, talk: Talk) -> InputSpec:
    if plan.resumed:
        return plan.resumed.input
    if plan.weights and plan.weights.input:
        return spec.model_copy(update={"mean": plan.weights.input.mean, "std": plan.weights.input.std})
    if plan.weights:
        measured = "mean and deviation are measured on these pictures, crop and interpolation are the recipe's"
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


def _describe(plan: Plan, sets: dict[str, Pixels], talk: Talk) -> None:
    labels, train_labels = plan.data.labels, sets["train"].labels
    counts = " / ".join(f"{name} {len(split):,}" for name, split in sets.items())
    total = sum(len(split) for split in sets.values())
    talk.fact(
        "data", f"{plan.data.source}: {count(total, 'image')}, {count(len(labels), 'class', 'classes')} -> {counts}"
    )
    skipped = [path for split in sets.values() for path, _ in split.skipped]
    if skipped:
        talk.fact(
            "", f"skipped {count(len(skipped), 'unreadable file')} ({skipped[0]}, ...), listed in the run's skipped.txt"
        )
    per_class = {label: int((train_labels == number).sum()) for number, label in enumerate(labels)}
    smallest = min(labels, key=lambda label: per_class[label])
    talk.fact("", f'smallest class "{shortened(smallest)}": {count(per_class[smallest], "image")}')
    _say_unchecked(labels, sets, talk)
    if not per_class[smallest]:
        raise TrainingError(
            f'no readable picture of "{smallest}" is left to train on', "look at the files of that class"
        )


def _say_unchecked(labels: Sequence[str], sets: dict[str, Pixels], talk: Talk) -> None:
    """Classes that no figure is about: a class of one picture, which is trained on, has none for val and test."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for split in sets.keys() - {"train"}:
        names = tuple(label for number, label in enumerate(labels) if number not in sets[split].labels)
        lacking.setdefault(names, []).append(split)
    for names, splits in sorted(lacking.items()):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if names:
            talk.fact("", f"not a picture in {' and '.join(sorted(splits, reverse=True))}: {shown}")
