"""What the name of a folder says: a split (seg_train, Validation, val2017), a fold, images, annotations."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

SPLITS = ("train", "val", "test")
_SPLIT_OF = (
    dict.fromkeys(("train", "training", "trainval"), "train")
    | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
    | dict.fromkeys(("test", "testing"), "test")
)
_FILLER = r"(?:data|dataset|dir|folder|images?|imgs?|photos?|images?|seg|set|split)"  # train_images is train
_COMPOUND = re.compile(rf"({'|'.join(_SPLIT_OF)})({_FILLER})")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+|[^\w\s.-]")  # TrainImages is two
_FOLD = re.compile(r"(?:k[\W_]*)?folds?[\W_]*\d+|(?:cv|split|part|chunk|shard|batch|subset)[\W_]*\d+", re.IGNORECASE)
_IMAGES = r"(?:data|frames?|images?|imgs?|inputs?|jpe?g|original|photos?|pics?|images?|png|raw|rgb)"
_ANNOTATIONS = r"(?:annotations?|b?box(?:es)?|gt|json|labels?|masks?|segmentations?|trimaps?|xmls?|yolo)"
_VOC = frozenset({"boundingboxes", "groundtruth", "imagesets", "segmentationclass", "segmentationobject"})


class Meaning(NamedTuple):
    """`split` is train, val, test or empty; `rest` the words beside it that say more, e.g. (chest,) of chest_train."""

    split: str
    rest: tuple[str, ...]
    images: bool
    annotations: bool


def meaning(name: str) -> Meaning:
    """Of one folder's name, whatever its letters' case and between its words."""
    words: list[str] = []
    for word in map(str.casefold, _WORD.findall(name)):
        compound = _COMPOUND.fullmatch(word)
        words += compound.groups() if compound else [word]
    kinds = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    rest = tuple(word for word in words if word not in _SPLIT_OF and not re.fullmatch(_FILLER, word))
    told = [word for word in words if not word.isdigit()]
    marks = any(re.fullmatch(_ANNOTATIONS, word) for word in told) and _all(f"{_ANNOTATIONS}|{_IMAGES}", told)
    return Meaning(kinds.pop() if len(kinds) == 1 else "", rest, _all(_IMAGES, told), marks or "".join(told) in _VOC)


def _all(pattern: str, words: list[str]) -> bool:
    return bool(words) and all(re.fullmatch(pattern, word) for word in words)


def splits(names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> which of the names of sibling folders call it: those that say nothing else, and those that say the same
    else of two splits (chest_train and chest_test, but neither train_ticket nor test_tube)."""
    by_rest: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        split, rest, *_ = meaning(name)
        if split:
            by_rest.setdefault(rest, {}).setdefault(split, []).append(name)
    found: dict[str, list[str]] = {}
    for rest, called in by_rest.items():
        if not rest or len(called) > 1:
            for split, those in called.items():
                found.setdefault(split, []).extend(those)
    return found


def meant(name: str) -> str | None:
    """The split that a misspelt name is likely to mean."""
    close = difflib.get_close_matches(name.casefold(), _SPLIT_OF, n=1, cutoff=0.7)
    return _SPLIT_OF[close[0]] if close else None


def is_fold(name: str) -> bool:
    """Whether it counts parts of the data: fold1, part_2, batch 3."""
    return _FOLD.fullmatch(name) is not None
