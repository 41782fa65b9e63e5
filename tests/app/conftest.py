"""What the tests of `app/` share: a server of the digits with its client, and an artifact to tamper with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.serving import Server
from tests.sharing import SharedFolders, SharedServers

MAX_UPLOAD_BYTES = 2_000_000


@pytest.fixture(scope="module")
def server(digits_artifact: Path, servers: SharedServers) -> Server:
    """The same process for all files; leave it alive and idle."""
    return servers.serve(digits_artifact, MAX_UPLOAD_BYTES=MAX_UPLOAD_BYTES, MAX_PIXELS=20_000_000)


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as ready:
        yield ready


@pytest.fixture
def copy(digits_artifact: Path, tmp_path: Path) -> Path:
    """A copy of the session's artifact, to tamper with."""
    return Path(shutil.copytree(digits_artifact, tmp_path / "digits" / "1"))


@pytest.fixture(scope="session")
def squares_artifact(shared: SharedFolders) -> Path:
    """Bright square or nothing, with 4 x 4 heat maps. The run is in `../../run`. Do not write into it."""
    from tests.app.inference import squares

    return shared.make("squares", lambda folder: squares.write_all(folder, "residual-cnn")) / squares.ARTIFACT


@pytest.fixture(scope="session")
def squares_without_maps(shared: SharedFolders) -> Path:
    """The same by a network that flattens its features, so that there are no maps. Do not write into it."""
    from tests.app.inference import squares

    return shared.make("flat-squares", lambda folder: squares.write_all(folder, "mnist-cnn")) / squares.ARTIFACT
