"""Scores of runs and artifacts: on which images, of which classes and by which variant."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from app.artifact import manifest
from app.artifact.manifest import ArtifactError
from tests.commands import Sightglass, score
from training.errors import TrainingError
from training.metrics.predictions import Predictions
from training.runs.checkpoint import Run


@pytest.fixture
def without_green(colours_data: Path, tmp_path: Path) -> Path:
    """The colours' data without the class in the middle."""
    return shutil.copytree(colours_data, tmp_path / "partial", ignore=lambda _, names: {"green"} & set(names))


def test_a_run_is_scored_on_its_own_test_split(digits_run: Path) -> None:
    found = score(digits_run)
    assert (found.variant, found.split, found.data) == ("checkpoint", "test", "digits")
    assert found.pixels.samples == Run.open(digits_run).data().splits["test"]
    assert found.evaluation.accuracy.n == 179
    assert found.evaluation.accuracy.value >= 0.95


def test_another_recorded_split_can_be_asked_for(digits_run: Path) -> None:
    """On val the score is the one that chose the checkpoint."""
    found = score(digits_run, split="val").evaluation.accuracy
    assert found.value == max(row["val_accuracy"] for row in Run.open(digits_run).history())


def test_the_runs_own_data_by_name_are_its_own_splits(digits_run: Path) -> None:
    assert score(digits_run, "digits", "test").pixels.samples == score(digits_run).pixels.samples


def test_moved_data_are_cut_into_the_recorded_splits(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    """Else images that the network was trained on would count as test images."""
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    found = score(colours_run, moved, "test")
    assert found.pixels.samples == score(colours_run).pixels.samples


def test_what_is_missing_of_moved_data_is_counted(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    (moved / score(colours_run).pixels.samples[0].path).unlink()
    said = sightglass("evaluate", colours_run, "--data", moved, "--split", "test", "--json")
    assert json.loads(said.out)["n"] == 17
    assert "1 of the 18 images recorded as test is not in" in said.err


def test_a_copy_of_an_image_counts_neither_twice_nor_as_missing(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    first = moved / score(colours_run).pixels.samples[0].path
    shutil.copy(first, first.with_name("again.png"))
    said = sightglass("evaluate", colours_run, "--data", moved, "--split", "test", "--json")
    assert json.loads(said.out)["n"] == 18
    assert "warn" not in said.err


def test_what_could_not_be_read_when_it_was_recorded_is_not_missed(
    colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    (moved / "red" / "gone.png").symlink_to("nowhere")
    assert score(colours_run, moved, "test").pixels.samples == score(colours_run).pixels.samples


@pytest.mark.parametrize("files", [(), ("cat.jpg",)], ids=["empty", "images without class folders"])
def test_a_folder_without_class_folders_is_a_plain_error(
    files: tuple[str, ...], colours_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    with pytest.raises(TrainingError, match=r"photos.* has no files in class folders") as refusal:
        score(colours_run, folder)
    assert "photos/<class>/*.jpg" in refusal.value.hint


def test_a_relative_path_to_the_runs_own_data_is_its_own_data(
    colours_run: Path, colours_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colours_data.parent)
    absolute, relative = score(colours_run, colours_data), score(colours_run, colours_data.name)
    assert relative.pixels.samples == absolute.pixels.samples


def test_a_plain_folder_is_used_whole(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    found = score(colours_run, other)
    assert (found.split, found.evaluation.accuracy.n) == ("all", 180)


def test_a_folder_with_splits_means_its_test(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    shutil.copytree(colours_data, tmp_path / "train")
    shutil.copytree(colours_data / "red", tmp_path / "test" / "red")
    found = score(colours_run, tmp_path)
    assert (found.split, found.evaluation.accuracy.n) == ("test", 60)


def test_a_split_that_is_not_there_names_those_that_are(digits_run: Path) -> None:
    with pytest.raises(TrainingError, match='has no split "exam"') as refusal:
        score(digits_run, split="exam")
    assert "train, val, test" in refusal.value.hint


def test_a_missing_class_does_not_shift_the_others(colours_run: Path, without_green: Path) -> None:
    found = score(colours_run, without_green).evaluation
    assert [row.n for row in found.per_class] == [60, 0, 60]
    assert found.accuracy.value > 0.9


def test_a_missing_class_does_not_shift_the_others_in_an_artifacts_split(
    colours_artifact: Path, without_green: Path
) -> None:
    found = score(colours_artifact, without_green, "test").evaluation
    assert found.per_class[1].n == 0
    assert found.accuracy.value > 0.9


def test_an_unknown_class_is_an_error_that_names_the_nearest(
    colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    (other / "green").rename(other / "grene")
    with pytest.raises(TrainingError, match="grene") as refusal:
        score(colours_run, other)
    assert refusal.value.hint == 'did you mean "green"?'


def test_an_unknown_class_in_an_artifacts_split_is_an_error(
    colours_artifact: Path, colours_data: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    shutil.copytree(other / "red", other / "crimson")
    with pytest.raises(TrainingError, match="crimson"):
        score(colours_artifact, other, "test")


@pytest.mark.parametrize("target", ["colours_run", "colours_artifact"])
def test_data_of_other_classes_are_an_error(target: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(TrainingError, match="is no class of this model"):
        score(request.getfixturevalue(target), "digits")


def test_changed_images_are_not_scored_as_the_runs_own(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    run, data = shutil.copytree(colours_run, tmp_path / "run"), shutil.copytree(colours_data, tmp_path / "data")
    meta = json.loads((run / "meta.json").read_text())
    meta["data"]["source"] = str(data)
    (run / "meta.json").write_text(json.dumps(meta))
    assert score(run).evaluation.accuracy.n == 18
    for path in (data / "red").iterdir():
        Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(TrainingError, match="changed or vanished since training"):
        score(run)


@pytest.fixture(scope="module")
def by_variant(digits_artifact: Path) -> dict[str, Predictions]:
    """What each variant says of the recorded test split."""
    return {name: score(digits_artifact, "digits", "test", name) for name in manifest.load(digits_artifact).variants}


def test_every_variant_of_an_artifact_scores_as_the_checkpoint_does(
    digits_run: Path, by_variant: dict[str, Predictions]
) -> None:
    checkpoint = score(digits_run)
    for variant, found in by_variant.items():
        assert found.variant == variant
        assert found.pixels.samples == checkpoint.pixels.samples
        if variant == "onnx-int8":
            assert found.evaluation.accuracy.value >= checkpoint.evaluation.accuracy.value - 0.02
        else:
            assert found.evaluation.accuracy == checkpoint.evaluation.accuracy
            # the artifact's temperature is fitted: probabilities differ, their order does not
            assert (found.probabilities.argmax(axis=1) == checkpoint.probabilities.argmax(axis=1)).all()


def test_an_artifact_scores_what_its_manifest_says(digits_artifact: Path, by_variant: dict[str, Predictions]) -> None:
    for variant, described in manifest.load(digits_artifact).variants.items():
        found = by_variant[variant].evaluation.accuracy
        assert (found.value, found.n) == (described.score.accuracy, described.score.n)


def test_an_artifact_needs_data(digits_artifact: Path) -> None:
    with pytest.raises(TrainingError, match="an artifact carries no images") as refusal:
        score(digits_artifact)
    assert f"sightglass evaluate {digits_artifact} --data" in refusal.value.hint


def test_an_unknown_variant_names_those_that_are(digits_artifact: Path) -> None:
    with pytest.raises(TrainingError, match='has no variant "onnx-int4"') as refusal:
        score(digits_artifact, "digits", None, "onnx-int4")
    assert "onnx" in refusal.value.hint


def test_a_run_has_no_variants(digits_run: Path) -> None:
    with pytest.raises(TrainingError, match="variants belong to artifacts"):
        score(digits_run, variant="onnx")


def test_a_tampered_artifact_is_not_scored(digits_artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(digits_artifact, tmp_path / "1")
    (copy / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not the file that was exported"):
        score(copy, "digits")


def test_evaluating_changes_neither_run_nor_artifact(
    colours_run: Path, colours_artifact: Path, colours_data: Path, tmp_path: Path
) -> None:
    run, artifact = tmp_path / "run", tmp_path / "artifact"
    shutil.copytree(colours_run, run)
    shutil.copytree(colours_artifact, artifact)

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = state()
    score(run)
    score(artifact, colours_data, "test")
    assert state() == before


def test_what_was_trained_on_is_said_and_how_to_leave_it_out(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    (other / "cover.png").write_bytes((other / "red" / "000.png").read_bytes())
    (other / "red" / "000.xml").touch()
    said = sightglass("evaluate", colours_run, "--data", other).err
    trained_on = len(Run.open(colours_run).checksums()["train"])
    assert (
        f"the model was trained on {trained_on} of these 180 images, so the scores are too good; --split test" in said
    )
    assert "1 image lies beside the class folders and is left out: cover.png" in said
    assert "1 other file is left out" in said
    assert "was trained on" not in sightglass("evaluate", colours_run, "--data", other, "--split", "test").err
    assert "was trained on" not in sightglass("evaluate", colours_run).err


def test_unreadable_images_are_said_and_left_out(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    (other / "red" / "notes.jpg").write_text("no image")
    said = sightglass("evaluate", colours_run, "--data", other, "--json")
    assert "skipped 1 unreadable file, the first: red/notes.jpg" in said.err
    assert json.loads(said.out)["n"] == 180
