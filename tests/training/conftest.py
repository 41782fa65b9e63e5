"""What the tests of `training/` share: a colour data set with its run and artifact, and the command in this process."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import QUIET
from tests.training import colours
from training import cli, gates, plan
from training.checkpoint import Run
from training.export import export
from training.train import train
from training.variants import WRITERS


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
