"""What the tests of `training/` share: a colour data set with its run and artifact, and ways to call what is tested."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import QUIET
from tests.training import colours
from tests.training.stores import Connect
from training import cli, evaluate, gates, plan, tracking
from training.checkpoint import Run
from training.evaluate import Predictions
from training.export import export
from training.train import train
from training.variants import WRITERS

if TYPE_CHECKING:
    from mlflow import MlflowClient

NO_TORCH = """
import sys
from training import cli
sys.argv = ["sightglass", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as stop:
    heavy = {"torch", "torchvision", "sklearn", "scipy", "matplotlib", "onnx"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else stop.code)
"""


@contextmanager
def hurried() -> Iterator[None]:
    """One round of timing instead of seven, 0.6 s less for each variant: where answers matter and speed does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "cpu_ms", partial(gates.cpu_ms, rounds=1))
        yield


@pytest.fixture(scope="session")
def colours_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of 3 classes of 60 pictures. Do not write into it; copy it."""
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
        export(Run.open(colours_run), out, None, QUIET, {name: WRITERS[name] for name in ("onnx", "onnx-int8")})
    return out


class Said(NamedTuple):
    """What a command answered: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Sightglass = Callable[..., Said]


@pytest.fixture
def sightglass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sightglass:
    """The `sightglass` command, run in this process."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["sightglass", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Said(code, *capsys.readouterr())

    return run


def alone(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process that fails if anything of the train extra was imported."""
    command = [sys.executable, "-c", NO_TORCH, *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


def score(target: Path, data: object = None, split: str | None = None, variant: str | None = None) -> Predictions:
    return evaluate.evaluate(target, None if data is None else str(data), split, variant, QUIET)


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connect:
    """Track in this store from now on; answers MLflow's own client for it."""

    def use(uri: str) -> "MlflowClient":
        for name, value in tracking._SETTINGS.items():  # so that they are gone after the test
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.chdir(tmp_path)
        from mlflow import MlflowClient

        return MlflowClient(uri)

    return use


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store without a server, on which each test looks at its own runs only."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
