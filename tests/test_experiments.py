"""The runs behind docs/training.md: their folders hold what they say, and their commands are ones that exist."""

from pathlib import Path

import pytest

from benchmarks import experiments
from benchmarks.experiments import Draw, Experiment
from tests.training import colours
from training.recipes import recipe


def drawn(draw: Draw, tmp_path: Path) -> dict[str, set[str]]:
    """Class -> file names, of a drawing from 20 images a class."""
    cifar10 = tmp_path / "cifar10"
    if not cifar10.is_dir():
        colours.write(cifar10 / "train", each=20)
    experiments._take(draw, cifar10, tmp_path / "data")
    folders = (tmp_path / "data" / draw.folder).iterdir()
    return {folder.name: {file.name for file in folder.iterdir()} for folder in folders}


def test_a_folder_has_as_many_images_of_a_class_as_asked_drawn_by_its_seed(tmp_path: Path) -> None:
    counts = {"red": 5, "blue": 3}
    train = drawn(Draw("two/train", "train", counts), tmp_path)
    assert {label: len(names) for label, names in train.items()} == counts
    val = drawn(Draw("two/val", "train", {"red": 15}, skip=5), tmp_path)
    assert not train["red"] & val["red"]
    assert drawn(Draw("other/train", "train", counts, seed=1), tmp_path) != train
    assert drawn(Draw("two/train", "train", {"green": 1}), tmp_path) == train, "what is there is kept"


def test_too_few_images_are_an_error_and_leave_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has 20 images, too few"):
        drawn(Draw("two/train", "train", {"red": 21}), tmp_path)
    assert list((tmp_path / "data").rglob("*.png")) == []


def test_every_run_names_a_folder_a_recipe_and_settings_that_exist() -> None:
    folders = {draw.folder.split("/")[0] for draw in experiments.draws()}
    for one in experiments.experiments():
        assert one.data in folders | {"digits"}
        assert one.others in folders | {None}
        recipe.load(one.recipe, [pair for pair in one.changed if not pair.startswith("backbone")])
    names = [one.name for one in experiments.experiments()]
    assert len(names) == len(set(names))


@pytest.mark.slow  # two commands in processes of their own, which other tests train and evaluate with, too
def test_a_run_is_trained_scored_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = Experiment("digits", "mnist-mlp", "digits", "mnist-mlp", ("epochs=1",))
    first = experiments._score(one, tmp_path)
    assert first["n"] == 179
    assert first["accuracy"] > 0.5
    assert "sightglass train digits" in capfd.readouterr().err
    assert experiments._score(one, tmp_path) == first
    assert capfd.readouterr().err == ""
    (_, _, row) = experiments._lines([(one, first), (one, first | {"accuracy": first["accuracy"] - 0.1})])
    assert f"{first['accuracy'] - 0.05:.3f} +- 0.071" in row
