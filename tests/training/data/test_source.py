"""Folders and named data sets become labels and splits."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.dataset import Data, Sample
from training.data.source import index, reader
from training.data.splits import split
from training.errors import TrainingError


def write(root: Path, counts: dict[str, int]) -> Path:
    """Empty files: listing must not open them."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number:03}.jpg").touch()
    return root


def counts(data: Data, split: str) -> Counter[str]:
    return Counter(data.labels[sample.label] for sample in data.splits[split])


def everything(data: Data) -> list[Sample]:
    return [sample for split in data.splits.values() for sample in split]


def test_a_plain_folder_is_split_stratified(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"rose": 100, "tulip": 50})
    data = split(index(str(root)), 0.1, 0.2, seed=0)
    assert data.labels == ("rose", "tulip")
    assert counts(data, "train") == {"rose": 70, "tulip": 35}
    assert counts(data, "val") == {"rose": 10, "tulip": 5}
    assert counts(data, "test") == {"rose": 20, "tulip": 10}


def test_splits_are_disjoint_and_complete(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"rose": 37, "tulip": 11, "violet": 3})
    data = split(index(str(root)), 0.1, 0.1, seed=3)
    found = [sample.path for sample in everything(data)]
    assert len(found) == len(set(found))
    assert set(found) == {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")}
    assert all(data.labels[sample.label] == Path(sample.path).parent.name for sample in everything(data))


def test_the_seed_alone_decides_the_split(tmp_path: Path) -> None:
    root = str(write(tmp_path / "photos", {"rose": 40, "tulip": 40}))
    assert split(index(root), 0.1, 0.1, seed=0).splits == split(index(root), 0.1, 0.1, seed=0).splits
    assert split(index(root), 0.1, 0.1, seed=0).splits != split(index(root), 0.1, 0.1, seed=1).splits


def test_a_rare_class_keeps_an_image_to_train_on(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"one": 1, "two": 2, "three": 3, "many": 50})
    data = split(index(str(root)), 0.1, 0.1, seed=0)
    assert set(counts(data, "train")) == {"one", "two", "three", "many"}
    assert counts(data, "test")["two"] == 1, "a class of two gives one to test"


def test_given_splits_are_kept_as_they_are(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a": 5, "train/b": 4, "val/a": 3, "val/b": 2, "test/a": 1, "test/b": 2})
    data = split(index(str(root)), 0.5, 0.5, seed=0)
    for name in ("train", "val", "test"):
        assert {sample.path for sample in data.splits[name]} == {
            path.relative_to(root).as_posix() for path in (root / name).rglob("*.jpg")
        }


def test_without_val_it_is_carved_from_train_and_test_stays(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a": 50, "train/b": 50, "test/a": 7, "test/b": 7})
    data = split(index(str(root)), 0.1, 0.1, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 90, "val": 10, "test": 14}
    assert all(sample.path.startswith("train/") for sample in data.splits["val"])
    assert all(sample.path.startswith("test/") for sample in data.splits["test"])


def test_without_test_there_is_no_test_split(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a": 50, "train/b": 50, "val/a": 7, "val/b": 7})
    assert list(split(index(str(root)), 0.1, 0.1, seed=0).splits) == ["train", "val"]


def test_a_class_that_val_lacks_is_fine(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a": 5, "train/b": 5, "val/b": 3})
    assert counts(split(index(str(root)), 0.1, 0.1, seed=0), "val") == {"b": 3}


# Images by folder, what is said of them, and the hint.
REFUSED = {
    "a class that train lacks": (
        {"train/roses": 5, "train/tulips": 5, "val/tulps": 3},
        "tulps",
        'did you mean "tulips"?',
    ),
    "an empty class": ({"rose": 5, "tulip": 0}, 'no images in "tulip"', None),
    "a class that only val has": ({"train/a": 5, "train/b": 0, "val/b": 3}, 'no images in "b"', None),
    "one class": ({"rose": 5}, "1 class folders; at least 2", None),
    "no train": ({"test/a": 2, "test/b": 2}, "has test but no train/", None),
}


@pytest.mark.parametrize(("folders", "said", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_learnt_from_is_refused(
    folders: dict[str, int], said: str, hint: str | None, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=said) as refusal:
        split(index(str(write(tmp_path, folders))), 0.1, 0.1, seed=0)
    assert hint in (None, refusal.value.hint)


def test_nothing_left_to_validate_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        split(index(str(write(tmp_path, {"a": 20, "b": 20}))), 0.0, 0.1, seed=0)


def test_a_file_as_data_names_the_folders_next_to_it(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(TrainingError, match=re.escape(str(file))) as refusal:
        split(index(str(file)), 0.1, 0.1, seed=0)
    assert str(tmp_path / "images") in refusal.value.hint


def test_a_missing_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere") as refusal:
        split(index(str(tmp_path / "nowhere")), 0.1, 0.1, seed=0)
    assert "photos/<class>/*.jpg" in refusal.value.hint
    assert "digits" in refusal.value.hint


def test_a_misspelt_data_set_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError) as refusal:
        split(index("digit"), 0.1, 0.1, seed=0)
    assert refusal.value.hint.endswith('did you mean "digits"?')


def test_hidden_files_are_ignored_and_subfolders_are_searched(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": 2, "b": 2, "a/deep/er": 1, "a/.thumbnails": 1, ".git": 1})
    (root / "a" / ".DS_Store").touch()
    data = index(str(root))
    assert data.labels == ("a", "b")
    assert counts(data, "all") == {"a": 3, "b": 2}
    assert Sample("a/deep/er/000.jpg", 0) in data.splits["all"]


def test_a_models_labels_decide_the_numbers_of_the_classes(tmp_path: Path) -> None:
    """A folder without the model's first class must not shift the others."""
    root = write(tmp_path, {"cat": 1, "dog": 2})
    data = index(str(root), labels=("ant", "cat", "dog"))
    assert Counter(sample.label for sample in data.splits["all"]) == {1: 1, 2: 2}


def test_a_class_the_model_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dgo") as refusal:
        index(str(write(tmp_path, {"cat": 1, "dgo": 2})), labels=("ant", "cat", "dog"))
    assert refusal.value.hint == 'did you mean "dog"?'


def test_a_named_data_set_must_have_the_models_classes_too() -> None:
    with pytest.raises(TrainingError, match='"0"'):
        index("digits", labels=("ant", "cat", "dog"))


def test_a_named_data_set_maps_to_the_models_labels_by_name() -> None:
    reverse = tuple(str(digit) for digit in range(9, -1, -1))
    data = index("digits", labels=reverse)
    assert data.labels == reverse
    assert all(reverse[sample.label] == sample.path[0] for sample in data.splits["all"])


def test_digits_are_1797_real_8x8_images() -> None:
    data = index("digits")
    assert data.labels == tuple("0123456789")
    assert len(data.splits["all"]) == 1797
    first = np.asarray(Image.open(io.BytesIO(data.read(data.splits["all"][0].path))))
    assert first.shape == (8, 8)
    assert first.min() == 0
    assert first.max() > 200


def test_60_000_files_are_indexed_in_seconds(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {f"class{label}": 1 for label in range(10)})
    for file in list(root.rglob("*.jpg")):  # links are made faster than files
        for number in range(1, 6000):
            file.with_name(f"{number:05}.jpg").hardlink_to(file)
    started = time.process_time()
    data = split(index(str(root)), 0.1, 0.1, seed=0)
    seconds = time.process_time() - started
    shutil.rmtree(root)
    assert len(everything(data)) == 60_000
    assert seconds < 10


@pytest.mark.cifar10
def test_cifar10_keeps_its_test_folder_and_gives_a_tenth_of_train_to_val(cifar10: Path) -> None:
    data = split(index(str(cifar10)), 0.1, 0.1, seed=0)
    train, test = (len(list((cifar10 / split).rglob("*.jp*g"))) for split in ("train", "test"))
    assert len(data.labels) == 10
    assert len(data.splits["test"]) == test
    assert len(data.splits["train"]) + len(data.splits["val"]) == train
    assert len(data.splits["val"]) == pytest.approx(train / 10, abs=10)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"a\ttab", b"\x1b[31mred", b"sep\xe2\x80\xa8arated"])
@pytest.mark.parametrize("where", ["", "train"])
def test_a_class_whose_name_cannot_be_written_is_refused(name: bytes, where: str, tmp_path: Path) -> None:
    root = write(tmp_path, {str(Path(where, folder)): 5 for folder in ("rose", os.fsdecode(name))})
    with pytest.raises(TrainingError) as refusal:
        index(str(root))
    assert str(refusal.value).isprintable()
    assert "rename the folder" in refusal.value.hint


def test_a_class_may_have_any_name_that_can_be_written(tmp_path: Path) -> None:
    names = ("Löwenzahn", "蒲公英", "گل\u200cسرخ", "🌼", 'a "quoted" $name$', "-1", " ")
    assert set(index(str(write(tmp_path, dict.fromkeys(names, 1)))).labels) == set(names)


@pytest.mark.parametrize("name", ["digits", "cifar10", "mnist", "fashion-mnist"])
def test_a_folder_goes_before_the_data_set_of_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, {"cat": 2, "dog": 2})
    data = index(name)
    assert data.labels == ("cat", "dog")
    assert data.source == str(tmp_path / name)
    assert data.read("cat/000.jpg") == b""


def test_a_folder_that_hides_a_data_set_of_its_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(TrainingError, match='"digits" has 0 class folders') as refusal:
        index("digits")
    assert "./digits" in refusal.value.hint


def test_what_a_run_recorded_by_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert reader("digits")("0/00000.bmp").startswith(b"BM")


def test_a_macs_decomposed_names_are_the_same_classes(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = write(tmp_path, {f"train/{decomposed}": 2, "train/tea": 2, f"val/{composed}": 1})
    data = index(str(root))
    assert data.labels == (composed, "tea")
    assert data.splits["val"][0].label == 0
    assert data.read(data.splits["train"][0].path) == b""
    assert index(str(root / "train"), labels=("tea", decomposed)).splits["all"][0].label == 1


def test_names_are_utf_8_under_any_locale(tmp_path: Path) -> None:
    """Also of the folder itself; what is recorded is the same text, and is read again."""
    root = write(tmp_path / "Fotos für mich", {"Löwenzahn": 1, "蒲公英": 1})
    command = "; ".join(
        (
            "import json, sys",
            "from training.data.source import index, reader",
            "data = index(sys.argv[1])",
            "found = [data.source, data.labels, [sample.path for sample in data.splits['all']]]",
            "assert reader(json.loads(sys.stdin.read()))('L\\xf6wenzahn/000.jpg') == b''",
            "print(json.dumps(found))",
        )
    )
    here = index(str(root))
    expected = [here.source, list(here.labels), [sample.path for sample in here.splits["all"]]]
    for locale in ("POSIX", "C.UTF-8"):
        environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        said = subprocess.run(
            [sys.executable, "-c", command, root],
            env=environment,
            input=json.dumps(here.source).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        assert json.loads(said.stdout) == expected
