"""Folders as people have them: taken as they are meant, or refused in a sentence that says what to do."""

from collections import Counter
from pathlib import Path

import pytest

from tests.training.data.folders.trees import grow
from training.data.dataset import Data
from training.data.source import index
from training.errors import TrainingError


def counts(data: Data) -> dict[str, dict[str, int]]:
    """Split -> class -> images."""
    return {
        name: dict(Counter(data.labels[sample.label] for sample in samples)) for name, samples in data.splits.items()
    }


SPLIT = {"train": {"cat": 3, "dog": 3}, "test": {"cat": 2, "dog": 2}}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "Test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_images", "test_images"),
        ("TrainSet", "TestSet"),
        ("trainset", "testset"),
        ("chest_train", "chest_test"),
        ("train2017", "test2017"),
        ("training-set", "testing-set"),
        ("dataset/train", "dataset/test"),
        ("a/b/c/train", "a/b/c/test"),
        ("train/images", "test/images"),
        ("dataset/train_data/train", "dataset/train_data/test"),
    ],
)
def test_splits_have_many_names_and_lie_at_any_depth(train: str, test: str, tmp_path: Path) -> None:
    grow(tmp_path, {f"{train}/cat": 3, f"{train}/dog": 3, f"{test}/cat": 2, f"{test}/dog": 2})
    data = index(str(tmp_path))
    assert counts(data) == SPLIT
    assert data.splits["train"][0].path == f"{train}/cat/000.jpg"
    assert data.left_out == ()


@pytest.mark.parametrize(
    "name", ["val", "Val", "valid", "validation", "VALIDATION", "dev", "val_set", "validation_images"]
)
def test_val_has_many_names(name: str, tmp_path: Path) -> None:
    grow(tmp_path, {"Train/x": 3, "Train/y": 3, f"{name}/x": 1, f"{name}/y": 1})
    assert counts(index(str(tmp_path))) == {"train": {"x": 3, "y": 3}, "val": {"x": 1, "y": 1}}


@pytest.mark.parametrize("inner", ["photos", "flowers/flower_photos", "images", "data/raw/images"])
def test_a_plain_folder_may_lie_further_down(inner: str, tmp_path: Path) -> None:
    grow(tmp_path, {f"{inner}/rose": 3, f"{inner}/tulip/wild": 2})
    data = index(str(tmp_path))
    assert counts(data) == {"all": {"rose": 3, "tulip": 2}}
    assert data.source == str(tmp_path)


def test_images_with_class_folders_may_have_annotations_beside_them(tmp_path: Path) -> None:
    grow(tmp_path, {"images/cat": 3, "images/dog": 3, "labels/cat.txt": -1})
    assert counts(index(str(tmp_path))) == {"all": {"cat": 3, "dog": 3}}


@pytest.mark.parametrize("name", ["train", "test", "Train", "training"])
def test_a_class_may_be_called_like_a_split(name: str, tmp_path: Path) -> None:
    grow(tmp_path, {"bus": 3, "car": 3, name: 3})
    assert counts(index(str(tmp_path))) == {"all": {"bus": 3, "car": 3, name: 3}}
    assert counts(index(str(tmp_path), labels=("bus", "car", name, "tram"))) == {"all": {"bus": 3, "car": 3, name: 3}}
    inside = grow(tmp_path / "inside", {f"train/{each}": 2 for each in ("bus", name)})
    assert counts(index(str(inside))) == {"train": {"bus": 2, name: 2}}


def test_classes_may_have_split_words_in_their_names(tmp_path: Path) -> None:
    names = ("train ticket", "test tube", "steam_train", "validated", "image of a mask")
    assert set(index(str(grow(tmp_path, dict.fromkeys(names, 1)))).labels) == set(names)


REFUSED: list[tuple[dict[str, int], str, str]] = [
    # splits that hold no classes
    ({"train/a": 2, "train/b": 2, "val": 3}, '/val" has 3 images but no class folders', "val/<class>/*.jpg"),
    ({"train/a": 2, "train/b": 2, "test": 1}, '/test" has 1 image but no class folders', "move test out"),
    ({"Train/a": 2, "Train/b": 2, "Validation": 3}, '/Validation" has 3 images but', "move Validation out"),
    ({"train": 2, "test": 2}, '/train" has 2 images but no class folders', "train/<class>/*.jpg"),
    ({"train_images": 2, "test_images": 2}, '/train_images" has 2 images but no class', "train/<class>/*.jpg"),
    ({"train/a/images": 2, "train/b/images": 2, "val/images": 2}, '/val" has 2 images but no class', "val/<class>"),
    ({"train/a": 2, "train/b": 2, "val": 0}, '/val" has no images', "fill it"),
    # what is no split beside splits
    ({"train/a": 1, "train/b": 1, "cat": 1}, '"cat", which is no split', "a class called train needs another name"),
    ({"train/a": 1, "train/b": 1, "test/a": 1, "cat/x": 1}, '"cat", which is no split', "move it out"),
    ({"train/a": 1, "train/b": 1, "tets/a": 1}, '"tets", which is no split', "name it test"),
    ({"train/a": 1, "train/b": 1, "vaild/a": 1}, '"vaild", which is no split', "name it val"),
    ({"trian/a": 1, "test/a": 1}, '"trian", which is no split', "name it train"),
    ({"seg_train/sea": 2, "seg_train/wood": 2, "seg_pred/seg_pred": 3}, '"seg_pred", which is no split', "move it out"),
    ({"Train/a": 1, "Train/b": 1, "train/a": 1}, '"Train" and "train", which both look like train', "together"),
    ({"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1}, '"val" and "valid", which both look', "together"),
    ({"cat_train": 2, "cat_test": 2, "dog_train": 2, "dog_test": 2}, "which both look like test", "test/<class>"),
    ({"Test/a": 1, "Test/b": 1}, "has test but no train/", "photos/train/<class>"),
    # other tasks
    ({"images": 3, "labels/0.txt": -1}, '"images" and "labels": annotations', "one label"),
    ({"images": 3, "masks": 3}, '"images" and "masks": annotations', "one label"),
    ({"images": 3, "annotations/trimaps": 3}, '"images" and "annotations": annotations', "one label"),
    ({"img": 3, "xml/0.xml": -1}, '"img" and "xml": annotations', "one label"),
    ({"JPEGImages": 3, "Annotations/0.xml": -1, "ImageSets/Main/train.txt": -1}, '"JPEGImages" and "Ann', "one label"),
    ({"JPEGImages": 3, "SegmentationClass": 3}, '"JPEGImages" and "SegmentationClass"', "one label"),
    ({"images/train": 3, "images/val": 3, "labels/train/0.txt": -1}, '"images" and "labels"', "one label"),
    ({"train/images": 3, "train/labels/0.txt": -1, "valid/images": 3}, '"images" and "labels"', "one label"),
    ({"train2017": 3, "val2017": 3, "annotations/a.json": -1}, '"train2017" and "annotations"', "one label"),
    ({"scans": 3, "labels/0.txt": -1}, '/labels" holds no images', "move it out"),
    ({"images/cat": 3, "images/dog": 3, "masks/cat": 3}, '"images" and "masks"', "try: sightglass train"),
    # parts of the data
    ({"fold1/a": 2, "fold1/b": 2, "fold2/a": 2, "fold2/b": 2}, "fold1, fold2, which look like parts", "<class>/*.jpg"),
    ({"fold_0": 2, "fold_1": 2, "fold_2": 2, "fold_3": 1}, "fold_0, fold_1, fold_2 and 1 more, which look", "<class>"),
    ({"data/Fold 1/a": 2, "data/Fold 1/b": 2, "data/Fold 2/a": 2}, "Fold 1, Fold 2, which look", "<class>"),
    ({"batch1/a": 2, "batch1/b": 2, "batch2/a": 2, "batch2/b": 2}, "batch1, batch2, which look", "other names"),
    ({"fold1/train/a": 1, "fold1/val/a": 1, "fold2/train/a": 1, "fold2/val/a": 1}, "its own splits", "/fold1"),
    (
        {"cat/train": 2, "cat/test": 2, "dog/train": 2, "dog/test": 2},
        "cat, dog, each with test, train",
        "train/cat/*.jpg",
    ),
    # no classes
    ({"": 5}, "has 0 class folders; at least 2 are needed; 5 images lie in it without one", "photos/<class>"),
    ({"x/images": 5}, '/x" has 1 class folders', "photos/<class>"),
]


@pytest.mark.parametrize(("folders", "message", "hint"), REFUSED, ids=["+".join(case[0]) for case in REFUSED])
def test_what_cannot_be_meant_is_refused_with_what_to_do(
    folders: dict[str, int], message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as refusal:
        index(str(grow(tmp_path / "data", folders)))
    assert message in str(refusal.value)
    assert hint in refusal.value.hint
    assert "\n" not in f"{refusal.value}{refusal.value.hint}"


@pytest.mark.parametrize("names", [("part1", "part2"), ("test tube", "label"), ("test1", "test2"), ("labels", "boxes")])
def test_classes_may_be_numbered_and_called_anything(names: tuple[str, ...], tmp_path: Path) -> None:
    folders = dict.fromkeys(names, 2)
    assert counts(index(str(grow(tmp_path, folders)))) == {"all": folders}


def test_images_beside_the_class_folders_are_named(tmp_path: Path) -> None:
    grow(tmp_path, {"": 15, "cat": 2, "dog": 2})
    assert index(str(tmp_path)).left_out == (
        "15 images lie beside the class folders and are left out: 000.jpg, 001.jpg, 002.jpg and 12 more",
    )
    grow(tmp_path / "split", {"x/train": 1, "x/train/a": 2, "x/train/b": 2, "x/test/a": 1})
    assert index(str(tmp_path / "split")).left_out == (
        "1 image lies beside the class folders and is left out: x/train/000.jpg",
    )


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    grow(tmp_path, {"cat": 2, "dog": 2, "cat/a.xml": -1, "dog/b.XML": -1, "notes": -1})
    assert index(str(tmp_path)).left_out == (
        "3 other files are left out, no image by its bytes or name (.xml, no ending)",
    )


def test_the_same_subfolders_in_every_class_are_named(tmp_path: Path) -> None:
    grow(tmp_path, {f"{year}/{name}": 2 for year in (2019, 2020) for name in ("cat", "dog")})
    data = index(str(tmp_path))
    assert data.labels == ("2019", "2020")
    assert "the same subfolders (cat, dog)" in data.left_out[0]
    grow(tmp_path / "2020", {"owl": 1})
    assert index(str(tmp_path)).left_out == ()
