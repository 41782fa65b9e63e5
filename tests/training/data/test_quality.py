"""What `train` says of its images: copies and their sides, two labels for one, what the crop loses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training import colours
from training.console.progress import Talk
from training.learning import plan, prepare
from training.learning.prepare import RunData
from training.variants.golden import draw

SETTINGS = ["input_size=16", "channels=3", "val_fraction=0.2", "test_fraction=0.2"]


# What is said of the data where they are read.
SAID = {
    "data": "{} images, 2 classes -> train {} / val {} / test {}",
    "copies": "{} images are copies of another ({} the same file, {} nearly the same): copies stay on one side",
    "test is known": "scores of test are too good",
    "two labels": "{} under two labels ({}), listed in the run's two_labels",
    "crop": "the centred crop keeps {} of an image in the median, and half or less of {} of 20",
}


def read(data: Path, *settings: str) -> RunData:
    made = plan.make(str(data), data.parent / "run", "digits", [*SETTINGS, *settings])
    return prepare.read(made, Talk())


def paint(folder: Path, count: int, seed: int, size: tuple[int, int] = (48, 40)) -> None:
    """Drawings that differ."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(np.asarray(draw(*size, generator))).save(folder / f"{number:03}.png")


def sides(found: RunData) -> dict[str, str]:
    return {sample.path: name for name, split in found.sets.items() for sample in split.samples}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """20 drawings of each of two classes."""
    for seed, name in enumerate(("cat", "dog")):
        paint(tmp_path / "data" / name, 20, seed)
    return tmp_path / "data"


def test_copies_stay_on_one_side_and_are_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same file, and the same image as a JPEG, as a WebP of twice the size and a little darker."""
    for file in sorted(data.glob("*/*.png")):
        image = Image.open(file)
        shutil.copy(file, file.with_name(f"{file.stem}_again.png"))
        image.save(file.with_suffix(".jpg"), quality=80)
        image.resize((96, 80), Image.Resampling.BICUBIC).save(file.with_suffix(".webp"), quality=80)
        image.point(lambda value: value * 0.96).save(file.with_name(f"{file.stem}_dark.png"))
    side = sides(read(data))
    assert len(side) == 200
    for file in data.glob("*/0??.png"):
        stem = file.relative_to(data).with_suffix("").as_posix()
        assert len({side[path] for path in side if path.startswith(stem)}) == 1
    assert set(side.values()) == {"train", "val", "test"}
    said = capsys.readouterr().err
    assert SAID["copies"].format(160, 40, 120) in said
    assert SAID["test is known"] not in said


def test_images_that_only_resemble_each_other_are_no_copies(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours.write(data.parent / "noise", each=60)
    for source in (data, data.parent / "noise", Path("digits")):
        read(source, "channels=3") if source.name != "digits" else prepare.read(
            plan.make("digits", data.parent / "run", "digits"), Talk()
        )
    said = capsys.readouterr().err
    assert "cop" not in said
    assert "label" not in said


def test_copies_between_given_splits_are_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data.parent / "split").mkdir()
    data = data.rename(data.parent / "split" / "train")
    for name in ("cat", "dog"):
        paint(data.parent / "Test" / name, 5, 10)
    shutil.copy(data / "cat/003.png", data.parent / "Test/cat/copy.png")
    Image.open(data / "cat/004.png").save(data.parent / "Test/cat/again.jpg", quality=85)
    found = read(data.parent)
    assert {name: len(split) for name, split in found.sets.items()} == {"train": 32, "val": 8, "test": 12}
    said = capsys.readouterr().err
    shared = {sides(found)[f"train/cat/00{k}.png"] for k in (3, 4)}
    number = "2 images of test are" if len(shared) == 1 else "1 image of test is"
    assert f"{number} in {min(shared)} too" in said
    assert SAID["test is known"] in said
    assert "copies of another" not in said, "which is said of train and val alone"


def test_an_image_under_two_labels_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data / "cat/003.png", data / "dog/wrong.png")
    shutil.copy(data / "cat/003.png", data / "cat/right.png")
    Image.open(data / "cat/004.png").save(data / "dog/wrong.jpg", quality=85)
    found = read(data)
    assert sorted(found.two_labels) == [
        ("cat/003.png", "dog/wrong.png", "cat/right.png"),
        ("cat/004.png", "dog/wrong.jpg"),
    ]
    said = capsys.readouterr().err
    assert SAID["two labels"].format("2 images stand", "cat/003.png and dog/wrong.png, ...") in said
    assert len({sides(found)[path] for path in found.two_labels[0]}) == 1


@pytest.mark.parametrize(
    ("size", "share"),
    [((160, 40), "25 %"), ((40, 160), "25 %"), ((80, 40), "50 %"), ((64, 36), None), ((40, 40), None)],
)
def test_what_the_crop_loses_is_said(
    size: tuple[int, int], share: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("cat", "dog")):
        paint(tmp_path / "data" / name, 10, seed, size)
    read(tmp_path / "data", "crop_fraction=0.875")
    said = capsys.readouterr().err
    assert (SAID["crop"].format(share, 20) in said) == bool(share)
    assert ("--set fit=pad" in said) == bool(share)


def test_a_few_wide_images_are_no_matter(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(data / "cat/wide", 3, 5, (160, 40))
    read(data)
    assert "crop" not in capsys.readouterr().err


def test_what_is_left_out_is_said_where_the_data_are(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data / "cat/003.png", data / "cover.png")
    (data / "cat/000.xml").touch()
    (data / "cat/broken.jpg").write_bytes(b"no image")
    found = read(data)
    said = capsys.readouterr().err
    assert SAID["data"].format(40, 24, 8, 8) in said
    for left_out in ("cover.png", "(.xml)", "(cat/broken.jpg, ...)"):
        assert left_out in said
    assert [path for path, _ in found.skipped] == ["cat/broken.jpg"]


def test_val_stays_in_memory_where_all_images_do_not_fit(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.machine, "memory_bytes", lambda: 4 * 9 * 16 * 16 * 3)
    small = read(data)
    assert {name: split.in_memory for name, split in small.sets.items()} == {"train": False, "val": True, "test": False}
    monkeypatch.undo()
    large = read(data)
    assert small.input == large.input
    for name, split in large.sets.items():
        assert split.in_memory
        every = np.arange(len(split))
        assert (split.take(every[::-1]) == small.sets[name].take(every[::-1])).all()
        assert (large.hashes[name] == small.hashes[name]).all()
        assert split.samples == small.sets[name].samples
        assert split.labels.tolist() == [sample.label for sample in split.samples]
