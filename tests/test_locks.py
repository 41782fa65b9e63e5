"""What `make serve` and `make test` install comes with any pip that a newcomer has, today and in a year."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.locks import FOLDER, pins, unpinned

OLDEST_PIP = "23.0.1"  # Debian 12's; Python 3.11 itself brings 23.2 or newer
ROOT = FOLDER.parent
LOCKS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_extra_is_pinned_as_one(lock: Path) -> None:
    assert pins(lock.read_text())
    assert not list(unpinned(lock.read_text()))


def test_an_extra_that_is_not_pinned_is_found() -> None:
    """The lock of the version that no fresh machine could install."""
    lock = (FOLDER / "dev.txt").read_text()
    assert "\ncoverage[toml]==" in lock
    stripped = lock.replace("\ncoverage[toml]==", "\ncoverage==")
    assert list(unpinned(stripped)) == ["pytest-cov asks for coverage[toml], which is pinned without it"]


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the oldest pip; skips where no package index answers."""
    folder = tmp_path_factory.mktemp("oldest") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", f"pip=={OLDEST_PIP}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.strip()[-300:]}")
    return folder


# dev.txt holds all of the others and 5 GB, which pip fetches in full; `make test` has it by uv, and by pip at a pinch
@pytest.mark.parametrize("lock", ["build", pytest.param("dev", marks=pytest.mark.slow)])
def test_the_oldest_pip_takes_every_lock(lock: str, oldest: Path) -> None:
    """Without installing them."""
    command = [str(oldest / "bin/pip"), "install", "--quiet", "--dry-run", "--require-hashes"]
    done = subprocess.run([*command, "-r", str(FOLDER / f"{lock}.txt")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_make_serves_install_works_with_the_oldest_pip(oldest: Path) -> None:
    # the name is that of `make serve`; it would go on and serve
    command = ["make", "--directory", str(ROOT), f"VENV={oldest}", f"{oldest}/.serve"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = subprocess.run([str(oldest / "bin/sightglass"), "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip()
