"""What MLflow holds is what the run folder holds: on a real server as in a file, and after an outage of it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.inference import loading
from tests.commands import QUIET, Sightglass, hurried
from tests.training.runs.stores import (
    NEEDS_MLFLOW,
    SHORT,
    TWO,
    Connect,
    Hooked,
    assert_same_history,
    downloaded,
    epochs_of,
    learn,
    run_id,
    tracked,
)
from training.evaluate import evaluate
from training.export import export
from training.runs import mlflow
from training.runs.checkpoint import Run

pytestmark = NEEDS_MLFLOW


class Server:
    """A real `mlflow server` that a test can let hang, as one behind a dead network does."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = url, process

    def signal(self, kind: signal.Signals) -> None:
        """To the server and its workers: they are their own process group."""
        os.killpg(self.process.pid, kind)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 180  # 6 s on a quiet machine, 48 s measured on two busy cores
    while time.monotonic() < deadline:
        assert server.process.poll() is None, log.read_text()
        try:
            if httpx2.get(f"{server.url}/health", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the MLflow server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow-server")
    port = free_port()
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=said, stderr=said, start_new_session=True
        )
    started = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until_healthy(started, log)
        yield started
    finally:
        started.signal(signal.SIGKILL)
        process.wait(timeout=30)


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("local"))
    return str(request.getfixturevalue("server").url)


def test_a_run_is_in_the_store_with_parameters_every_epoch_and_its_checkpoint(
    track: Connect, uri: str, colours_data: Path, tmp_path: Path
) -> None:
    client = track(uri)
    learn(colours_data, tmp_path / "flowers")
    found = tracked(client, tmp_path / "flowers")
    assert (found.info.status, found.info.run_name) == ("FINISHED", "flowers")
    recipe = Run.open(tmp_path / "flowers").recipe.model_dump(mode="json")
    assert found.data.params["recipe"] == "digits"
    assert {key: found.data.params[key] for key in recipe} == {key: str(value) for key, value in recipe.items()}
    assert found.data.tags["sightglass.device"] == "cpu"
    assert_same_history(client, tmp_path / "flowers")
    copy = downloaded(f"runs:/{run_id(tmp_path / 'flowers')}/checkpoint", tmp_path / "copy")
    own, theirs = (evaluate(folder, None, "val", None, QUIET) for folder in (tmp_path / "flowers", copy))
    assert own.evaluation.accuracy == theirs.evaluation.accuracy


def test_what_export_registers_can_be_downloaded_verified_and_served(
    track: Connect, uri: str, colours_run: Path, tmp_path: Path
) -> None:
    """The run was trained without MLflow, so that the export brings it there too."""
    client = track(uri)
    run, out = shutil.copytree(colours_run, tmp_path / "run"), tmp_path / f"colours-{uri.partition(':')[0]}" / "1"
    with hurried():
        described = export(Run.open(run), out, None, QUIET, TWO)
    assert_same_history(client, run)
    registered = client.get_model_version(described.name, "1")
    assert registered.run_id == run_id(run)
    assert registered.tags["sightglass.version"] == "1"
    assert tracked(client, run).data.metrics["artifact_test_accuracy"] == described.metrics.score.accuracy
    copy = downloaded(f"models:/{described.name}/1", tmp_path / "copy")
    assert {each.name: each.read_bytes() for each in copy.iterdir()} == {
        each.name: each.read_bytes() for each in out.iterdir()
    }
    assert all(isinstance(answer, loading.Served) for answer in loading.verify(copy).values())
    logged = {each.path for each in client.list_artifacts(run_id(run), f"exports/{described.name}/1")}
    assert {f"exports/{described.name}/1/{name}" for name in ("report.html", "report.json")} <= logged


@contextmanager
def hanging(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Functions that let the server hang and go on; it goes on at the end in any case."""

    def stop() -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        server.signal(signal.SIGSTOP)

    def go_on() -> None:
        server.signal(signal.SIGCONT)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

    try:
        yield stop, go_on
    finally:
        go_on()


def test_epochs_missed_while_the_server_hung_are_sent_at_the_end(
    track: Connect,
    server: Server,
    colours_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client, out = track(server.url), tmp_path / "run"
    monkeypatch.setattr(mlflow, "QUIET_FACTOR", 0)  # every epoch is tried: one warning for two failures
    with hanging(server, monkeypatch) as (stop, go_on):
        learn(colours_data, out, 4, Hooked({2: stop, 4: go_on}))
    assert capsys.readouterr().err.count("warn ") == 1
    assert tracked(client, out).info.status == "FINISHED"
    assert len(Run.open(out).history()) == 4
    assert_same_history(client, out)


def test_a_run_that_the_server_lost_sight_of_is_whole_and_resume_sends_the_rest(
    track: Connect,
    server: Server,
    colours_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client, out = track(server.url), tmp_path / "run"
    tried: list[str] = []
    really = mlflow.MLflow._send
    monkeypatch.setattr(mlflow.MLflow, "_send", lambda self, status: tried.append(status) or really(self, status))
    with hanging(server, monkeypatch) as (stop, _):
        learn(colours_data, out, 3, Hooked({2: stop}))
    assert tried == ["RUNNING", "RUNNING", "RUNNING", "FINISHED"], (
        "before, after 1, after 2; not after 3, but at the end"
    )
    said = capsys.readouterr().err
    assert "training goes on without MLflow, metrics.jsonl has it all" in said
    assert "MLflow lacks the end of this run, --resume sends it" in said
    assert [row["epoch"] for row in Run.open(out).history()] == [1, 2, 3]
    assert [step for step, _ in epochs_of(client, out, "val_loss")] == [1]
    learn(colours_data, out, resume=True)
    assert tracked(client, out).info.status == "FINISHED"
    assert_same_history(client, out)


def test_a_store_that_does_not_answer_is_an_error_before_training(
    track: Connect, colours_data: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    track(f"http://someone:secret@127.0.0.1:{free_port()}")
    said = sightglass("train", colours_data, "--out", tmp_path / "run")
    assert said.code == 1
    assert re.match(r"error: MLflow cannot be used at http://127\.0\.0\.1:\d+: .*\n\nhint: start it, ", said.err)
    assert "Connection refused" in said.err
    assert "secret" not in said.err
    assert not (tmp_path / "run").exists()


def test_stdout_holds_one_json_document_with_tracking_too(
    track: Connect, uri: str, colours_data: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    track(uri)
    settings = [word for each in [*SHORT, "epochs=1"] for word in ("--set", each)]
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--recipe", "digits", *settings, "--json")
    assert json.loads(said.out)["best_epoch"] == 1
    assert f"tracking MLflow run {run_id(tmp_path / 'run')}" in said.err
