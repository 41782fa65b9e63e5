"""What the tests of `deploy/` share: the rendered overlays, and the Lambda function from its package to its process."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from app.settings import DEFAULT_MODEL
from tests.deploy.lambda_events import build, local, template_settings
from tests.deploy.manifests import OVERLAYS, Document, overlay


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return overlay(request.param)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Lambda unpacks, but for the libraries."""
    folder = tmp_path_factory.mktemp("lambda") / "package"
    folder.mkdir()
    build.copy_ours(folder, DEFAULT_MODEL)
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the built package has of the lock, as this machine has it installed; and nothing else."""
    for name in ("mangum", *local.CLIENT):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: pip install -e '.[lambda,dev]'")
    folder: Path = tmp_path_factory.mktemp("libraries")
    here = [each for each in build.needed() if "sys_platform == 'win32'" not in each]
    local.link([each.partition("==")[0] for each in here], folder)
    return folder


@pytest.fixture(scope="module")
def function(package: Path, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One process for all tests of a file that do not need their own."""
    with local.started(package, tmp_path_factory.mktemp("function"), libraries, template_settings()) as running:
        yield running
