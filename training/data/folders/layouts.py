"""Which folders of a data set are splits, and in which its classes lie. What is laid out otherwise is refused."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from training.console.terminal import count
from training.data.folders import vocabulary
from training.data.folders.listing import Folder, joined
from training.data.folders.names import label
from training.data.folders.vocabulary import SPLITS, meaning
from training.errors import TrainingError

SHAPE = "expected photos/<class>/*.jpg or photos/train/<class>/*.jpg"
_SHOWN = 3  # names in a sentence


class Layout(NamedTuple):
    """`splits`: train, val and test, or `all`, with the folder whose subfolders are its classes; `left_out`: sentences
    about the images, other files and links that are in none."""

    splits: dict[str, Folder]
    left_out: list[str]


def find(root: Folder, source: str, labels: Sequence[str] | None) -> Layout:
    """`source` is what the root is called; `labels`, of a trained model, are classes whatever they are called.

    Raises TrainingError.
    """
    known = frozenset(labels or ())
    passed = list(way(root, source, known))
    here = passed[-1]
    found = splits_in(here, source, known)
    if not found:
        require_classes(here, source, known)
        return Layout({"all": here}, left_out(root, passed, [here]))
    if labels is None and "train" not in found:
        raise TrainingError(f'"{joined(source, here.path)}" has {", ".join(found)} but no train/', SHAPE)
    inner = []
    for name, folder in found.items():
        folders = list(way(folder, source, known))
        require_sorted(folders[-1], source, name, known)
        known |= {label(each) for each in folders[-1].folders}  # train comes first
        passed += folders
        inner.append(folders[-1])
    return Layout(dict(zip(found, inner, strict=True)), left_out(root, passed, inner))


def way(folder: Folder, source: str, known: frozenset[str]) -> Iterator[Folder]:
    """The folder and, where all images lie in one that is no class, that one, and so on: archives often have all of it
    one level further down. Raises TrainingError for what is laid out for another task."""
    while True:
        require_no_annotations(folder, source, known)
        yield folder
        inside = [each for each in folder.folders.values() if each.total or not meaning(each.name).annotations]
        if len(inside) != 1 or inside[0].images or label(inside[0].name) in known:
            return
        inner, split = inside[0], meaning(inside[0].name).split
        repeats = split == meaning(folder.name).split  # as in seg_train/seg_train
        deep = [name for name, each in inner.filled.items() if not each.flat]
        if split and not repeats and len(vocabulary.splits(deep)) < 2:
            return
        folder = inner


def splits_in(here: Folder, source: str, known: frozenset[str]) -> dict[str, Folder]:
    """Those of the subfolders that split the data; none where they are classes. Raises TrainingError."""
    named = vocabulary.splits(list(here.folders))
    folders = [here.folders[name] for names in named.values() for name in names]
    others = [folder for folder in here.filled.values() if folder not in folders]
    classes = all(folder.flat and label(folder.name) in known for folder in (*folders, *others))
    alone = len(folders) == 1 and folders[0].flat and others  # a class that is called train
    if classes or alone or not any(folder.total for folder in folders):
        return {}
    where = joined(source, here.path)
    for split, names in named.items():
        if len(names) > 1:
            both = " and ".join(f'"{name}"' for name in names[:2])
            raise TrainingError(
                f'"{where}" has {both}, which both look like {split}',
                f"put them together as {split}/<class>/*.jpg, or rename one",
            )
    if others:  # `train/` beside, say, `vaild/` or a class folder is a mistake that would be noticed late
        found = [name for names in named.values() for name in names]
        meant = vocabulary.meant(others[0].name)
        hint = "move it out of the folder"
        if meant and meant not in named:
            hint = f"name it {meant}, or {hint}"
        elif len(found) == 1:
            hint = f"{hint}, or into {found[0]}/; a class called {found[0]} needs another name"
        raise TrainingError(f'"{where}" has {", ".join(found)} and also "{others[0].name}", which is no split', hint)
    return {split: here.folders[named[split][0]] for split in SPLITS if split in named}


def require_sorted(folder: Folder, source: str, split: str, known: frozenset[str]) -> None:
    """Raises TrainingError for a split whose images lie in no class folders, or in one that is called images."""
    where, filled = joined(source, folder.path), list(folder.filled.values())
    if not folder.total:
        raise TrainingError(f'"{where}" has no images', "fill it, or move it out of the folder")
    alone = filled[0] if len(filled) == 1 else None
    only_images = alone and alone.flat and meaning(alone.name).images and label(alone.name) not in known
    if not filled or only_images:
        raise TrainingError(
            f'"{where}" has {count(folder.total, "image")} but no class folders',
            f"sort them into {split}/<class>/*.jpg, or move {folder.name} out of the folder",
        )


def require_no_annotations(here: Folder, source: str, known: frozenset[str]) -> None:
    """Raises TrainingError for data of detection and segmentation: images/ beside labels/, masks/, annotations/."""
    marks = [folder for folder in here.folders.values() if meaning(folder.name).annotations]
    if not marks or all(label(name) in known for name in here.folders):
        return
    splits = {name for names in vocabulary.splits(list(here.folders)).values() for name in names}
    images = [
        folder
        for name, folder in here.filled.items()
        if folder not in marks and (meaning(name).images or name in splits)
    ]
    where, mark = joined(source, here.path), next((folder for folder in marks if folder.total), marks[0])
    meanings = {folder.path: [meaning(name) for name in folder.filled] for folder in images}
    sorted_ = [  # those that hold classes
        folder
        for folder in images
        if sum(not (kind.split or kind.images or kind.annotations) for kind in meanings[folder.path]) > 1
    ]
    if len(sorted_) < len(images) or (images and mark.total):
        hint = f"try: sightglass train {joined(source, sorted_[0].path)}" if sorted_ else ""
        raise TrainingError(
            f'"{where}" has "{images[0].name}" and "{mark.name}": annotations beside images, not class folders',
            hint or f"each image needs one label: {SHAPE}",
        )
    if not images and not mark.total and here.filled:
        raise TrainingError(f'"{joined(source, mark.path)}" holds no images, so it is no class', "move it out")


def require_classes(here: Folder, source: str, known: frozenset[str]) -> None:
    """Raises TrainingError for folders that are parts of the data, or have the splits inside."""
    filled = list(here.filled.values())
    if len(filled) < 2 or all(label(folder.name) in known for folder in filled):
        return
    where, first = joined(source, here.path), filled[0]
    shown, folds = _some(folder.name for folder in filled), all(vocabulary.is_fold(folder.name) for folder in filled)
    splits = [vocabulary.splits(list(folder.filled)) for folder in filled]
    if folds and min(map(len, splits)) > 1:
        raise TrainingError(
            f'"{where}" has {shown}, each with its own splits', f"try: sightglass train {where}/{first.name}"
        )
    if min(map(len, splits)) > 1 and not any(folder.images for folder in filled):
        inside = ", ".join(name for names in splits[0].values() for name in names)
        raise TrainingError(
            f'"{where}" has {shown}, each with {inside} inside',
            f"turn them round: train/{first.name}/*.jpg and test/{first.name}/*.jpg",
        )
    if folds and ("fold" in first.name.casefold() or not any(folder.images for folder in filled)):
        raise TrainingError(
            f'"{where}" has {shown}, which look like parts of the data and not like classes',
            f"put their class folders together: {where}/<class>/*.jpg; classes need other names",
        )


def left_out(root: Folder, passed: Sequence[Folder], inner: Sequence[Folder]) -> list[str]:
    """What is not silently dropped."""
    said = []
    loose = [joined(folder.path, image) for folder in passed for image in folder.images]
    if loose:
        lie = "lies" if len(loose) == 1 else "lie"
        said.append(f"{count(len(loose), 'image')} {lie} beside the class folders and {_left(loose)}: {_some(loose)}")
    lost = [joined(folder.path, name) for folder in root.below() for name in folder.lost]
    if lost:
        said.append(f"{count(len(lost), 'link')} to nowhere, or back to a folder above, {_left(lost)}: {_some(lost)}")
    others = sum((folder.others for folder in root.below()), Counter[str]())
    if others:
        endings = _some(ending or "no ending" for ending, _ in others.most_common())
        many = [*others.elements()]
        said.append(f"{count(len(many), 'other file')} {_left(many)}, no image by its bytes or name ({endings})")
    # a suspicion: 2019/cat, 2019/dog, 2020/cat, 2020/dog may mean classes 2019 and 2020, or cat and dog
    for folder in inner:
        inside = [each.filled.keys() for each in folder.filled.values() if not each.images]
        if len(inside) == len(folder.filled) > 1 and len(inside[0]) > 1 and all(keys == inside[0] for keys in inside):
            same = f"every class has the same subfolders ({_some(inside[0])})"
            said.append(f"{same}: if those are the classes, they must lie above")
    return said


def _left(what: Sequence[object]) -> str:
    return "is left out" if len(what) == 1 else "are left out"


def _some(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
