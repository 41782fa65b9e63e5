"""`app` and `training` are folders in many projects: the command uses its own, wherever it is called."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from app.settings import DEFAULT_MODEL
from tests.serving import environment, wait_until_listening

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project, which has an `app` and a `training` of its own."""
    for name in ("app", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is theirs')")
    return tmp_path


def path_of(project: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(project), str(ROOT)])}


@pytest.mark.parametrize("words", [["--version"], ["models"], ["recipes"], ["verify", DEFAULT_MODEL]])
def test_the_command_runs_in_a_project_with_the_same_names(project: Path, words: list[object]) -> None:
    command = [sys.executable, "-m", "sightglass", *map(str, words)]
    done = subprocess.run(command, cwd=project, env=os.environ | path_of(project), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_so_do_the_workers_that_are_spawned(project: Path, digits_artifact: Path) -> None:
    """TorchScript's are, each a new interpreter that imports what it is told by name."""
    log = project / "serve.log"
    settings = environment(digits_artifact, WORKERS=2, VARIANT="torchscript") | path_of(project)
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "sightglass", "serve"], cwd=project, env=settings, stderr=stderr
        ) as process,
    ):
        try:
            assert httpx2.get(f"{wait_until_listening(process, log)}/health").status_code == 200
        finally:
            process.terminate()
