"""Where images come from: a folder of class folders or a named data set, as labels, splits and readable files."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from training.data.builtin import NAMED
from training.data.dataset import Data, Sample
from training.data.folders import layouts, listing, names
from training.data.folders.layouts import SHAPE
from training.data.folders.listing import Folder
from training.errors import TrainingError, nearest


def origin(source: str) -> str:
    """What a run records: the name of a data set or a folder's absolute path, in UTF-8 whatever the locale.

    A folder goes before the data set that has its name.
    """
    path = Path(source)
    return source if source in NAMED and not path.is_dir() else names.text(str(path.resolve()))


def index(source: str, labels: tuple[str, ...] | None = None) -> Data:
    """List a data set's files; reads no image. Splits as the folder has them, else one called `all`.

    `train/<class>/*` with optional `val/` and `test/`, or a plain `<class>/*` folder; see `layouts`.

    With `labels` (a trained model's), folder names map to those: a missing class is fine, an unknown one is an error.
    """
    if origin(source) in NAMED:
        return relabel(NAMED[source](), labels)
    try:
        return read_folder(source, labels)
    except TrainingError as error:
        if source in NAMED:
            error.hint += f'; this is the folder ./{source}: the data set "{source}" is found from other directories'
        raise


def read_folder(path: str, labels: tuple[str, ...] | None) -> Data:
    """`index` for a folder. Raises TrainingError."""
    source = names.text(path)
    require_folder(Path(path), source)
    layout = layouts.find(listing.listed(Path(path)), source, labels)
    notes = layout.left_out
    if labels is None:
        first = layout.splits.get("train") or layout.splits["all"]
        labels, twins = class_names(first, source)
        notes += twins
        if empty := [f'"{name}"' for name, each in first.folders.items() if not each.total]:
            where = listing.joined(source, first.path)
            raise TrainingError(f"no images in {', '.join(empty)} of {where}", "add images or remove the folder")
    number = {names.label(label): position for position, label in enumerate(labels)}
    splits = {}
    for split, folder in layout.splits.items():
        for name, each in folder.folders.items():
            if names.label(name) not in number:
                where = listing.joined(source, each.path)
                raise TrainingError(f'"{where}" is no class of this data', nearest(name, labels))
        splits[split] = tuple(  # in a fixed order; whether they are images is decided by decoding them
            Sample(path, number[names.label(name)]) for name, each in folder.folders.items() for path in each.paths()
        )
    return Data(origin(path), labels, splits, reader(origin(path)), tuple(notes))


def reader(origin: str) -> Callable[[str], bytes]:
    """What reads a data set's files by the paths that `index` has given; it lists nothing. Raises TrainingError."""
    if origin in NAMED:
        return NAMED[origin]().read
    root = Path(names.path(origin))
    require_folder(root, origin)

    def read(name: str) -> bytes:
        path = root / names.path(name)
        if path.exists() and not path.is_file():  # it might never end, as a pipe in a class folder
            raise OSError(f"{path.name} is no regular file")
        return path.read_bytes()

    return read


def relabel(data: Data, labels: tuple[str, ...] | None) -> Data:
    """The same samples under a trained model's labels, by name. Raises TrainingError for a class it does not know."""
    if labels is None:
        return data
    for name in data.labels:
        if name not in labels:
            raise TrainingError(f'"{name}" of {data.source} is no class of this model', nearest(name, labels))
    number = [labels.index(name) for name in data.labels]
    splits = {split: tuple(Sample(s.path, number[s.label]) for s in rows) for split, rows in data.splits.items()}
    return replace(data, labels=labels, splits=splits)


def require_folder(root: Path, source: str) -> None:
    """Raises TrainingError where there is none."""
    if root.is_dir():
        return
    if root.is_file():
        candidates = [f'"{path}"' for path in sorted(root.parent.iterdir()) if path.is_dir()][:3]
        found = f"; folders next to it: {', '.join(candidates)}" if candidates else ""
        raise TrainingError(f'"{source}" is a file; DATA is a folder of class folders', SHAPE + found)
    raise TrainingError(f'there is no folder "{source}"', f"{SHAPE}; data sets by name: {nearest(source, NAMED)}")


def class_names(folder: Folder, source: str) -> tuple[tuple[str, ...], list[str]]:
    """The labels, and what is to be said of those that are nearly the same. Raises TrainingError."""
    found = list(folder.folders)
    where = listing.joined(source, folder.path)
    if len(found) < 2:
        held = f"; {len(folder.images):,} images lie in it without one" if folder.images else ""
        raise TrainingError(f'"{where}" has {len(found)} class folders; at least 2 are needed{held}', SHAPE)
    for name in found:
        names.require_writable(name, source)
    twins = names.require_apart(found, where)
    return tuple(sorted(map(names.label, found))), twins


def select(data: Data, split: str, recorded: Sequence[str]) -> Data:
    """The files of an unsplit folder that a split recorded, known by their sha256 wherever they are now.

    `recorded` may hold the first hex digits only. Raises TrainingError where none of them is here.
    """
    length = len(next(iter(recorded), ""))
    wanted = Counter(recorded)  # counted, so that a copy of a recorded image does not enter a second time
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
            f"none of the {len(recorded)} images recorded as {split} is in {data.source}",
            "name the folder that the model was trained from, or leave --split out to score all of this one",
        )
    return replace(data, splits={split: tuple(chosen)})
