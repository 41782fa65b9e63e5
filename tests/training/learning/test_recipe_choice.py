"""Which recipe `train` takes where nobody names one: by size, colour and number of images, and the weights at hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.images import drawing
from training.data.dataset import Data
from training.data.source import index
from training.errors import TrainingError
from training.learning.recipe_choice import choose
from training.models import registry
from training.recipes import recipe


def write(root: Path, width: int, height: int, mode: str = "RGB") -> Path:
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(4):
            drawing(width, height, seed=number).convert(mode).save(root / label / f"{number}.png")
    return root


@pytest.fixture
def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the packages of weights, and with empty caches."""
    monkeypatch.setattr(registry, "PACKAGES", {})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize(
    ("width", "height", "mode", "expected", "expects"),
    [
        (640, 41, "RGB", "few-photos", True),
        (200, 200, "L", "few-photos", True),
        (32, 32, "RGB", "few-small", True),
        (8, 8, "RGB", "few-small", True),
        (28, 28, "L", "mnist-cnn", True),
        (8, 8, "L", "digits", False),
    ],
)
def test_size_and_colour_choose_the_recipe(
    width: int, height: int, mode: str, expected: str, expects: bool, tmp_path: Path
) -> None:
    found = choose(index(str(write(tmp_path, width, height, mode))), has_weights=False)
    assert found.recipe == expected
    assert f"({min(width, height)} px" in found.why
    assert bool(found.expect) == expects


@pytest.mark.parametrize(
    ("width", "height", "mode", "expected"),
    [
        (640, 256, "RGB", "head-then-fine-tuning"),
        (640, 41, "RGB", "head-then-fine-tuning-small"),
        (300, 300, "L", "head-then-fine-tuning"),
        (32, 32, "RGB", "head-then-fine-tuning-small"),
        (28, 28, "L", "head-then-fine-tuning-small"),
        (8, 8, "L", "digits"),
    ],
)
def test_few_images_that_the_weights_know_something_of_start_from_them(
    width: int, height: int, mode: str, expected: str, tmp_path: Path
) -> None:
    found = choose(index(str(write(tmp_path, width, height, mode))), has_weights=False)
    assert (found.recipe, found.expect) == (expected, "")
    assert found.minutes == (None if expected == "digits" else 4)


def test_an_instant_head_is_for_what_takes_minutes(tmp_path: Path) -> None:
    data = index(str(write(tmp_path, 100, 100)))
    assert choose(many(data, 2500), has_weights=False).recipe == "head-then-fine-tuning-small"
    assert choose(many(data, 2501), has_weights=False).recipe not in recipes_from_a_head()


@pytest.mark.parametrize(
    ("side", "mode", "times", "expected", "minutes"),
    [
        (32, "RGB", 159, "head-then-fine-tuning-small", 4),  # 1,272 images
        (32, "RGB", 160, "head-then-fine-tuning-thumbnails", 4),
        (32, "RGB", 2000, "head-then-fine-tuning-thumbnails", 16),
        (100, "RGB", 2000, "head-then-fine-tuning-small", 4),
    ],
)
def test_of_many_thumbnails_the_size_and_the_minutes_let_everything_learn(
    side: int, mode: str, times: int, expected: str, minutes: float, tmp_path: Path
) -> None:
    found = choose(many(index(str(write(tmp_path, side, side, mode))), times), has_weights=False)
    assert (found.recipe, found.minutes) == (expected, minutes)


def test_small_grey_images_learn_from_scratch_where_they_are_many(tmp_path: Path) -> None:
    data = index(str(write(tmp_path, 28, 28, "L")))
    assert choose(many(data, 49), has_weights=False).recipe == "head-then-fine-tuning-small"
    found = choose(many(data, 50), has_weights=False)
    assert found.recipe == "mnist-cnn"
    assert "200 images a class are enough to learn from without" in found.why


def recipes_from_a_head() -> list[str]:
    return [name for name in recipe.names() if recipe.load(name).head_fit == "logistic"]


@pytest.mark.usefixtures("without_weights")
def test_small_images_need_enough_for_large_batches(tmp_path: Path) -> None:
    data = index(str(write(tmp_path, 32, 32, "RGB")))
    images = len(data.splits["all"])
    assert choose(many(data, 1280 // images + 1), has_weights=False).recipe == "residual-cnn-onecycle"
    assert choose(many(data, 1280 // images - 1), has_weights=False).recipe == "few-small"


def many(data: Data, times: int) -> Data:
    """The same images over and over."""
    return replace(data, splits={"all": data.splits["all"] * times})


@pytest.mark.usefixtures("without_weights")
def test_the_number_of_images_a_class_chooses_too(tmp_path: Path) -> None:
    data = index(str(write(tmp_path, 100, 100)))
    assert choose(many(data, 249), has_weights=False).recipe == "few-photos"
    assert choose(many(data, 250), has_weights=False).recipe == "photos"
    assert choose(many(data, 49), has_weights=True).recipe == "feature-extraction-hidden-head"
    assert choose(many(data, 50), has_weights=True).recipe == "fine-tuning"


@pytest.mark.usefixtures("without_weights")
def test_pretrained_weights_that_are_here_are_used(tmp_path: Path) -> None:
    data = index(str(write(tmp_path / "data", 100, 100)))
    assert choose(data, has_weights=False).recipe == "few-photos"
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/resnet18-f37072fd.pth").touch()
    found = choose(data, has_weights=False)
    assert found.recipe == "feature-extraction-hidden-head"
    assert "pretrained weights are on this machine" in found.why


def test_digits_choose_the_digits_recipe() -> None:
    assert choose(index("digits"), has_weights=False).recipe == "digits"


def test_files_that_are_no_images_do_not_disturb_the_choice(tmp_path: Path) -> None:
    root = write(tmp_path, 8, 8, "L")
    (root / "a" / "notes.txt").write_text("hello")
    assert choose(index(str(root)), has_weights=False).recipe == "digits"


def test_nothing_but_other_files_is_an_error(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "notes.jpg").write_text("hello")
    with pytest.raises(TrainingError, match="none of 2 files"):
        choose(index(str(tmp_path)), has_weights=False)
