"""The serving image, built once, and an artifact that is not the one in it. Nothing here needs torch: `make smoke`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from app.artifact import manifest
from app.settings import DEFAULT_MODEL
from tests.smoke.docker import IMAGE, docker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/smoke/" in item.path.as_posix():
            item.add_marker(pytest.mark.smoke)


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """The name of the image, made from this checkout."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.fail("no Docker engine answers")
    docker("build", "--quiet", "--tag", IMAGE, ".")
    return IMAGE


@pytest.fixture
def other_artifact(tmp_path: Path) -> Path:
    """The default one under another name."""
    folder = Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "other" / "1"))
    manifest.load(folder).model_copy(update={"name": "other"}).save(folder)
    return folder
