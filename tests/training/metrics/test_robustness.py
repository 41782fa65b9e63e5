"""`evaluate --robust`: what it prints, writes and draws."""

import csv
import json
from pathlib import Path

import numpy as np

from tests.commands import QUIET, Sightglass, score
from training import evaluate
from training.data.corruptions import CORRUPTIONS
from training.metrics import robustness


def test_the_sample_has_of_every_class_its_share() -> None:
    labels = np.repeat(np.arange(3), [700, 200, 100])
    places = robustness.sample(labels, 50, seed=0)
    assert np.bincount(labels[places]).tolist() == [35, 10, 5]
    assert np.array_equal(places, robustness.sample(labels, 50, seed=0))
    assert not np.array_equal(places, robustness.sample(labels, 50, seed=1))
    assert np.array_equal(robustness.sample(labels, 5000, seed=0), np.arange(1000))


def test_an_artifacts_robustness_is_measured_and_written(
    colours_artifact: Path, colours_data: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    """Through the serving engine: every level has its count and interval, and the worst stands first."""
    out = tmp_path / "robust"
    words = ("evaluate", colours_artifact, "--data", colours_data, "--robust", "--robust-images", 12)
    said = sightglass(*words, "--out", out, "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    found = document["robustness"]
    assert (found["n"], found["of"]) == (12, document["n"])
    assert "12 of 180 images: as they are" in said.err
    means = [row["mean"] for row in found["corruptions"]]
    assert means == sorted(means)
    assert {row["corruption"] for row in found["corruptions"]} == {each.name for each in CORRUPTIONS}
    for row in found["corruptions"]:
        assert [level["severity"] for level in row["levels"]] == [1, 2, 3, 4, 5]
        assert all(
            level["n"] == 12 and level["low"] <= level["value"] <= level["high"] + 1e-9 for level in row["levels"]
        )
    assert json.loads((out / "evaluation.json").read_text()) == document
    rows = list(csv.DictReader((out / "robustness.csv").read_text().splitlines()))
    assert len(rows) == 35
    assert rows[0]["corruption"] == found["corruptions"][0]["corruption"]
    page = (out / "report.html").read_text()
    assert page.count("<img") == 35
    assert "12 of 180 images" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_run_has_a_table_worst_first(digits_run: Path, sightglass: Sightglass) -> None:
    said = sightglass("evaluate", digits_run, "--robust-images", 10)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("corruption "))
    means = [float(line.split()[-1]) for line in lines[start + 1 :]]
    assert len(means) == len(CORRUPTIONS)
    assert means == sorted(means)
    assert all(len(line) <= 100 for line in lines)


def test_without_it_nothing_is_corrupted(digits_run: Path) -> None:
    found = score(digits_run)
    assert found.robustness is None
    assert "robustness" not in found.as_json()


def test_it_is_the_same_each_time(colours_run: Path) -> None:
    first, again = (evaluate.evaluate(colours_run, None, None, None, QUIET, robust=8).robustness for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.rows == again.rows
    assert first.clean.n == 8
