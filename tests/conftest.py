"""What tests share: small trained runs and their artifacts, the command, and where CIFAR-10 is."""

import os
import signal
import sys
from pathlib import Path

# One test process per core, each with one thread; torch reads this when it is first imported. Several multithreaded
# torch processes on few cores wait for each other at every operation: measured, 50 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the developer's own store is none of the tests' business

import pytest

from sightglass.cli import main
from tests.commands import QUIET, Said, Sightglass, hurried
from tests.training import colours
from training.export import export
from training.learning import plan
from training.runs.checkpoint import Run
from training.train import train
from training.variants.writers import WRITERS

# What a shell starts in the background ignores these, and so would all that tests start and interrupt.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the digits recipe, half as long as the recipe's own."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    train(plan.make("digits", out, "digits", ["epochs=6"], resume=False, force=False), QUIET)
    return out


@pytest.fixture(scope="session")
def digits_artifact(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of `digits_run`. Do not write into it; copy it."""
    out = tmp_path_factory.mktemp("exports") / "digits" / "1"
    export(Run.open(digits_run), out, None, QUIET)
    return out


@pytest.fixture(scope="session")
def colours_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of 3 classes of 60 images. Do not write into it; copy it."""
    return colours.write(tmp_path_factory.mktemp("data") / "colours", each=60)


@pytest.fixture(scope="session")
def colours_run(colours_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `colours_data`. Do not write into it; copy it."""
    out = tmp_path_factory.mktemp("runs") / "colours"
    train(plan.make(str(colours_data), out, "digits", colours.SETTINGS, resume=False, force=False), QUIET)
    return out


@pytest.fixture(scope="session")
def colours_artifact(colours_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of `colours_run`, without TorchScript to save time. Do not write into it; copy it."""
    out = tmp_path_factory.mktemp("exports") / "colours" / "1"
    with hurried():
        export(
            Run.open(colours_run), out, None, QUIET, {file: WRITERS[file] for file in ("model.onnx", "model.int8.onnx")}
        )
    return out


@pytest.fixture
def sightglass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sightglass:
    """The `sightglass` command, run in this process."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["sightglass", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The CIFAR-10 folder with train/ and test/ that CIFAR10_DIR names."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        pytest.skip("CIFAR10_DIR names no folder with CIFAR-10 images")
    return Path(folder)
