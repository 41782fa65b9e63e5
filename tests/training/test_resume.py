"""A kill or an interrupt costs nothing but the current epoch."""

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.commands import QUIET, Sightglass
from tests.training import colours
from tests.training.quick_runs import differences, learn, metrics, weights
from tests.training.runs.stores import Hooked
from training.console.progress import Talk
from training.errors import Stopped, TrainingError
from training.learning import epochs, plan
from training.learning.learner import Learner
from training.runs.checkpoint import Run
from training.train import train

# --- killed, interrupted, resumed: real processes ---------------------------------------------------------------------

PAUSED = "paused in the second epoch"
PAUSING = f"""
import sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from sightglass.cli import main
steps = 0
def pause(*_):
    global steps
    steps += 1
    if steps == 5:  # of 3 in an epoch
        print("{PAUSED}", file=sys.stderr, flush=True)
        sys.stdin.read()  # until the signal has been sent
register_optimizer_step_post_hook(pause)
main.main()
"""


def interrupted(data: Path, out: Path, kind: signal.Signals) -> tuple[int, str]:
    """A run like `colours_run` in a process that gets the signal in the middle of its second epoch: how it ended, and
    what it said."""
    settings = [word for each in colours.SETTINGS for word in ("--set", each)]
    command = [sys.executable, "-c", PAUSING, "train", data, "--recipe", "digits", *settings, "--no-progress"]
    with subprocess.Popen(
        [*map(str, command), "--out", str(out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr
        said = "".join(iter(process.stderr.readline, f"{PAUSED}\n"))
        process.send_signal(kind)
        said += process.communicate(timeout=60)[1]
    return process.returncode, said


def interrupted_here(sightglass: Sightglass, data: Path, out: Path, kind: signal.Signals) -> tuple[int, str]:
    """The same in this process."""
    steps = itertools.count(1)
    settings = [word for each in colours.SETTINGS for word in ("--set", each)]
    hook = register_optimizer_step_post_hook(lambda *_: next(steps) == 5 and signal.raise_signal(kind))
    try:
        said = sightglass("train", data, "--recipe", "digits", *settings, "--no-progress", "--out", out)
    finally:
        hook.remove()
    return said.code, said.err


def test_a_killed_run_resumes_to_bit_identical_weights(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    out = tmp_path / "killed"
    assert interrupted(colours_data, out, signal.SIGKILL)[0] == -signal.SIGKILL
    assert [row["epoch"] for row in metrics(out)] == [1]
    resumed = sightglass("train", colours_data, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err
    assert "resume" in resumed.err
    assert differences(out, colours_run, "weights.pt") == []
    assert differences(out, colours_run, "last.pt") == []
    assert metrics(out) == metrics(colours_run)
    assert [row["epoch"] for row in metrics(out)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "code", "stopping", "alone"),
    [
        (signal.SIGINT, 130, "stopping after this batch; Ctrl-C again stops now", True),
        (signal.SIGTERM, 143, "stopping by SIGTERM after this batch", False),
        (signal.SIGHUP, 129, "stopping by SIGHUP after this batch", False),
    ],
)
def test_an_interrupt_leaves_a_valid_run_and_prints_the_command_that_resumes_it(
    kind: signal.Signals,
    code: int,
    stopping: str,
    alone: bool,
    colours_data: Path,
    sightglass: Sightglass,
    tmp_path: Path,
) -> None:
    """`alone`: in a process of its own. SIGTERM to one that is: test_interruption.py."""
    out = tmp_path / "interrupted"
    ended, said = (
        interrupted(colours_data, out, kind) if alone else interrupted_here(sightglass, colours_data, out, kind)
    )
    assert ended == code, said
    assert stopping in said.splitlines()
    assert "Traceback" not in said
    finished = metrics(out)
    assert [row["epoch"] for row in finished] == [1]
    assert weights(out)["epoch"] == 1
    command = re.search(r"next +sightglass (train .*--resume)", said)
    assert command, said
    assert sightglass(*shlex.split(command[1])).code == 0
    assert metrics(out)[:1] == finished
    assert [row["epoch"] for row in metrics(out)] == [1, 2, 3]


def test_a_stop_in_the_last_validation_finds_the_run_complete_and_says_so(
    colours_data: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits_of = epochs.logits_of

    def validate(*given: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return logits_of(*given)

    monkeypatch.setattr(epochs, "logits_of", validate)
    settings = [word for each in [*colours.SETTINGS, "epochs=1"] for word in ("--set", each)]
    said = sightglass("train", colours_data, "--recipe", "digits", *settings, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    lines = said.err.splitlines()
    stopping = lines.index("stopping by SIGTERM after this batch")
    assert lines.index("stop     it came after the last batch: the run is complete") > stopping
    assert lines[-1] == f"next     sightglass evaluate {tmp_path / 'run'}"
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == [1]


# --- in this process, on small images -------------------------------------------------------------------------------


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
    origin = Run.open(run).meta.data.source
    train(plan.make(origin, run, None, [], resume=True, force=False), QUIET)
    assert (run / "metrics.jsonl").read_text() == complete


def test_weights_lost_with_the_last_epoch_come_back(colours_run: Path, tmp_path: Path) -> None:
    """As after a kill between last.pt and weights.pt."""
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "weights.pt").unlink()
    train(plan.make(Run.open(run).meta.data.source, run, resume=True), QUIET)
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
    origin = Run.open(run).meta.data.source
    result = train(plan.make(origin, run, None, [], resume=True, force=False), QUIET)
    history = Run.open(colours_run).history()
    assert result.accuracy.value == max(row["val_accuracy"] for row in history)
    for name in ("weights.pt", "last.pt", "meta.json", "splits.json", "metrics.jsonl"):
        assert (run / name).read_bytes() == (colours_run / name).read_bytes()


def test_a_finished_run_says_so_and_what_comes_next(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    for dry in ([], ["--dry-run"]):
        said = sightglass("train", colours_data, "--out", run, "--resume", *dry)
        assert said.code == 0
        assert "all 3 epochs are finished" in said.err
        assert "train loss" not in said.err, "no table without rows"
        assert " min" not in said.err, "there is nothing left to wait for"
        assert said.err.splitlines()[-1] == f"next     sightglass evaluate {run}"


def test_a_dry_resume_counts_the_epochs_that_are_left(
    colours_data: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 of 20 minutes are left after 2 of 20 epochs."""
    with pytest.raises(KeyboardInterrupt):
        learn(colours_data, tmp_path / "run", "epochs=20", talk=Hooked({2: _interrupt}))
    monkeypatch.setattr(Learner, "images_per_second", lambda _, pixels: len(pixels) / 60)
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--resume", "--dry-run")
    assert "about 18 min" in said.err


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_resuming_on_changed_images_is_refused(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    data = shutil.copytree(colours_data, tmp_path / "data")
    Image.new("RGB", (16, 16)).save(data / "red" / "000.png")
    with pytest.raises(TrainingError, match=r"files changed or vanished since training, the first: red/000\.png"):
        train(plan.make(str(data), run, None, [], resume=True, force=False), QUIET)


def test_a_run_that_diverges_ends_with_a_remedy(colours_data: Path, tmp_path: Path) -> None:
    keys = [*colours.SETTINGS, "lr=1e30", "schedule=constant", "momentum=0.0"]
    with pytest.raises(TrainingError, match="training diverged") as refusal:
        train(plan.make(str(colours_data), tmp_path / "run", "digits", keys), QUIET)
    assert refusal.value.hint == "--set lr=1e+29, or a larger batch_size"


def test_where_phases_have_the_rates_a_run_that_diverges_names_them(colours_data: Path, tmp_path: Path) -> None:
    keys = [*colours.SETTINGS, "momentum=0.0", "phases=[{share=1, lr=1e30, schedule='constant'}]"]
    with pytest.raises(TrainingError, match="training diverged") as refusal:
        train(plan.make(str(colours_data), tmp_path / "run", "digits", keys), QUIET)
    assert refusal.value.hint.startswith("--set 'phases=[...]'")
