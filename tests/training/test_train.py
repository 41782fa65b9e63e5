"""A whole training run: what it records and what it refuses."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import Sightglass
from tests.training import colours
from tests.training.quick_runs import differences, learn, weights
from training.console.progress import Talk
from training.data import pixels
from training.errors import TrainingError
from training.learning import plan
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.train import rehearse


def test_every_file_of_every_split_is_recorded_with_its_sha256(colours_run: Path, colours_data: Path) -> None:
    splits = json.loads((colours_run / "splits.json").read_text())
    assert set(splits) == {"train", "val", "test"}
    rows = [row for split in splits.values() for row in split]
    assert {path for path, _, _ in rows} == {
        str(each.relative_to(colours_data)) for each in colours_data.rglob("*.png")
    }
    for path, label, digest in rows:
        assert label == Path(path).parent.name
        assert digest == hashlib.sha256((colours_data / path).read_bytes()).hexdigest()


def test_a_new_run_is_saved_once_before_its_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """last.pt is as large as the network and its optimiser together."""
    run, happened, save = tmp_path / "run", [], checkpoint.save

    class Begins(Talk):
        def step(self, what: str, total: int):  # type: ignore[no-untyped-def]
            if what == "epoch 1":
                assert Run.open(run).history() == []
                happened.append(what)
            return super().step(what, total)

    def noted(path: Path, state: dict[str, Any]) -> None:
        happened.append(path.name)
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", noted)
    learn(colours.write(tmp_path / "data", each=20), run, talk=Begins(quiet=True))
    assert happened == ["last.pt", "epoch 1", "last.pt", "weights.pt"]


def test_mean_and_std_are_those_of_train_alone(colours_run: Path) -> None:
    run = Run.open(colours_run)
    loaded = pixels.load(run.data(), "train", run.input)
    values = loaded.take(np.arange(len(loaded))).reshape(-1, 3) / 255
    assert run.input.mean == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert run.input.std == pytest.approx(values.std(axis=0), abs=1e-5)


def test_test_images_have_no_part_in_training(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        data = colours.write(tmp_path / name / "train", each=20).parent
        colours.write(data / "test", each=5, seed=seed)
        learn(data, tmp_path / f"run {name}")
    assert differences(tmp_path / "run one", tmp_path / "run two", "last.pt") == []


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    data = colours.write(tmp_path / "data", each=20)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        learn(data, tmp_path / name, f"seed={seed}")
    assert differences(tmp_path / "a", tmp_path / "b", "weights.pt") == []
    assert differences(tmp_path / "a", tmp_path / "c", "weights.pt") != []


def test_weights_are_those_of_the_best_epoch_on_val(tmp_path: Path) -> None:
    """A rate of 3 wrecks the network in its warm-up, so that the best epoch is not the last."""
    run = tmp_path / "run"
    learn(colours.write(tmp_path / "data", each=30), run, "epochs=6", "lr=3", "schedule='onecycle'")
    history, best = Run.open(run).history(), Run.open(run).best()
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in history)
    assert best["epoch"] < 6
    assert weights(run)["epoch"] == best["epoch"]
    saved, last = weights(run)["network"], weights(run, "last.pt")["learner"]["network"]
    assert not all(torch.equal(saved[key], last[key]) for key in saved)


def test_averaged_weights_are_what_is_saved(tmp_path: Path) -> None:
    run = tmp_path / "run"
    learn(colours.write(tmp_path / "data", each=20), run, "ema_decay=0.9")
    saved, learner = weights(run)["network"], weights(run, "last.pt")["learner"]
    assert all(torch.equal(saved[key], learner["averaged"][key]) for key in saved)
    assert not all(torch.equal(saved[key], learner["network"][key]) for key in saved)


def test_meta_says_how_to_repeat_the_run(colours_run: Path, colours_data: Path) -> None:
    meta = json.loads((colours_run / "meta.json").read_text())
    assert meta["recipe"]["seed"] == 0
    assert meta["labels"] == list(colours.CLASSES)
    assert meta["data"]["source"] == str(colours_data)
    assert sum(meta["data"]["images"].values()) == 180
    assert torch.__version__.startswith(meta["versions"]["torch"])
    assert meta["hardware"]["threads"] >= 1
    assert meta["commit"]


def test_unreadable_files_are_counted_listed_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = colours.write(tmp_path / "data", each=20)
    (data / "red" / "notes.jpg").write_text("no image")
    (data / "green" / "half.png").write_bytes((data / "green" / "000.png").read_bytes()[:200])
    out = tmp_path / "run"
    learn(data, out, talk=Talk())
    assert "skipped 2 unreadable files" in capsys.readouterr().err
    listed = (out / "skipped.txt").read_text().splitlines()
    assert {line.partition("\t")[0] for line in listed} == {"red/notes.jpg", "green/half.png"}
    assert all(line.partition("\t")[2] for line in listed), "each with a reason"
    assert sum(Run.open(out).meta.data.images.values()) == 60


def test_classes_that_no_figure_will_be_about_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = colours.write(tmp_path / "data", each=20)
    for number, name in enumerate(("one", "two", *"abcd")):
        (data / name).mkdir()
        for copy in range(2 if name == "two" else 1):
            Image.new("RGB", (16, 16), (40 * number, 100 * copy, 0)).save(data / name / f"{copy}.png")
    rehearse(plan.make(str(data), tmp_path / "run", "digits", ["channels=3"]), Talk())
    said = capsys.readouterr().err
    assert "not an image in val: a, b, c and 3 more\n" in said
    assert "not an image in test: a, b, c and 2 more\n" in said


def test_classes_that_are_everywhere_are_not_named(
    colours_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearse(plan.make(str(colours_data), tmp_path / "run", "digits", ["channels=3"]), Talk())
    assert "not an image" not in capsys.readouterr().err


def test_without_unreadable_files_there_is_no_list_of_them(colours_run: Path) -> None:
    assert not (colours_run / "skipped.txt").exists()


def test_file_names_in_no_known_encoding_are_no_obstacle(tmp_path: Path) -> None:
    """Archives made on another system unpack to such names."""
    data = colours.write(tmp_path / "data", each=20)
    (data / "red" / "000.png").rename(data / "red" / os.fsdecode(b"caf\xe9.png"))
    (data / "red" / os.fsdecode(b"r\xe9sum\xe9.jpg")).write_text("no image")
    learn(data, tmp_path / "run")
    assert os.fsencode("red/") + b"r\xe9sum\xe9.jpg" in (tmp_path / "run" / "skipped.txt").read_bytes()


def test_a_class_without_a_readable_image_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    data = colours.write(tmp_path / "data", each=20)
    for path in (data / "red").iterdir():
        path.write_text("no image")
    with pytest.raises(TrainingError, match='no readable image of "red"'):
        learn(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_a_plain_error(colours_data: Path, sightglass: Sightglass, tmp_path: Path) -> None:
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--device", "cuda")
    assert said.code == 1
    assert "error: there is no CUDA device here" in said.err


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an MPS device here")
def test_mps_where_there_is_none_is_an_error_that_says_what_there_is(
    colours_data: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--device", "mps")
    assert said.code == 1
    found = "cuda, cpu" if torch.cuda.is_available() else "cpu"
    assert f"error: there is no MPS device here (torch {torch.__version__}, {found})" in said.err
    assert "hint: --device cpu" in said.err
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_is_a_plain_error(colours_data: Path, sightglass: Sightglass, tmp_path: Path) -> None:
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--device", "gpu")
    assert said.code == 1
    assert 'there is no device "gpu"' in said.err
    assert "known: auto, cpu, cuda, mps" in said.err
    assert not (tmp_path / "run").exists()


def test_the_table_has_a_row_per_epoch_and_marks_the_best(
    colours_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn(colours_data, tmp_path / "run", "epochs=2", talk=Talk())
    said = capsys.readouterr().err
    header, *rows = re.findall(r"^epoch .*|^ +\d  .*", said, re.MULTILINE)
    assert header.endswith("waits   time")
    assert len(rows) == 2
    assert rows[0].endswith("best")
    assert re.search(r"done +best epoch \d: val accuracy .* 95 % interval", said)
    assert all(len(line) <= 100 for line in rows)


def test_a_run_that_gets_no_better_stops_early_and_is_complete(tmp_path: Path, sightglass: Sightglass) -> None:
    data = colours.write(tmp_path / "data", each=20)
    settings = [*colours.SETTINGS[:1], "epochs=12", "batch_size=8", "val_fraction=0.3", "early_stop=2", "lr=1e-9"]
    words = [part for pair in settings for part in ("--set", pair)]
    said = sightglass("train", data, "--recipe", "digits", "--out", tmp_path / "run", *words)
    assert said.code == 0
    assert "stop     no epoch of the last 2 was better" in said.err
    history = Run.open(tmp_path / "run").history()
    assert len(history) < 12
    best = max(row["val_accuracy"] for row in history)
    assert all(row["val_accuracy"] <= best for row in history[-2:])
    again = sightglass("train", data, "--out", tmp_path / "run", "--resume")
    assert again.code == 0
    assert len(Run.open(tmp_path / "run").history()) == len(history)
