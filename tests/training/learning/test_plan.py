"""What a `train` command decides before it reads or writes."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import QUIET
from tests.training import colours
from training.errors import TrainingError
from training.learning import plan
from training.learning.recipe_choice import Choice
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.train import train


def make(data: Path, out: Path, name: str | None = "digits", *settings: str, **how: bool) -> plan.Plan:
    return plan.make(str(data), out, name, settings, **how)


def test_a_plan_says_which_recipe_and_why(colours_data: Path, tmp_path: Path) -> None:
    assert make(colours_data, tmp_path / "run").choice == Choice("digits", "as asked")
    chosen = make(colours_data, tmp_path / "run", None).choice
    assert (chosen.recipe, chosen.why[:14]) == ("head-then-fine-tuning-small", "the images are")


def test_planning_writes_nothing(colours_data: Path, tmp_path: Path) -> None:
    make(colours_data, tmp_path / "run", None)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_refused_without_resume_or_force(colours_run: Path, colours_data: Path) -> None:
    with pytest.raises(TrainingError, match="exists") as refusal:
        make(colours_data, colours_run)
    assert "--resume" in refusal.value.hint
    assert "--force" in refusal.value.hint


def test_force_replaces_a_run(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    assert len(Run.open(run).history()) == 3
    settings = [*colours.SETTINGS, "epochs=1", "seed=7"]
    train(plan.make(str(colours_data), run, "digits", settings, force=True), QUIET)
    assert len(Run.open(run).history()) == 1
    assert Run.open(run).recipe.seed == 7
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing is left beside it"


def test_force_does_not_replace_what_is_no_run(colours_data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(TrainingError, match="more than a run"):
        make(colours_data, tmp_path, force=True)


def test_a_file_is_never_replaced(colours_data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(TrainingError, match="is a file"):
        make(colours_data, tmp_path / "run", force=True)


def test_what_force_would_not_replace_is_refused_without_it_by_the_same_words(
    colours_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError, match="is a file") as refusal:
        make(colours_data, tmp_path / "file")
    assert refusal.value.hint == "name a folder with --out"
    for place in ("folder", "folder/.new"):  # the latter is what a killed process leaves
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "thesis.tex").touch()
        with pytest.raises(TrainingError, match=r'holds "thesis\.tex"'):
            make(colours_data, tmp_path / "folder", force=True)
        (tmp_path / place / "thesis.tex").unlink()


def test_an_empty_folder_is_a_fine_place_for_a_run(colours_data: Path, tmp_path: Path) -> None:
    assert make(colours_data, tmp_path).out == tmp_path


def test_a_new_run_takes_the_place_of_the_old_one_when_it_is_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / ".new").mkdir(parents=True)  # of a process that was killed
    (run / ".new" / "skipped.txt").touch()
    (run / "weights.pt").touch()
    with checkpoint.new_run(run) as folder:
        (folder / "meta.json").touch()
        assert (run / "weights.pt").exists()
    assert [path.name for path in run.rglob("*")] == ["meta.json"]
    checkpoint.require_replaceable(run)


@pytest.mark.parametrize("there", [[], ["run"], ["run", "weights.pt"]])
def test_a_new_run_that_cannot_begin_leaves_what_was_there(there: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    if there:
        run.mkdir()
    for name in there[1:]:
        (run / name).touch()
    with pytest.raises(KeyboardInterrupt), checkpoint.new_run(run) as folder:
        (folder / "splits.json").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == there


def test_a_resumed_run_brings_its_own_recipe_and_splits(colours_run: Path, colours_data: Path) -> None:
    resumed = make(colours_data, colours_run, None, resume=True)
    assert resumed.recipe == Run.open(colours_run).recipe
    assert resumed.data.splits == Run.open(colours_run).data().splits


def test_a_run_is_resumed_with_the_same_recipe_and_settings(colours_run: Path, colours_data: Path) -> None:
    assert make(colours_data, colours_run, "digits", *colours.SETTINGS, resume=True).resumed is not None


def test_a_run_whose_recipe_nobody_named_is_resumed_with_the_same_settings(
    colours_run: Path, colours_data: Path
) -> None:
    again = make(colours_data, colours_run, None, *colours.SETTINGS, resume=True)
    assert again.choice == Choice("digits", "as asked")


@pytest.mark.parametrize("word", ["DEFAULT", "torchvision's resnet18-f37072fd.pth"])
def test_the_same_command_goes_on_that_began_with_weights(
    word: str, colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    """`--from DEFAULT` is recorded as the file that it stood for."""
    run = Path(shutil.copytree(colours_run, tmp_path / "run"))
    meta = json.loads((run / "meta.json").read_text())
    meta["weights"], meta["recipe"]["weights"] = "torchvision's resnet18-f37072fd.pth", "DEFAULT"
    (run / "meta.json").write_text(json.dumps(meta))
    made = plan.make(str(colours_data), run, None, [], weights=word, resume=True, force=False)
    assert made.resumed is not None
    with pytest.raises(TrainingError, match=r"not from another\.pth"):
        plan.make(str(colours_data), run, None, [], weights="another.pth", resume=True, force=False)


@pytest.mark.parametrize("name", ["digits", None])
def test_a_run_is_not_resumed_with_other_settings(name: str | None, colours_run: Path, colours_data: Path) -> None:
    with pytest.raises(TrainingError, match="other settings"):
        make(colours_data, colours_run, name, "epochs=99", resume=True)


def test_what_is_no_run_cannot_be_resumed(colours_data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no run"):
        make(colours_data, tmp_path, None, resume=True)


def test_resuming_finds_moved_images(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    resumed = make(moved, colours_run, None, resume=True)
    first = resumed.data.splits["train"][0].path
    assert resumed.data.read(first) == (moved / first).read_bytes()


def test_an_unknown_model_is_an_error_before_any_image_is_read(colours_data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='there is no model "residual-cn"'):
        make(colours_data, tmp_path / "run", "digits", "model=residual-cn")


def test_a_transfer_is_resumed_with_its_own_command(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    out, settings, source = tmp_path / "run", ["epochs=1", "batch_size=16"], str(colours_run)
    planned = plan.make(str(colours_data), out, "feature-extraction", settings, weights=source)
    train(planned, QUIET)
    again = plan.make(str(colours_data), out, "feature-extraction", settings, weights=source, resume=True)
    assert again.recipe == planned.recipe
    with pytest.raises(TrainingError, match="/colours, not from elsewhere"):
        plan.make(str(colours_data), out, weights="elsewhere", resume=True)


def test_frozen_stages_need_weights(colours_data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="which without weights have learnt nothing"):
        make(colours_data, tmp_path / "run", "feature-extraction", "weights=")


def test_a_run_does_not_go_into_its_data(colours_data: Path) -> None:
    with pytest.raises(TrainingError, match="would be taken for a class"):
        make(colours_data, colours_data / "run")


def test_two_sources_of_weights_are_one_too_many(colours_data: Path, colours_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="both say where to start"):
        plan.make(str(colours_data), tmp_path / "run", "fine-tuning", ["weights=a.pth"], weights=str(colours_run))
