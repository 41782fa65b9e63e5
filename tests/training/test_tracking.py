"""What MLflow holds is what the run folder holds: in a local store, on a real server, and after an outage of it."""

import importlib.util
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
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app import startup
from tests.conftest import QUIET
from tests.training.conftest import Sightglass, hurried
from training import Stopped, TrainingError, plan, tracking
from training.checkpoint import Run
from training.evaluate import evaluate
from training.export import export
from training.progress import Talk
from training.train import train
from training.variants import WRITERS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Tracked

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"),
    # MLflow 3.17 on SQLAlchemy 2.1: its own deprecated loader, its own business
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
SHORT = ["channels=3", "batch_size=32", "val_fraction=0.3"]
TWO = {name: WRITERS[name] for name in ("onnx", "onnx-int8")}  # TorchScript takes time and adds nothing here


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


Connect = Callable[[str], "MlflowClient"]


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


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("local"))
    return str(request.getfixturevalue("server").url)


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


def test_a_run_is_in_the_store_with_parameters_every_epoch_and_its_checkpoint(
    track: Connect, uri: str, colours_data: Path, tmp_path: Path
) -> None:
    client = track(uri)
    learn(colours_data, tmp_path / "flowers")
    found = tracked(client, tmp_path / "flowers")
    assert (found.info.status, found.info.run_name) == ("FINISHED", "flowers")
    recipe = Run.open(tmp_path / "flowers").meta["recipe"]
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
    assert all(isinstance(answer, startup.Served) for answer in startup.verify(copy).values())
    logged = {each.path for each in client.list_artifacts(run_id(run), f"exports/{described.name}/1")}
    assert {f"exports/{described.name}/1/{name}" for name in ("report.html", "report.json")} <= logged


def test_a_second_export_becomes_the_next_version_of_the_model(
    track: Connect, local: str, colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    client = track(local)
    described = startup.start(colours_artifact, "onnx", device="cpu").manifest
    tracker = tracking.connect(shutil.copytree(colours_run, tmp_path / "run"), QUIET, resumed=True)
    for version in (1, 2):
        tracker.register(colours_artifact, described.model_copy(update={"version": version}))
    versions = client.search_model_versions(f"name='{described.name}'")
    assert {(str(each.version), each.tags["sightglass.version"]) for each in versions} == {("1", "1"), ("2", "2")}


def test_ctrl_c_is_killed_and_resume_goes_on_in_the_same_mlflow_run(
    track: Connect, local: str, colours_data: Path, tmp_path: Path
) -> None:
    client, out = track(local), tmp_path / "run"
    with pytest.raises(Stopped):
        learn(colours_data, out, 3, Hooked({1: lambda: signal.raise_signal(signal.SIGINT)}))
    first = run_id(out)
    assert tracked(client, out).info.status == "KILLED"
    assert [step for step, _ in epochs_of(client, out, "val_loss")] == [1]
    seen: list[str] = []
    learn(colours_data, out, talk=Hooked({2: lambda: seen.append(tracked(client, out).info.status)}), resume=True)
    assert run_id(out) == first
    assert seen == ["RUNNING"]
    assert tracked(client, out).info.status == "FINISHED"
    assert_same_history(client, out)


def test_an_error_is_failed(track: Connect, local: str, colours_data: Path, tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    client = track(local)
    with pytest.raises(OSError, match="the disk is full"):
        learn(colours_data, tmp_path / "run", 2, Hooked({1: fail}))
    assert tracked(client, tmp_path / "run").info.status == "FAILED"
    assert_same_history(client, tmp_path / "run")


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
    monkeypatch.setattr(tracking, "QUIET_FACTOR", 0)  # every epoch is tried: one warning for two failures
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
    really = tracking.MLflow._send
    monkeypatch.setattr(tracking.MLflow, "_send", lambda self, status: tried.append(status) or really(self, status))
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


def test_a_deleted_experiment_is_an_error_before_training(
    track: Connect, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = track(local)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    tracking.connect(tmp_path, QUIET, resumed=False)
    client.delete_experiment(client.get_experiment_by_name("flowers").experiment_id)
    with pytest.raises(TrainingError, match='its experiment "flowers" was deleted'):
        tracking.connect(tmp_path, QUIET, resumed=False)


def test_resuming_in_a_store_that_does_not_know_the_run_is_an_error(
    track: Connect, local: str, colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    track(local)
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "mlflow.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    with pytest.raises(TrainingError, match="this run's MLflow run is not to be had from sqlite") as refused:
        learn(colours_data, run, resume=True)
    assert "mlflow.json to track it anew" in refused.value.hint


def test_a_model_that_cannot_be_registered_is_an_error_and_the_artifact_stays(
    track: Connect, local: str, colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    client = track(local)
    run = shutil.copytree(colours_run, tmp_path / "run")
    described = startup.start(colours_artifact, "onnx", device="cpu").manifest
    tracker = tracking.connect(run, QUIET, resumed=True)
    tracker.send("FINISHED")
    client.delete_run(run_id(run))
    with pytest.raises(TrainingError, match="is written, but not in MLflow") as refused:
        tracker.register(colours_artifact, described)
    assert "next version" in refused.value.hint


def test_stdout_holds_one_json_document_with_tracking_too(
    track: Connect, uri: str, colours_data: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    track(uri)
    settings = [word for each in [*SHORT, "epochs=1"] for word in ("--set", each)]
    said = sightglass("train", colours_data, "--out", tmp_path / "run", "--recipe", "digits", *settings, "--json")
    assert json.loads(said.out)["best_epoch"] == 1
    assert f"tracking MLflow run {run_id(tmp_path / 'run')}" in said.err


def test_without_mlflow_the_error_names_the_extra(
    colours_data: Path, sightglass: Sightglass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # how Python itself says that a module is not to be imported
    said = sightglass("train", colours_data, "--out", tmp_path / "run")
    assert said.code == 2
    assert "needs mlflow" in said.err
    assert "hint: pip install -e '.[mlflow]'" in said.err
    assert not (tmp_path / "run").exists()


def in_fresh_process(code: str, tmp_path: Path, **environment: str) -> Any:
    """What `code` prints as JSON, outside pytest and CI, where MLflow would switch telemetry off by itself."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    imports = (
        "import json, sys; from pathlib import Path; from training import tracking; from training.progress import Talk"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{code}"],
        cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_mlflow_sends_no_telemetry_even_where_the_environment_asks_for_it(tmp_path: Path) -> None:
    code = (
        "tracking.connect(Path('run'), Talk(), resumed=False)\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "print(json.dumps(get_telemetry_client() is None))"
    )
    asked = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "false"}
    assert in_fresh_process(code, tmp_path, **asked) is True
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"], "no installation id in the home folder"


def test_without_a_store_nothing_is_tracked_and_mlflow_is_not_imported(tmp_path: Path) -> None:
    code = (
        "tracker = tracking.connect(Path('run'), Talk(), resumed=False)\n"
        "print(json.dumps([type(tracker).__name__, 'mlflow' in sys.modules]))"
    )
    assert in_fresh_process(code, tmp_path) == ["Tracker", False]
    assert list(tmp_path.iterdir()) == []
