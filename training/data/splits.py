"""Train, val and test, where a data set does not have them: stratified, seeded, copies on one side."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from training.data.dataset import Data, Sample
from training.data.folders.vocabulary import SPLITS
from training.errors import TrainingError

_NOTHING_LEFT = (
    "no images are left to validate on",
    "give more images, or a larger share of them: --set val_fraction=0.1 --set test_fraction=0",
)


def unsplit(data: Data) -> str | None:
    """The split that others are carved from: `all` of a plain folder, `train` where there is no val."""
    return "all" if "all" in data.splits else None if "val" in data.splits else "train"


def require_shares(data: Data, val_fraction: float, test_fraction: float) -> None:
    """Raises TrainingError where `split` would for any images: nobody should wait for them to be read."""
    if "all" in data.splits and val_fraction + test_fraction >= 1:
        raise TrainingError(f"val_fraction {val_fraction:g} + test_fraction {test_fraction:g} leave no train split")
    if unsplit(data) and not val_fraction:
        raise TrainingError(*_NOTHING_LEFT)


def split(data: Data, val_fraction: float, test_fraction: float, seed: int, copies: Mapping[str, str] = {}) -> Data:
    """Split what `index` left whole, stratified and seeded: val from train always, test only from a plain folder.

    `copies`: path -> path of the image that it is a copy of; both come to one side.

    Raises TrainingError where nothing is left of a split.
    """
    require_shares(data, val_fraction, test_fraction)
    splits = dict(data.splits)
    if "all" in splits:
        rest, splits["test"] = carve(splits.pop("all"), test_fraction, seed, copies)
        splits["train"], splits["val"] = carve(rest, val_fraction / (1 - test_fraction), seed, copies)
    elif "val" not in splits:
        splits["train"], splits["val"] = carve(splits["train"], val_fraction, seed, copies)
    if not splits["val"]:
        raise TrainingError(*_NOTHING_LEFT)
    return replace(data, splits={name: splits[name] for name in SPLITS if splits.get(name)})


def carve(
    samples: tuple[Sample, ...], fraction: float, seed: int, copies: Mapping[str, str]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Stratified and seeded: (kept, carved off). A class with two or more images keeps and gives at least one, unless
    all are copies of one. Copies count for the class of their first."""
    if fraction == 0:
        return samples, ()
    generator = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        groups.setdefault(copies.get(sample.path, sample.path), []).append(place)
    of_label: dict[int, list[list[int]]] = {}
    for group in groups.values():
        of_label.setdefault(samples[group[0]].label, []).append(group)
    carved = np.zeros(len(samples), dtype=bool)
    for label in sorted(of_label):
        order = [of_label[label][place] for place in generator.permutation(len(of_label[label]))]
        total = sum(map(len, order))
        room, chosen = min(max(1, round(fraction * total)), total - 1), []
        for group in order:  # the first that together are at most this fraction, or the smallest
            if len(group) <= room:
                chosen.append(group)
                room -= len(group)
        for group in chosen or ([min(order, key=len)] if len(order) > 1 else []):
            carved[group] = True
    kept = tuple(sample for sample, off in zip(samples, carved, strict=True) if not off)
    return kept, tuple(sample for sample, off in zip(samples, carved, strict=True) if off)
