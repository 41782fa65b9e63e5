"""What MLflow holds is what the run folder holds: in a store without a server, and without any."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.inference import loading
from tests.commands import QUIET, Sightglass
from tests.training.runs.stores import (
    NEEDS_MLFLOW,
    Connect,
    Hooked,
    assert_same_history,
    epochs_of,
    learn,
    run_id,
    tracked,
)
from training.errors import Stopped, TrainingError
from training.runs import mlflow

pytestmark = NEEDS_MLFLOW


def test_a_second_export_becomes_the_next_version_of_the_model(
    track: Connect, local: str, colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    client = track(local)
    described = loading.start(colours_artifact, "onnx", device="cpu").manifest
    tracker = mlflow.connect(shutil.copytree(colours_run, tmp_path / "run"), QUIET, resumed=True)
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


def test_a_killed_process_leaves_its_mlflow_run_running_and_resume_ends_it(
    track: Connect, local: str, colours_data: Path, tmp_path: Path
) -> None:
    client, out = track(local), tmp_path / "run"
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.training.runs.stores import Hooked, learn;"
        "os.environ['MLFLOW_TRACKING_URI'] = sys.argv[3];"  # the tests' own conftest takes it away
        "kill = {2: lambda: os.kill(os.getpid(), signal.SIGKILL)};"
        "learn(Path(sys.argv[1]), Path(sys.argv[2]), 3, Hooked(kill))"
    )
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", code, colours_data, out, local]
    done = subprocess.run(words, env=found, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = run_id(out)
    assert tracked(client, out).info.status == "RUNNING"
    learn(colours_data, out, resume=True)
    assert run_id(out) == first
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


def test_a_deleted_experiment_is_an_error_before_training(
    track: Connect, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = track(local)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    mlflow.connect(tmp_path, QUIET, resumed=False)
    client.delete_experiment(client.get_experiment_by_name("flowers").experiment_id)
    with pytest.raises(TrainingError, match='its experiment "flowers" was deleted'):
        mlflow.connect(tmp_path, QUIET, resumed=False)


def test_resuming_in_a_store_that_does_not_know_the_run_is_an_error(
    track: Connect, local: str, colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    track(local)
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "mlflow.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    with pytest.raises(TrainingError, match="this run's MLflow run is not to be had from sqlite") as refused:
        learn(colours_data, run, resume=True)
    assert "mlflow.json to track it anew" in refused.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 7}'])
def test_a_damaged_record_of_the_mlflow_run_is_an_error_before_training(
    content: str, track: Connect, local: str, colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    track(local)
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "mlflow.json").write_text(content)
    with pytest.raises(TrainingError, match=r"mlflow\.json is damaged") as refused:
        learn(colours_data, run, resume=True)
    assert "delete it" in refused.value.hint


def test_a_model_that_cannot_be_registered_is_an_error_and_the_artifact_stays(
    track: Connect, local: str, colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    client = track(local)
    run = shutil.copytree(colours_run, tmp_path / "run")
    described = loading.start(colours_artifact, "onnx", device="cpu").manifest
    tracker = mlflow.connect(run, QUIET, resumed=True)
    tracker.send("FINISHED")
    client.delete_run(run_id(run))
    with pytest.raises(TrainingError, match="is written, but not in MLflow") as refused:
        tracker.register(colours_artifact, described)
    assert "next version" in refused.value.hint


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
        "import json, sys; from pathlib import Path; from training.runs import mlflow as tracking;"
        " from training.console.progress import Talk"
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
