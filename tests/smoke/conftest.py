"""The serving image, built once."""

import shutil
import subprocess

import pytest

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
