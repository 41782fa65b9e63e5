"""Scores of runs and artifacts, as documents, tables and plots."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from app.artifact import manifest
from app.artifact.manifest import ArtifactError
from tests.conftest import QUIET
from tests.training.conftest import Sightglass
from training import TrainingError, evaluate
from training.checkpoint import Run
from training.evaluate import Predictions


def score(target: Path, data: object = None, split: str | None = None, variant: str | None = None) -> Predictions:
    return evaluate.evaluate(target, None if data is None else str(data), split, variant, QUIET)


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
    """Else pictures that the network was trained on would count as test pictures."""
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
    assert "1 of the 18 pictures recorded as test are not in" in said.err


def test_a_copy_of_a_picture_counts_neither_twice_nor_as_missing(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    moved = shutil.copytree(colours_data, tmp_path / "moved")
    first = moved / score(colours_run).pixels.samples[0].path
    shutil.copy(first, first.with_name("again.png"))
    said = sightglass("evaluate", colours_run, "--data", moved, "--split", "test", "--json")
    assert json.loads(said.out)["n"] == 18
    assert "warn" not in said.err


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


def test_changed_pictures_are_not_scored_as_the_runs_own(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
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
    with pytest.raises(TrainingError, match="an artifact carries no pictures") as refusal:
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


def test_json_is_one_document_with_every_score(digits_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", digits_run, "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert {"accuracy", "macro_f1", "ece", "per_class", "confusion_matrix", "n"} <= set(document)
    assert document["n"] == 179
    assert 0.9 < document["accuracy"] <= 1
    assert np.array(document["confusion_matrix"]).shape == (10, 10)
    assert len(document["per_class"]) == 10


def test_the_table_has_accuracy_with_its_interval_and_the_worst_class_first(
    digits_run: Path, sightglass: Sightglass
) -> None:
    lines = sightglass("evaluate", digits_run).out.splitlines()
    assert lines[0].startswith("accuracy ")
    assert "95 % interval" in lines[0]
    assert "macro F1" in lines[0]
    assert "always-" in lines[0]
    f1 = [float(line.split()[4]) for line in lines[2:]]
    assert len(f1) == 10
    assert f1 == sorted(f1)
    assert all(len(line) <= 120 for line in lines)


def test_the_next_line_is_the_export_of_this_run(colours_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", colours_run)
    assert f"next     sightglass export {colours_run} --out exports/colours/1" in said.err.splitlines()


@pytest.mark.parametrize(("least", "code"), [("0.9", 0), ("1.01", 3)])
def test_min_accuracy_is_a_gate(least: str, code: int, colours_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", colours_run, "--min-accuracy", least)
    assert said.code == code
    assert ("is below --min-accuracy" in said.err) == (code == 3)
    assert said.out.startswith("accuracy"), "the scores are printed either way"


@pytest.fixture(scope="module")
def written(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate --out` leaves behind."""
    out = tmp_path_factory.mktemp("evaluations") / "digits"
    evaluate.write(score(digits_run), digits_run, out)
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_out_holds_the_json_that_is_printed(written: Path, digits_run: Path, sightglass: Sightglass) -> None:
    printed = json.loads(sightglass("evaluate", digits_run, "--json", "--quiet").out)
    assert json.loads((written / "evaluation.json").read_text()) == printed


def test_predictions_csv_has_a_row_per_picture_with_all_probabilities(written: Path, digits_run: Path) -> None:
    found = score(digits_run)
    table = rows(written)
    assert [row["path"] for row in table] == [sample.path for sample in found.pixels.samples]
    columns = np.array([[float(row[f"p_{digit}"]) for digit in range(10)] for row in table], np.float32)
    assert (columns == found.probabilities).all(), "every digit is written"
    for row, probabilities in zip(table, columns, strict=True):
        assert row["label"] == row["path"][0]
        assert row["prediction"] == str(probabilities.argmax())
        assert float(row["confidence"]) == probabilities.max()


def test_suspects_csv_has_the_labels_to_check_first(colours_artifact: Path, colours_data: Path, tmp_path: Path) -> None:
    """Two blue pictures lie among the red ones."""
    data = shutil.copytree(colours_data, tmp_path / "data")
    for name in ("000.png", "001.png"):
        (data / "blue" / name).rename(data / "red" / f"blue-{name}")
    found = score(colours_artifact, data, "all", "onnx")
    evaluate.write(found, colours_artifact, tmp_path / "out")
    with (tmp_path / "out" / "suspects.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    mislabelled = {row["path"]: row for row in table if "blue-" in row["path"]}
    assert set(mislabelled) == {"red/blue-000.png", "red/blue-001.png"}
    assert {(row["label"], row["suggestion"]) for row in mislabelled.values()} == {("red", "blue")}
    assert [float(row["p"]) for row in table] == sorted((float(row["p"]) for row in table), reverse=True)
    assert all(float(row["p"]) > 0.9 for row in table)
    assert evaluate.as_json(found)["suspects"] == len(table)


def test_probable_wrong_labels_are_counted_and_their_list_is_named(
    colours_artifact: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    data = shutil.copytree(colours_data, tmp_path / "data")
    (data / "blue" / "000.png").rename(data / "red" / "odd.png")
    out = tmp_path / "out"
    said = sightglass("evaluate", colours_artifact, "--data", data, "--variant", "onnx", "--out", out)
    count = len((out / "suspects.csv").read_text().splitlines()) - 1
    assert count >= 1
    assert f"look     {count} wrong with p > 0.9: check these labels first -> {out}/suspects.csv" in said.err
    assert (
        "--out FOLDER lists them" in sightglass("evaluate", colours_artifact, "--data", data, "--variant", "onnx").err
    )


def test_scores_are_scikit_learns_on_the_same_predictions(written: Path) -> None:
    table = rows(written)
    labels, predicted = [row["label"] for row in table], [row["prediction"] for row in table]
    document = json.loads((written / "evaluation.json").read_text())
    assert document["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert document["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert document["confusion_matrix"] == metrics.confusion_matrix(labels, predicted).tolist()


@pytest.mark.parametrize("name", ["confusion", "reliability", "curves"])
def test_plots_are_pictures(name: str, written: Path) -> None:
    with Image.open(written / f"{name}.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 400
        assert len(image.convert("RGB").getcolors(2**24)) > 10


def test_an_artifact_has_no_training_curves(digits_artifact: Path, tmp_path: Path) -> None:
    evaluate.write(score(digits_artifact, "digits", "test", "onnx"), digits_artifact, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "predictions.csv",
        "suspects.csv",
        "confusion.png",
        "reliability.png",
    }


def test_an_existing_folder_is_not_written_into(colours_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="exists already"):
        evaluate.write(score(colours_run), colours_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_anything_is_scored(
    colours_run: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    said = sightglass("evaluate", colours_run, "--out", tmp_path)
    assert (said.code, said.out) == (1, "")
    assert "exists already" in said.err


def test_evaluating_changes_neither_run_nor_artifact(
    colours_run: Path, colours_artifact: Path, colours_data: Path
) -> None:
    def state() -> dict[Path, int]:
        folders = (colours_run, colours_artifact)
        return {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}

    before = state()
    score(colours_run)
    score(colours_artifact, colours_data, "test")
    assert state() == before


def test_unreadable_pictures_are_said_and_left_out(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    other = shutil.copytree(colours_data, tmp_path / "other")
    (other / "red" / "notes.jpg").write_text("no picture")
    said = sightglass("evaluate", colours_run, "--data", other, "--json")
    assert "skipped 1 unreadable files, the first: red/notes.jpg" in said.err
    assert json.loads(said.out)["n"] == 180
