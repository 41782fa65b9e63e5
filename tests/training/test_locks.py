"""One writer to a folder: the second is told who the first is, and a killed one is in nobody's way."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import QUIET, Sightglass, hurried, score
from tests.training import colours
from tests.training.quick_runs import learn, weights
from training import atomic, locks
from training.console.progress import Talk
from training.errors import TrainingError
from training.export import export
from training.learning import plan
from training.locks import InUse
from training.runs.checkpoint import Run
from training.train import train
from training.variants.writers import WRITERS

HOLDER = """
import sys
from pathlib import Path
from training import locks
with locks.{how}:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(how: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds `locks.{how}` until its stdin ends."""
    command = [sys.executable, "-c", HOLDER.format(how=how)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        assert process.stdin
        process.stdin.close()


def writing_by_another(run: Path) -> "contextmanager[subprocess.Popen[str]]":
    return another(f"writing(Path({str(run)!r}))")  # type: ignore[return-value]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != locks.NAME}


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_the_second_is_told_who_has_the_folder_and_since_when(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with writing_by_another(run) as holder:
        with pytest.raises(InUse) as busy, locks.writing(run):
            pass
        who = rf"process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S+"
        assert re.fullmatch(f'"{re.escape(str(run))}" is in use by {who}', str(busy.value))
        assert (run / locks.NAME).exists(), "whoever was refused left it alone"


def test_nothing_is_left_of_a_lock_or_of_a_folder_that_stayed_empty(tmp_path: Path) -> None:
    with locks.writing(tmp_path / "runs" / "one") as locked:
        assert locked
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with locks.writing(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_the_lock_of_a_killed_process_does_not_stay(tmp_path: Path) -> None:
    with writing_by_another(tmp_path / "run") as holder:
        holder.kill()
        holder.wait()
    assert str(holder.pid) in (tmp_path / "run" / locks.NAME).read_text(), "it was not tidied up"
    locks.require_free(tmp_path / "run")
    with locks.writing(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / locks.NAME).read_text()


def test_whoever_waits_at_a_lock_that_is_removed_does_not_hold_an_old_one(tmp_path: Path) -> None:
    """Between its open() and its flock() the holder ends, and a third takes a new file of that name."""
    lock, rounds = tmp_path / ".lock", 0

    def slow(descriptor: int, how: int) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            lock.unlink()
        locks.fcntl.flock(descriptor, how)

    with locks.held(lock, tmp_path, flock=slow):
        assert rounds == 2
        with pytest.raises(InUse):
            locks.require_free(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_filesystem_without_locks_is_said_and_no_obstacle(number: int, tmp_path: Path) -> None:
    def without(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    with locks.held(tmp_path / ".lock", tmp_path, flock=without) as locked:
        assert not locked
    assert not (tmp_path / ".lock").exists()


def test_two_readers_share_and_the_last_one_tidies_up(tmp_path: Path) -> None:
    with locks.reading(tmp_path):
        with locks.reading(tmp_path), pytest.raises(InUse), locks.writing(tmp_path):
            pass
        with pytest.raises(InUse), locks.writing(tmp_path):
            pass
    assert not (tmp_path / locks.NAME).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with locks.reading(tmp_path) as locked:
        assert not locked


@pytest.fixture
def colours_run(colours_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of their own: locked, the one that all tests share would stop those of another worker."""
    return shutil.copytree(colours_run, tmp_path_factory.mktemp("runs") / "colours")


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"resume": True}, {"force": True}, {}])
def test_a_run_that_is_being_written_is_left_alone(how: dict[str, bool], colours_run: Path) -> None:
    before, source = contents(colours_run), Run.open(colours_run).meta.data.source
    with writing_by_another(colours_run), pytest.raises(InUse, match="is in use by process"):
        plan.make(source, colours_run, None if how.get("resume") else "digits", **how)
    assert contents(colours_run) == before


def test_two_trainings_planned_for_one_new_folder(tmp_path: Path) -> None:
    """Both plans find nothing there. One trains; the other is told, while it does and afterwards."""
    data, run = colours.write(tmp_path / "data", each=20), tmp_path / "run"
    plans = [plan.make(str(data), run, "digits", colours.SETTINGS) for _ in range(2)]

    class Second(Talk):
        refused = ""

        def line(self, text: str) -> None:
            if re.match(r" +1  ", text):
                with pytest.raises(InUse) as busy:
                    train(plans[1], QUIET)
                self.refused = str(busy.value)

    talk = Second()
    train(plans[0], talk)
    assert f"process {os.getpid()}" in talk.refused
    before = contents(run)
    with pytest.raises(TrainingError, match="exists") as exists:
        train(plans[1], QUIET)
    assert "--force" in exists.value.hint
    assert contents(run) == before


def test_a_lock_left_by_a_kill_is_no_run_that_is_in_the_way(tmp_path: Path) -> None:
    with writing_by_another(tmp_path / "run") as holder:
        holder.kill()
        holder.wait()
    learn(colours.write(tmp_path / "data", each=20), tmp_path / "run")
    assert not (tmp_path / "run" / locks.NAME).exists()


def test_evaluate_says_that_it_is_about_an_unfinished_run(
    colours_run: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    expected = score(colours_run).evaluation.accuracy
    with writing_by_another(colours_run) as holder:
        said = sightglass("evaluate", colours_run)
    assert said.code == 0
    assert f"is in use by process {holder.pid}" in said.err
    assert "its best epoch so far" in said.err
    assert f"{expected}" in said.out


def test_a_run_is_not_exported_while_it_is_trained_nor_trained_while_it_is_exported(
    colours_run: Path, tmp_path: Path
) -> None:
    run = Run.open(colours_run)
    with writing_by_another(colours_run), pytest.raises(InUse):
        export(run, tmp_path / "exports" / "colours" / "1", None, QUIET)
    assert not (tmp_path / "exports").exists()
    before = weights(colours_run)["epoch"]
    with another(f"reading(Path({str(colours_run)!r}))"), pytest.raises(InUse):
        train(plan.make(run.meta.data.source, colours_run, resume=True), QUIET)
    assert weights(colours_run)["epoch"] == before


# --- a new folder -----------------------------------------------------------------------------------------------------


def test_two_exports_into_one_version(colours_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "exports" / "colours" / "1"
    out.parent.mkdir(parents=True)
    lock = atomic.lock_of(out)
    with another(f"held(Path({str(lock)!r}), Path({str(out)!r}))"), pytest.raises(InUse, match="is in use by process"):
        export(Run.open(colours_run), out, None, QUIET)
    assert list(out.parent.iterdir()) == []
    with hurried():
        export(Run.open(colours_run), out, None, QUIET, {"model.onnx": WRITERS["model.onnx"]})
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_that_came_into_being_meanwhile_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    atomic.require_new(out)
    out.mkdir()
    (out / "theirs").touch()
    with pytest.raises(TrainingError, match="exists already"), atomic.new_folder(out):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["seen", "theirs"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_looks_at_the_lock_before_it_imports_torch(tmp_path: Path) -> None:
    with writing_by_another(tmp_path / "run"):
        code = "import sys; from sightglass.cli import main; sys.argv[1:] = ['train', 'digits', '--out', sys.argv[1]]\n"
        code += "try: main.main()\nexcept SystemExit as end: sys.exit('torch' if 'torch' in sys.modules else end.code)"
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "is in use" in done.stderr) == (1, True), done.stderr
