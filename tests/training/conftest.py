"""MLflow stores for the tests of `training/`."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.training.runs.stores import Connect
from training.runs import mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connect:
    """Track in this store from now on; answers MLflow's own client for it."""

    def use(uri: str) -> "MlflowClient":
        for name, value in mlflow._SETTINGS.items():  # so that they are gone after the test
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
