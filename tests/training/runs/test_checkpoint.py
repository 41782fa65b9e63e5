"""A run folder: whole files, readable again, and clear about damage."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from training.data.dataset import Sample
from training.errors import TrainingError
from training.recipes import recipe
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.runs.history import rank
from training.runs.trained_model import TrainedModel


@pytest.fixture
def copy(colours_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(colours_run, tmp_path / "run")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(path, {"epoch": 2, "cannot": lambda: None})
    assert checkpoint.load(path) == {"epoch": 1}


def test_tensors_come_back_bit_by_bit(tmp_path: Path) -> None:
    state = {"weight": torch.rand(3, 4), "history": [{"epoch": 1, "loss": 0.1}]}
    checkpoint.save(tmp_path / "x.pt", state)
    loaded = checkpoint.load(tmp_path / "x.pt")
    assert torch.equal(loaded["weight"], state["weight"])
    assert loaded["history"] == state["history"]


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"network": Path("anything")}, tmp_path / "weights.pt")
    with pytest.raises(TrainingError, match="is damaged"):
        checkpoint.load(tmp_path / "weights.pt")


def test_a_truncated_checkpoint_is_named(copy: Path) -> None:
    content = (copy / "weights.pt").read_bytes()
    (copy / "weights.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match=r"weights\.pt is damaged"):
        TrainedModel.load(copy)


def test_a_run_without_a_finished_epoch_says_how_to_go_on(copy: Path) -> None:
    (copy / "weights.pt").unlink()
    with pytest.raises(TrainingError, match=r"there is no .*weights\.pt") as refusal:
        TrainedModel.load(copy)
    assert "--resume" in refusal.value.hint


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no run") as refusal:
        Run.open(tmp_path)
    assert "sightglass train" in refusal.value.hint


@pytest.mark.parametrize("name", ["meta.json", "splits.json"])
def test_a_damaged_record_is_named(name: str, copy: Path) -> None:
    (copy / name).write_text("{")
    with pytest.raises(TrainingError, match=name.replace(".", r"\.")):
        Run.open(copy).data()


def test_an_open_run_has_the_labels_input_and_history_it_was_trained_with(colours_run: Path) -> None:
    run = Run.open(colours_run)
    assert run.labels == ("blue", "green", "red")
    assert (run.input.width, run.input.height, run.input.channels) == (16, 16, 3)
    assert [row["epoch"] for row in run.history()] == [1, 2, 3]
    assert not TrainedModel.of(run).network.training


def test_a_runs_data_are_its_recorded_splits_wherever_the_files_are_now(
    colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    (moved / "red" / "later.png").write_bytes(b"came after the training")
    (moved / "yellow").mkdir()  # so did a class, for the next run
    run = Run.open(colours_run)
    assert run.data(str(moved)).splits == run.data().splits
    first = run.data().splits["test"][0].path
    assert run.data(str(moved)).read(first) == (colours_data / first).read_bytes()


@pytest.mark.parametrize("path", ["a/x],[y.png", 'a/"quoted".png', "a/na\u00efve \U0001f600.png", "a/b\udcff.png"])
def test_any_file_name_survives_splits_json(path: str, tmp_path: Path) -> None:
    checkpoint.write_splits(tmp_path, ("a",), {"train": ((Sample(path, 0),) * 2, ("0" * 64,) * 2)})
    assert json.loads((tmp_path / "splits.json").read_text()) == {"train": [[path, "a", "0" * 64]] * 2}


@pytest.mark.parametrize(("balance", "score"), [("none", "accuracy"), ("loss", "macro_f1"), ("sampling", "macro_f1")])
def test_epochs_rank_by_what_the_recipe_is_for_then_loss(balance: str, score: str) -> None:
    """An epoch that answers nothing but the common class has the best accuracy where val is as unequal as train."""
    common = {"val_accuracy": 0.5, "val_macro_f1": 0.5, "val_loss": 0.1}
    worse = common | {f"val_{score}": 0.4, "val_loss": 0.0}
    calmer = common | {"val_loss": 0.05}
    key = rank(recipe.load("digits", [f"balance={balance}"]))
    assert sorted([calmer, worse, common], key=key) == [worse, common, calmer]
