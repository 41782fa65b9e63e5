"""Whatever ends a command from outside, it goes by itself, and nothing half-written stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Sightglass
from tests.training import colours
from tests.training.exports import copied
from training import interruption
from training.console.progress import Talk
from training.errors import Stopped
from training.learning import plan
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.train import train
from training.variants.writers import WRITERS


def start(*words: object) -> "subprocess.Popen[str]":
    """`sightglass` in its own process, with one thread."""
    command = [sys.executable, "-m", "sightglass", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def wait(process: "subprocess.Popen[str]", until: Callable[[], bool]) -> None:
    """For something that the process does. It must not end before."""
    end = time.monotonic() + 120
    while not until():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


class Impatient(Talk):
    """Whoever waits sends `number` as soon as the step `at` begins."""

    def __init__(self, at: str, number: int) -> None:
        super().__init__(quiet=True)
        self.at, self.number = at, number

    def step(self, what: str, total: int):  # type: ignore[no-untyped-def]
        if what == self.at:
            signal.raise_signal(self.number)
        return super().step(what, total)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_before_the_first_epoch_nothing_is_there_to_go_on_with(number: int, tmp_path: Path) -> None:
    made = plan.make(str(colours.write(tmp_path / "data", each=20)), tmp_path / "runs" / "one", "digits")
    with interruption.heard(interruption.stop), pytest.raises(Stopped) as stopped:
        train(made, Impatient("reading images", number))
    assert "--resume" not in str(stopped.value)
    assert stopped.value.number == number
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_while_a_resumed_run_is_read_the_command_is_said_again(colours_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    before = checkpoint.load(run / "last.pt")["history"]
    again = plan.make(Run.open(run).meta.data.source, run, resume=True)
    with interruption.heard(interruption.stop), pytest.raises(Stopped) as stopped:
        train(again, Impatient("reading val", signal.SIGTERM))
    assert re.fullmatch(
        r"stopped by SIGTERM; finished epochs are kept\nnext     sightglass train .* --resume .*", str(stopped.value)
    )
    assert checkpoint.load(run / "last.pt")["history"] == before


def test_no_except_exception_takes_a_stop_for_an_error() -> None:
    """Such as torch.load's, whatever it meets, or those around a tracking store."""
    with interruption.heard(interruption.stop), pytest.raises(Stopped, match=r"stopped by SIGTERM"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("it was taken for one")


def test_what_the_process_was_started_to_ignore_stays_ignored() -> None:
    """nohup's SIGHUP, a script's background job's SIGINT."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.heard(interruption.stop):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_comes_where_python_drops_it_comes_again() -> None:
    """In a weak reference's callback, of which torch has many: an export went on to its end and said nothing."""

    class Thing:
        pass

    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    with interruption.heard(interruption.stop), pytest.raises(Stopped, match="stopped by SIGTERM"):
        del thing
        end = time.monotonic() + 10
        while time.monotonic() < end:
            time.sleep(0.01)
    assert watched() is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_export_that_is_stopped_leaves_nothing(
    number: int,
    code: int,
    colours_run: Path,
    colours_artifact: Path,
    tmp_path: Path,
    sightglass: Sightglass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGTERM from outside, in the middle of whatever it does; SIGINT in this process, behind the second file."""
    out, run = tmp_path / "exports" / "colours" / "1", shutil.copytree(colours_run, tmp_path / "run")
    if number == signal.SIGTERM:
        process = start("export", run, "--out", out)
        wait(process, lambda: any(out.parent.glob(".1-*/model.onnx")))
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        ended = process.returncode
    else:
        monkeypatch.delitem(WRITERS, "model.torchscript.pt")
        monkeypatch.setitem(WRITERS, "model.onnx", copied(colours_artifact))
        monkeypatch.setitem(WRITERS, "model.int8.onnx", lambda *_: signal.raise_signal(number))
        ended, _, said = sightglass("export", run, "--out", out)
    assert ended == code, said
    assert said.splitlines()[-1] == ("stopped by SIGTERM" if number == signal.SIGTERM else "stopped")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == [run]
    assert not (run / ".lock").exists()


def test_the_first_process_of_a_container_hears_sigterm(colours_data: Path, tmp_path: Path) -> None:
    """The kernel gives process 1 only those signals that it has a handler for."""
    settings = [word for each in [*colours.SETTINGS, "epochs=1000"] for word in ("--set", each)]
    words = ["train", colours_data, "--recipe", "digits", *settings, "--out", tmp_path / "run"]
    inside = [sys.executable, "-m", "sightglass", *words]
    unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*unshare, *inside], stderr=subprocess.PIPE, text=True, env=environment)
    rows = tmp_path / "run" / "metrics.jsonl"  # there and empty a moment before a stop is one that can be resumed
    wait(process, lambda: rows.exists() and rows.stat().st_size > 0)
    first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(first, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "--resume" in said
