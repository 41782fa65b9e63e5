"""Where pictures come from: a folder of class folders or a named data set, as labels, splits and readable files."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from training import TrainingError, nearest
from training.named import NAMED
from training.samples import Data, Sample

SPLITS = ("train", "val", "test")
_LIKE_SPLITS = {*SPLITS, "training", "valid", "validation", "testing"}


def split(data: Data, val_fraction: float, test_fraction: float, seed: int) -> Data:
    """Split what `index` left whole, stratified and seeded: val from train always, test only from a plain folder.

    Raises TrainingError where nothing is left of a split.
    """
    splits = dict(data.splits)
    if "all" in splits:
        if val_fraction + test_fraction >= 1:
            raise TrainingError(f"val_fraction {val_fraction:g} + test_fraction {test_fraction:g} leave no train split")
        rest, splits["test"] = _carve(splits.pop("all"), test_fraction, seed)
        splits["train"], splits["val"] = _carve(rest, val_fraction / (1 - test_fraction), seed)
    elif "val" not in splits:
        splits["train"], splits["val"] = _carve(splits["train"], val_fraction, seed)
    if not splits["val"]:
        raise TrainingError(
            "no pictures are left to validate on",
            "give more pictures, or a larger share of them: --set val_fraction=0.1 --set test_fraction=0",
        )
    ordered = {name: splits[name] for name in SPLITS if splits.get(name)}
    return Data(data.source, data.labels, ordered, data.read)


def index(source: str, labels: tuple[str, ...] | None = None) -> Data:
    """List a data set's files; reads no picture. Splits as the folder has them, else one called `all`.

    `train/<class>/*` with optional `val/` and `test/`, or a plain `<class>/*` folder.

    With `labels` (a trained model's), folder names map to those: a missing class is fine, an unknown one is an error.
    """
    if source in NAMED:  # a folder of that name is ./digits
        return _relabel(NAMED[source](), labels)
    root, read = Path(source), reader(source)
    split_folders = {name: root / name for name in SPLITS if (root / name).is_dir()}
    _require_only_splits(root, split_folders)
    if labels is None and split_folders and "train" not in split_folders:
        raise TrainingError(f'"{source}" has {", ".join(split_folders)} but no train/', SHAPE)
    folders = split_folders or {"all": root}
    known = labels or _class_names(folders.get("train", root), source)
    splits = {name: _list_split(root, folder, known) for name, folder in folders.items()}
    if labels is None:
        _require_every_class(splits.get("train", splits.get("all", ())), known, source)
    return Data(str(root.resolve()), known, splits, read)


def reader(source: str) -> Callable[[str], bytes]:
    """What reads a data set's files by the paths that `index` has given; it lists nothing. Raises TrainingError."""
    if source in NAMED:
        return NAMED[source]().read
    root = Path(source)
    _require_folder(root, source)
    return lambda path: _read_file(root / path)


def _read_file(path: Path) -> bytes:
    """Raises OSError; also for what would never end, such as a pipe in a class folder."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no regular file")
    return path.read_bytes()


def _relabel(data: Data, labels: tuple[str, ...] | None) -> Data:
    """The same samples under a trained model's labels, by name. Raises TrainingError for a class it does not know."""
    if labels is None:
        return data
    for name in data.labels:
        if name not in labels:
            raise TrainingError(f'"{name}" of {data.source} is no class of this model', nearest(name, labels))
    number = [labels.index(name) for name in data.labels]
    splits = {split: tuple(Sample(s.path, number[s.label]) for s in rows) for split, rows in data.splits.items()}
    return Data(data.source, labels, splits, data.read)


SHAPE = "expected photos/<class>/*.jpg or photos/train/<class>/*.jpg"


def _require_folder(root: Path, source: str) -> None:
    if root.is_dir():
        return
    if root.is_file():
        candidates = [f'"{path}"' for path in sorted(root.parent.iterdir()) if path.is_dir()][:3]
        found = f"; folders next to it: {', '.join(candidates)}" if candidates else ""
        raise TrainingError(f'"{source}" is a file; DATA is a folder of class folders', SHAPE + found)
    raise TrainingError(f'there is no folder "{source}"', f"{SHAPE}; data sets by name: {nearest(source, NAMED)}")


def _require_only_splits(root: Path, split_folders: dict[str, Path]) -> None:
    """`train/` beside, say, `valid/` or a class folder is a mistake, noticed late. Raises TrainingError."""
    others = [path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name not in SPLITS]
    others = [name for name in others if not name.startswith(".")]
    if split_folders and others:
        message = f'"{root}" has {", ".join(split_folders)} and also "{others[0]}", which is no split'
        raise TrainingError(message, "name it val, or move it out of the folder")


def _class_names(folder: Path, source: str) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        raise TrainingError(f'"{source}" has {len(names)} class folders; at least 2 are needed', SHAPE)
    if {name.casefold() for name in names} <= _LIKE_SPLITS:
        raise TrainingError(f'"{source}" has {", ".join(names)}, which look like splits', "name them train, val, test")
    for name in names:
        _require_writable(name, source)
    return names


def _require_writable(name: str, source: str) -> None:
    """A label stands in JSON, tables, figures, pages and terminals: text, on one line. Raises TrainingError."""
    categories = {unicodedata.category(character) for character in name}
    wrong = "it is not UTF-8" if "Cs" in categories else "it holds a line end, a tab or a control character"
    if categories & {"Cs", "Cc", "Zl", "Zp"}:  # a lone surrogate is how Python holds a byte that is no UTF-8
        raise TrainingError(f"{name!r} of {source} is no name for a class: {wrong}", "rename the folder")


def _list_split(root: Path, folder: Path, labels: tuple[str, ...]) -> tuple[Sample, ...]:
    """All files below each class folder, in a fixed order. Whether they are pictures is decided by decoding them."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise TrainingError(f'"{folder / unknown[0]}" is no class of this data', nearest(unknown[0], labels))
    number = {label: position for position, label in enumerate(labels)}
    samples = []
    for name in names:
        for where, below, files in os.walk(folder / name):
            below[:] = sorted(each for each in below if not each.startswith("."))
            relative = Path(where).relative_to(root).as_posix()
            samples += [
                Sample(f"{relative}/{file}", number[name]) for file in sorted(files) if not file.startswith(".")
            ]
    return tuple(samples)


def _require_every_class(samples: tuple[Sample, ...], labels: tuple[str, ...], source: str) -> None:
    empty = set(range(len(labels))) - {sample.label for sample in samples}
    if empty:
        names = ", ".join(f'"{labels[label]}"' for label in sorted(empty))
        raise TrainingError(f"no pictures in {names} of {source}", "add pictures or remove the folder")


def select(data: Data, split: str, recorded: Sequence[str]) -> Data:
    """The files of an unsplit folder that a split recorded, known by their sha256 wherever they are now.

    `recorded` may hold the first hex digits only. Raises TrainingError where none of them is here.
    """
    length = len(next(iter(recorded), ""))
    wanted = Counter(recorded)  # counted, so that a copy of a recorded picture does not enter a second time
    chosen = []
    for sample in data.splits["all"]:
        try:
            digest = hashlib.sha256(data.read(sample.path)).hexdigest()[:length]
        except OSError:  # what cannot be read was not recorded
            continue
        if wanted[digest]:
            wanted[digest] -= 1
            chosen.append(sample)
    if not chosen:
        raise TrainingError(
            f"none of the {len(recorded)} pictures recorded as {split} is in {data.source}",
            "name the folder that the model was trained from, or leave --split out to score all of this one",
        )
    return Data(data.source, data.labels, {split: tuple(chosen)}, data.read)


def _carve(samples: tuple[Sample, ...], fraction: float, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Stratified and seeded: (kept, carved off). A class with two or more pictures keeps and gives at least one."""
    if fraction == 0:
        return samples, ()
    generator = np.random.default_rng(seed)
    labels = np.array([sample.label for sample in samples])
    carved = np.zeros(len(samples), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        carved[members[:count]] = True
    kept = tuple(sample for sample, off in zip(samples, carved, strict=True) if not off)
    return kept, tuple(sample for sample, off in zip(samples, carved, strict=True) if off)
