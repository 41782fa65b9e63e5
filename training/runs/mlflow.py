"""Tracking: metrics.jsonl is the record of a run; where MLFLOW_TRACKING_URI names a store, MLflow gets a copy."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.artifact.manifest import Manifest
from training import atomic
from training.console.progress import Talk
from training.errors import Stopped, TrainingError
from training.runs import schema
from training.runs.checkpoint import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "mlflow.json"  # in the run folder: the id of its MLflow run, so that --resume and export find it
CHECKPOINT = ("meta.json", "splits.json", "metrics.jsonl", "weights.pt")  # enough for `evaluate` and `export`
QUIET_FACTOR = (
    10  # after an attempt that failed in 3 s the next comes 30 s later: an outage costs training 10 % at most
)

# What a person at a terminal wants, unless the environment says otherwise. MLflow's own 7 retries and 120 s would hold
# training up for minutes at every epoch; what one attempt did not send, the next one does.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for --json
}

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Copies one run folder to a tracking store. This one, without MLFLOW_TRACKING_URI, does nothing."""

    def send(self, status: Status) -> None:
        """Send what the store lacks. A store that does not answer is a warning: training must not stop for it."""

    def register(self, artifact: Path, manifest: Manifest) -> None:
        """Send the run's artifact and register it as a model version. Raises TrainingError where that fails."""


def connect(folder: Path, talk: Talk, *, resumed: bool) -> Tracker:
    """The tracker of the run in `folder`; `resumed`: it is there already, and goes on in the MLflow run it names.

    Raises TrainingError for a store that does not answer, or does not know that MLflow run.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return Tracker()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # only here: it takes 2 s, and reads the variables

    client = MlflowClient()
    try:
        experiment = _experiment(client)
    except Exception as error:  # a store is a plugin (HTTP, SQL, a cloud's): each raises its own errors
        raise TrainingError(
            f"MLflow cannot be used at {_shown(uri)}: {_reason(error)}",
            "start it, correct MLFLOW_TRACKING_URI (sqlite:///mlflow.db needs no server), or unset it",
        ) from error
    tracker = MLflow(client, experiment, folder, talk)
    if resumed:
        tracker.require_known(uri)
    return tracker


@contextmanager
def following(tracker: Tracker) -> Iterator[None]:
    """RUNNING while the block runs; then FINISHED, KILLED after Ctrl-C, FAILED after an error."""
    tracker.send("RUNNING")
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        tracker.send("KILLED")
        raise
    except BaseException:
        tracker.send("FAILED")
        raise
    tracker.send("FINISHED")


class MLflow(Tracker):
    """Sends from the run folder, never from memory: whatever was missed, the next call, or the next resume, sends."""

    def __init__(self, client: "MlflowClient", experiment: str, folder: Path, talk: Talk) -> None:
        self._client, self._experiment, self._folder, self._talk = client, experiment, folder, talk
        self._introduced = False
        self._warned = False
        self._quiet_until = 0.0

    def require_known(self, uri: str) -> None:
        """Raises TrainingError where the store does not hold the MLflow run that the folder names."""
        run_id = self._recorded()
        try:
            if run_id and self._client.get_run(run_id).info.lifecycle_stage != "active":
                raise TrainingError("it was deleted")
        except Exception as error:  # see connect
            raise TrainingError(
                f"this run's MLflow run is not to be had from {_shown(uri)}: {_reason(error)}",
                f"set MLFLOW_TRACKING_URI to its own store, or delete {self._folder / FILE} to track it anew",
            ) from error

    def send(self, status: Status) -> None:
        """Missing epochs, then the checkpoint where FINISHED, then the status."""
        started = time.monotonic()
        if status == "RUNNING" and started < self._quiet_until:
            return
        try:
            self._send(status)
        except Exception as error:  # see connect; not worth a training run, whatever it is
            self._quiet_until = time.monotonic() + QUIET_FACTOR * (time.monotonic() - started)
            self._warn(error, status)

    def register(self, artifact: Path, manifest: Manifest) -> None:
        """The whole folder is what is registered, so that a download can be verified and served."""
        try:
            if self._recorded() is None:
                self._send("FINISHED")
            version = self._register(artifact, manifest)
        except Exception as error:  # see connect
            raise TrainingError(
                f"{artifact} is written, but not in MLflow: {_reason(error)}",
                "once the store answers, export again as the next version",
            ) from error
        self._talk.fact("tracking", f"MLflow model {manifest.name}, version {version}")

    def _send(self, status: Status) -> None:
        run = Run.open(self._folder)
        run_id = self._recorded() or self._create(run)
        if not self._introduced:
            self._introduce(run_id, run)
        self._send_epochs(run_id, run.history())
        if status == "FINISHED":
            self._send_checkpoint(run_id, run)
        if status != "RUNNING":
            self._client.set_terminated(run_id, status)

    def _recorded(self) -> str | None:
        return schema.read_run_id(self._folder / FILE)

    def _create(self, run: Run) -> str:
        tags = {"mlflow.source.name": "sightglass train", "mlflow.source.git.commit": run.meta.commit}
        tags |= {f"sightglass.{key}": str(value) for key, value in run.meta.hardware.model_dump().items()}
        created = self._client.create_run(self._experiment, tags=tags, run_name=self._folder.resolve().name)
        run_id: str = created.info.run_id
        atomic.write(self._folder / FILE, json.dumps({"run_id": run_id}) + "\n")
        return run_id

    def _introduce(self, run_id: str, run: Run) -> None:
        """Once a process. A parameter that MLflow has already is sent again with the same value, which it allows."""
        from mlflow.entities import Param

        values = {"data": Path(run.meta.data.source).name, "recipe": run.choice[0]} | run.recipe.model_dump(mode="json")
        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in values.items()])
        self._client.update_run(run_id, "RUNNING")
        self._talk.fact("tracking", f"MLflow run {run_id}")
        self._introduced = True

    def _send_epochs(self, run_id: str, history: list[dict[str, Any]]) -> None:
        """The rows of metrics.jsonl that the store lacks, each in one request that it takes whole or not at all."""
        from mlflow.entities import Metric

        known = {metric.step for metric in self._client.get_metric_history(run_id, "val_accuracy")}
        for row in history:
            if row["epoch"] in known:
                continue
            now = round(time.time() * 1000)
            numbers = {key: value for key, value in row.items() if key != "epoch" and isinstance(value, int | float)}
            self._client.log_batch(run_id, [Metric(key, value, now, row["epoch"]) for key, value in numbers.items()])

    def _send_checkpoint(self, run_id: str, run: Run) -> None:
        """What it takes to evaluate and export elsewhere, and the best epoch, by which runs compare."""
        for name in CHECKPOINT:
            self._client.log_artifact(run_id, str(self._folder / name), "checkpoint")
        best = run.best()
        self._client.log_metric(run_id, "best_val_accuracy", best["val_accuracy"], step=best["epoch"])

    def _register(self, artifact: Path, manifest: Manifest) -> str:
        """MLflow counts versions itself; ours is a tag. Answers MLflow's."""
        assert manifest.metrics  # it is a run's
        run_id, score = self._recorded(), manifest.metrics.score
        path = f"exports/{manifest.name}/{manifest.version}"
        self._client.log_artifacts(run_id, str(artifact), path)
        self._client.log_metric(run_id, f"artifact_{score.split}_accuracy", score.accuracy, step=manifest.version)
        with _may_exist():
            self._client.create_registered_model(manifest.name)
        tags = {"sightglass.version": str(manifest.version), "sightglass.variant": manifest.default_variant}
        made = self._client.create_model_version(manifest.name, f"runs:/{run_id}/{path}", run_id, tags=tags)
        return str(made.version)

    def _warn(self, error: Exception, status: Status) -> None:
        if status != "RUNNING":
            self._talk.fact("warn", f"MLflow lacks the end of this run, --resume sends it: {_reason(error)}")
        elif not self._warned:
            self._talk.fact("warn", f"training goes on without MLflow, metrics.jsonl has it all: {_reason(error)}")
        self._warned = True


def _experiment(client: "MlflowClient") -> str:
    """The id of the experiment that MLflow's own variables name; `sightglass` without them."""
    chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if chosen:
        found = client.get_experiment(chosen)
    else:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "sightglass")
        with _may_exist():  # asking first would fail where two runs start at once
            client.create_experiment(name)
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise TrainingError(f'its experiment "{found.name}" was deleted')
    return str(found.experiment_id)


@contextmanager
def _may_exist() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _reason(error: Exception) -> str:
    """One line of about 200 characters: the start says what failed, the end of a chain why."""
    text = _shown(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-105:]}"


def _shown(text: str) -> str:
    """Without the password of a URL."""
    return re.sub(r"//[^/@\s]*@", "//", text)
