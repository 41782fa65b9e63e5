"""What `sightglass evaluate` prints and writes: documents, tables and plots."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len
from sklearn import metrics

from app.artifact import manifest
from tests.commands import Sightglass, score
from training.errors import TrainingError
from training.report import evaluation


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
    assert all(len(line) <= 100 for line in lines)


def test_the_confidence_is_judged_in_words(digits_run: Path, sightglass: Sightglass) -> None:
    found = score(digits_run).evaluation.calibration
    said = sightglass("evaluate", digits_run)
    assert f"trust    {found}" in said.err.splitlines()
    assert json.loads(sightglass("evaluate", digits_run, "--json").out)["calibration"]["verdict"] == found.verdict


def test_an_artifacts_suspects_are_those_before_its_temperature(digits_run: Path, digits_artifact: Path) -> None:
    of_artifact = score(digits_artifact, "digits", "test")
    assert of_artifact.temperature == manifest.load(digits_artifact).temperature
    softened = replace(of_artifact, temperature=5.0)
    assert "before the temperature" in evaluation.look(softened, None)
    assert {each.index for each in softened.suspects()} >= {each.index for each in of_artifact.suspects()}
    assert score(digits_run).temperature == 1


def test_labels_without_an_image_come_last(digits_run: Path) -> None:
    found = score(digits_run)
    rows = found.evaluation.per_class
    absent = tuple(replace(row, label=f"{row.label} absent", n=0, f1=0.0) for row in rows[:2])
    lines = evaluation.table(replace(found, evaluation=replace(found.evaluation, per_class=(*absent, *rows))))
    assert ["absent" in line for line in lines[2:]] == [False] * 10 + [True] * 2


def test_a_table_of_any_names_stays_in_its_columns(digits_run: Path) -> None:
    names = ("犬" * 90, "e\u0301" * 200, "x" * 200, "\x1b[31mred\n", "a b", *"56789")
    found = score(digits_run)
    rows = tuple(
        replace(row, label=name, confused=other, confused_n=7)
        for row, name, other in zip(found.evaluation.per_class, names, reversed(names), strict=True)
    )
    named = replace(found.evaluation, labels=names, per_class=rows, majority_label=names[2])
    lines = evaluation.table(replace(found, evaluation=named))
    header = next(number for number, line in enumerate(lines) if line.startswith("class "))
    assert len(lines) == header + 11
    assert all(cell_len(line) <= 100 and line.isprintable() for line in lines)
    scores = r"\d\.\d{3} +\d\.\d{3} +\d\.\d{3}"
    ends = {cell_len(line[: re.search(scores, line).end()]) for line in lines[header + 1 :]}
    assert ends == {lines[header].index("F1") + 2}
    assert all(line.endswith("(7)") for line in lines[header + 1 :])


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_class_has_the_same_name_wherever_it_stands_and_another_than_all_others(width: int, digits_run: Path) -> None:
    cabs = ("1500 Extended", "1500 Regular", "1500 Hybrid Crew", "2500HD Regular", *map(str, range(6)))
    names = tuple(f"Chevrolet Silverado {cab} Cab 2012" for cab in cabs)
    found = score(digits_run)
    rows = tuple(
        replace(row, label=name, confused=other, confused_n=7)
        for row, name, other in zip(found.evaluation.per_class, names, reversed(names), strict=True)
    )
    named = replace(found.evaluation, labels=names, per_class=rows, majority_label=names[2])
    lines = evaluation.table(replace(found, evaluation=named), width)
    pattern = r"^(\S.*\S) +[\d,]+  +\d\.\d{3} +\d\.\d{3} +\d\.\d{3}  (.*) \(7\)$"
    pairs = [match.groups() for line in lines if (match := re.match(pattern, line))]
    assert len({label for label, _ in pairs}) == 10
    assert {label for label, _ in pairs} == {called for _, called in pairs}
    assert all(cell_len(line) <= width for line in lines[-11:])


def test_verbose_shows_every_class(digits_run: Path) -> None:
    found = score(digits_run)
    rows = tuple(replace(found.evaluation.per_class[0], label=f"class {number}") for number in range(30))
    many = replace(found, evaluation=replace(found.evaluation, per_class=rows))
    assert evaluation.table(many)[-1] == "worst first; 20 of 30 shown, all with --verbose or --json"
    assert sum(line.startswith("class ") for line in evaluation.table(many, every=True)) == 31


def test_the_next_line_is_the_export_of_this_run(colours_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", colours_run)
    assert f"next     sightglass export {colours_run} --out exports/colours/1" in said.err.splitlines()


@pytest.mark.parametrize(("least", "code"), [("0", 0), ("0.9", 3)])
def test_min_accuracy_is_a_gate(
    least: str, code: int, colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    shutil.copytree(colours_data / "red", tmp_path / "blue")
    said = sightglass("evaluate", colours_run, "--data", tmp_path, "--min-accuracy", least)
    assert said.code == code
    assert ("is below --min-accuracy" in said.err) == (code == 3)
    assert said.out.startswith("accuracy"), "the scores are printed either way"


@pytest.mark.parametrize("least", ["7", "-0.1", "1.01"])
def test_min_accuracy_is_a_fraction(least: str, colours_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", colours_run, "--min-accuracy", least)
    assert said.code == 2
    assert said.out == ""


@pytest.mark.parametrize("there", [False, True])
def test_what_is_neither_a_run_nor_an_artifact_is_said(there: bool, tmp_path: Path, sightglass: Sightglass) -> None:
    target = tmp_path / "target"
    if there:
        target.mkdir()
    said = sightglass("evaluate", target)
    what = f'"{target}" is neither a run nor an artifact' if there else f'there is no folder "{target}"'
    assert said.err.splitlines()[0] == f"error: {what}"
    assert "hint: name what `sightglass train` or `sightglass export` wrote" in said.err


@pytest.fixture(scope="module")
def written(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate --out` leaves behind."""
    out = tmp_path_factory.mktemp("evaluations") / "digits"
    evaluation.write(score(digits_run), digits_run, out)
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_out_holds_the_json_that_is_printed(written: Path, digits_run: Path, sightglass: Sightglass) -> None:
    printed = json.loads(sightglass("evaluate", digits_run, "--json", "--quiet").out)
    assert json.loads((written / "evaluation.json").read_text()) == printed


def test_predictions_csv_has_a_row_per_image_with_all_probabilities(written: Path, digits_run: Path) -> None:
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
    """Two blue images lie among the red ones."""
    data = shutil.copytree(colours_data, tmp_path / "data")
    for name in ("000.png", "001.png"):
        (data / "blue" / name).rename(data / "red" / f"blue-{name}")
    found = score(colours_artifact, data, "all", "onnx")
    evaluation.write(found, colours_artifact, tmp_path / "out")
    with (tmp_path / "out" / "suspects.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    mislabelled = {row["path"]: row for row in table if "blue-" in row["path"]}
    assert set(mislabelled) == {"red/blue-000.png", "red/blue-001.png"}
    assert {(row["label"], row["suggestion"]) for row in mislabelled.values()} == {("red", "blue")}
    assert [float(row["p"]) for row in table] == sorted((float(row["p"]) for row in table), reverse=True)
    assert all(float(row["p"]) > 0.9 for row in table)
    assert found.as_json()["suspects"] == len(table)


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
def test_plots_are_images(name: str, written: Path) -> None:
    with Image.open(written / f"{name}.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 400
        assert len(image.convert("RGB").getcolors(2**24)) > 10


def test_an_artifact_has_no_training_curves(digits_artifact: Path, tmp_path: Path) -> None:
    evaluation.write(score(digits_artifact, "digits", "test", "onnx"), digits_artifact, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "predictions.csv",
        "suspects.csv",
        "confusion.png",
        "reliability.png",
    }


def test_an_existing_folder_is_not_written_into(colours_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="exists already"):
        evaluation.write(score(colours_run), colours_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_anything_is_scored(
    colours_run: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    said = sightglass("evaluate", colours_run, "--out", tmp_path)
    assert (said.code, said.out) == (1, "")
    assert "exists already" in said.err
