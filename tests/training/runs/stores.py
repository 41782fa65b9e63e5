"""MLflow stores: runs that are copied to one, and what it has of them."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import QUIET
from training.console.progress import Talk
from training.learning import plan
from training.runs.checkpoint import Run
from training.train import train
from training.variants.writers import WRITERS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Tracked


NEEDS_MLFLOW = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"),
    # MLflow 3.17 on SQLAlchemy 2.1: its own deprecated loader, its own business
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
SHORT = ["channels=3", "batch_size=32", "val_fraction=0.3"]
TWO = {
    file: WRITERS[file] for file in ("model.onnx", "model.int8.onnx")
}  # TorchScript takes time and adds nothing here
Connect = Callable[[str], "MlflowClient"]


def learn(data: Path, out: Path, epochs: int = 2, talk: Talk = QUIET, *, resume: bool = False) -> None:
    settings = [] if resume else [*SHORT, f"epochs={epochs}"]
    train(plan.make(str(data), out, None if resume else "digits", settings, resume=resume, device="cpu"), talk)


def run_id(out: Path) -> str:
    return str(json.loads((out / "mlflow.json").read_text())["run_id"])


def tracked(client: "MlflowClient", out: Path) -> "Tracked":
    return client.get_run(run_id(out))


def epochs_of(client: "MlflowClient", out: Path, key: str) -> list[tuple[int, float]]:
    """Epoch and value of every point that the store has of a metric, in order."""
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id(out), key))


def assert_same_history(client: "MlflowClient", out: Path) -> None:
    history = Run.open(out).history()
    for key in history[0].keys() - {"epoch"}:
        assert epochs_of(client, out, key) == [(row["epoch"], row[key]) for row in history], key


def downloaded(uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    return Path(download_artifacts(uri, dst_path=str(folder)))


class Hooked(Talk):
    """Does something as soon as the row of an epoch is said."""

    def __init__(self, at: dict[int, Callable[[], object]]) -> None:
        super().__init__(bars=False)
        self.at = at

    def line(self, text: str) -> None:
        super().line(text)
        if row := re.match(r" +(\d+)  ", text):
            self.at.get(int(row[1]), lambda: None)()
