"""What tests share: one small trained run and its artifact, made once a session, and where CIFAR-10 is."""

import os
import signal
from pathlib import Path

# One test process per core, each with one thread; torch reads this when it is first imported. Several multithreaded
# torch processes on few cores wait for each other at every operation: measured, 50 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the developer's own store is none of the tests' business

import pytest

from training import plan
from training.checkpoint import Run
from training.export import export
from training.progress import Talk
from training.train import train

QUIET = Talk(quiet=True)
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
def cifar10() -> Path:
    """The CIFAR-10 folder with train/ and test/ that CIFAR10_DIR names."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        pytest.skip("CIFAR10_DIR names no folder with CIFAR-10 images")
    return Path(folder)
