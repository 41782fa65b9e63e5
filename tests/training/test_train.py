"""A whole training run: what it records, what it refuses, and that a kill costs nothing but the current epoch."""

import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import QUIET
from tests.training import colours
from tests.training.conftest import Sightglass
from training import Stopped, TrainingError, checkpoint, pixels, plan
from training.checkpoint import Run
from training.progress import Talk
from training.train import Result, train

TIMINGS = {"images_per_second", "waiting_for_data", "seconds"}
SHORT = ["epochs=1", "channels=3", "batch_size=32", "val_fraction=0.3"]


def learn(data: Path, out: Path, *settings: str, talk: Talk = QUIET, **how: bool) -> Result:
    """A run of one epoch in a fraction of a second."""
    made = plan.make(str(data), out, "digits", [*SHORT, *settings], device="cpu", **how)
    return train(made, talk)


def weights(run: Path, name: str = "weights.pt") -> dict[str, Any]:
    return checkpoint.load(run / name)


def tensors(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a checkpoint with its path."""
    if isinstance(state, dict | list):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from tensors(value, f"{path}/{key}")
    else:
        yield path, state


def differences(one: Path, other: Path, name: str) -> list[str]:
    """Paths of the leaves of two checkpoints that are not bit-identical; timings are allowed to differ."""
    first, second = dict(tensors(weights(one, name))), dict(tensors(weights(other, name)))
    assert first.keys() == second.keys()
    assert any(isinstance(leaf, torch.Tensor) for leaf in first.values())
    return [
        path
        for path, leaf in first.items()
        if path.rpartition("/")[2] not in TIMINGS
        and not (torch.equal(leaf, second[path]) if isinstance(leaf, torch.Tensor) else leaf == second[path])
    ]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without their timings."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


# --- killed, interrupted, resumed: real processes ---------------------------------------------------------------------

EPOCHS = 3
FULL = ["train", "digits", "--recipe", "digits", "--set", f"epochs={EPOCHS}", "--no-progress", "--out"]


def start(*words: object) -> subprocess.Popen[str]:
    """`sightglass` in its own process, with one thread."""
    command = [sys.executable, "-m", "training.cli", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must succeed; what it said."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def interrupt_in_second_epoch(process: subprocess.Popen[str], kind: signal.Signals) -> str:
    """Wait for the first row of the table, let about half of the next epoch pass, and send the signal."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if re.match(r" +1  ", line):
            break
    select.select([process.stderr], [], [], 0.3)  # half an epoch, or until anything is said
    assert process.poll() is None, said
    process.send_signal(kind)
    rest = process.communicate(timeout=60)[1]
    return said + rest


def test_a_killed_run_resumes_to_bit_identical_weights(tmp_path: Path) -> None:
    out, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    process, other = start(*FULL, out), start(*FULL, uninterrupted)
    interrupt_in_second_epoch(process, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 1 <= len(metrics(out)) < EPOCHS, "it was killed between the first epoch and the last"
    assert "resume" in finish(start("train", "digits", "--out", out, "--resume"))
    finish(other)
    assert differences(out, uninterrupted, "weights.pt") == []
    assert differences(out, uninterrupted, "last.pt") == []
    assert metrics(out) == metrics(uninterrupted)
    assert [row["epoch"] for row in metrics(out)] == list(range(1, EPOCHS + 1))


def test_ctrl_c_leaves_a_valid_run_and_prints_the_command_that_resumes_it(
    sightglass: Sightglass, tmp_path: Path
) -> None:
    out = tmp_path / "interrupted"
    process = start(*FULL, out)
    said = interrupt_in_second_epoch(process, signal.SIGINT)
    assert process.returncode == 130, said
    assert "stopping after this batch" in said
    assert "Traceback" not in said
    finished = metrics(out)
    assert 1 <= len(finished) < EPOCHS
    assert weights(out)["epoch"] in range(1, len(finished) + 1)
    command = re.search(r"next +sightglass (train .*--resume)", said)
    assert command, said
    assert sightglass(*shlex.split(command[1])).code == 0
    assert metrics(out)[: len(finished)] == finished
    assert [row["epoch"] for row in metrics(out)] == list(range(1, EPOCHS + 1))


# --- in this process, on small pictures -------------------------------------------------------------------------------


class Impatient(Talk):
    """Presses Ctrl-C as soon as the first epoch's row is said."""

    def line(self, text: str) -> None:
        if re.match(r" +1  ", text):
            signal.raise_signal(signal.SIGINT)


def test_the_resume_command_quotes_paths_with_spaces(tmp_path: Path) -> None:
    data = colours.write(tmp_path / "my photos", each=20)
    out = tmp_path / "my runs" / "one"
    with pytest.raises(Stopped) as stopped:
        learn(data, out, "epochs=2", talk=Impatient())
    command = str(stopped.value).splitlines()[-1].removeprefix("next").strip()
    assert shlex.split(command) == ["sightglass", "train", str(data), "--out", str(out), "--resume", "--device", "cpu"]


def test_after_an_interrupt_ctrl_c_means_what_it_meant_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped):
        learn(colours.write(tmp_path / "data", each=20), tmp_path / "run", "epochs=2", talk=Impatient())
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_lost_with_the_last_epoch_come_back(colours_run: Path, tmp_path: Path) -> None:
    """As after a kill between last.pt and metrics.jsonl."""
    run = shutil.copytree(colours_run, tmp_path / "run")
    complete = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(complete.splitlines(keepends=True)[0])
    origin = Run.open(run).meta["data"]["source"]
    train(plan.make(origin, run, None, [], resume=True, force=False), QUIET)
    assert (run / "metrics.jsonl").read_text() == complete


def test_weights_lost_with_the_last_epoch_come_back(colours_run: Path, tmp_path: Path) -> None:
    """As after a kill between last.pt and weights.pt."""
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "weights.pt").unlink()
    train(plan.make(Run.open(run).meta["data"]["source"], run, resume=True), QUIET)
    assert differences(run, colours_run, "weights.pt") == []


def test_a_run_killed_in_its_first_epoch_resumes(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Killer(Talk):
        def step(self, what: str, total: int) -> Any:
            if what == "epoch 1":
                raise Killed
            return super().step(what, total)

    data = colours.write(tmp_path / "data", each=20)
    with pytest.raises(Killed):
        learn(data, tmp_path / "run", talk=Killer(quiet=True))
    learn(data, tmp_path / "whole")
    train(plan.make(str(data), tmp_path / "run", resume=True), QUIET)
    assert differences(tmp_path / "run", tmp_path / "whole", "last.pt") == []


def test_resuming_a_finished_run_changes_nothing(colours_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    origin = Run.open(run).meta["data"]["source"]
    result = train(plan.make(origin, run, None, [], resume=True, force=False), QUIET)
    history = Run.open(colours_run).history()
    assert result.accuracy.value == max(row["val_accuracy"] for row in history)
    for name in ("weights.pt", "last.pt", "meta.json", "splits.json", "metrics.jsonl"):
        assert (run / name).read_bytes() == (colours_run / name).read_bytes()


def test_resuming_on_changed_pictures_is_refused(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    data = shutil.copytree(colours_data, tmp_path / "data")
    Image.new("RGB", (16, 16)).save(data / "red" / "000.png")
    with pytest.raises(TrainingError, match=r"files changed or vanished since training, the first: red/000\.png"):
        train(plan.make(str(data), run, None, [], resume=True, force=False), QUIET)


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


def test_mean_and_std_are_those_of_train_alone(colours_run: Path) -> None:
    run = Run.open(colours_run)
    loaded = pixels.load(run.data(), "train", run.input)
    values = loaded.take(np.arange(len(loaded))).reshape(-1, 3) / 255
    assert run.input.mean == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert run.input.std == pytest.approx(values.std(axis=0), abs=1e-5)


def test_test_pictures_have_no_part_in_training(tmp_path: Path) -> None:
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
    """A rate of 30 wrecks the network after its warm-up, so that the best epoch is not the last."""
    run = tmp_path / "run"
    learn(colours.write(tmp_path / "data", each=30), run, "epochs=6", "lr=30", "schedule='onecycle'")
    history = Run.open(run).history()
    best = max(history, key=checkpoint.rank)
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
    (data / "red" / "notes.jpg").write_text("no picture")
    (data / "green" / "half.png").write_bytes((data / "green" / "000.png").read_bytes()[:200])
    out = tmp_path / "run"
    learn(data, out, talk=Talk())
    assert "skipped 2 unreadable files" in capsys.readouterr().err
    listed = (out / "skipped.txt").read_text().splitlines()
    assert {line.partition("\t")[0] for line in listed} == {"red/notes.jpg", "green/half.png"}
    assert all(line.partition("\t")[2] for line in listed), "each with a reason"
    assert sum(Run.open(out).meta["data"]["images"].values()) == 60


def test_without_unreadable_files_there_is_no_list_of_them(colours_run: Path) -> None:
    assert not (colours_run / "skipped.txt").exists()


def test_file_names_in_no_known_encoding_are_no_obstacle(tmp_path: Path) -> None:
    """Archives made on another system unpack to such names."""
    data = colours.write(tmp_path / "data", each=20)
    (data / "red" / "000.png").rename(data / "red" / os.fsdecode(b"caf\xe9.png"))
    (data / "red" / os.fsdecode(b"r\xe9sum\xe9.txt")).write_text("no picture")
    learn(data, tmp_path / "run")
    assert os.fsencode("red/") + b"r\xe9sum\xe9.txt" in (tmp_path / "run" / "skipped.txt").read_bytes()


def test_a_class_without_a_readable_picture_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    data = colours.write(tmp_path / "data", each=20)
    for path in (data / "red").iterdir():
        path.write_text("no picture")
    with pytest.raises(TrainingError, match='no readable picture of "red"'):
        learn(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_a_plain_error(colours_data: Path, sightglass: Sightglass, tmp_path: Path) -> None:
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--device", "cuda")
    assert said.code == 1
    assert "error: there is no CUDA device here" in said.err


def test_an_unknown_device_is_a_plain_error(colours_data: Path, sightglass: Sightglass, tmp_path: Path) -> None:
    assert sightglass("train", colours_data, "--out", tmp_path / "run", "--device", "gpu").code in (1, 2)
    assert not (tmp_path / "run").exists()


def test_the_table_has_a_row_per_epoch_and_marks_the_best(
    colours_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn(colours_data, tmp_path / "run", "epochs=2", talk=Talk())
    said = capsys.readouterr().err
    header, *rows = re.findall(r"^epoch .*|^ +\d  .*", said, re.MULTILINE)
    assert header.endswith("waiting for data    time")
    assert len(rows) == 2
    assert rows[0].endswith("best")
    assert re.search(r"done +best epoch \d: val accuracy .* 95 % interval", said)
    assert all(len(line) <= 100 for line in rows)


def test_a_run_that_diverges_ends_with_a_remedy(colours_data: Path, tmp_path: Path) -> None:
    keys = [*colours.SETTINGS, "lr=1e30", "schedule=constant", "momentum=0.0"]
    with pytest.raises(TrainingError, match="training diverged") as refusal:
        train(plan.make(str(colours_data), tmp_path / "run", "digits", keys), QUIET)
    assert refusal.value.hint == "--set lr=1e+29"
