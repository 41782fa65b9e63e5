"""Other people's tools, each in a virtual environment of its own, which a machine makes once."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sharing import made_once

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightglass-ci"
_INSTALL_SECONDS = 300


def python_with(package: str) -> Path:
    """A Python that has the package, a name and its version; skips the test where no package index answers."""

    def install(folder: Path) -> None:
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        command = [*uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
        if done.returncode:
            pytest.skip(f"{package} cannot be installed: {done.stderr.strip()[-300:]}")

    wanted = hashlib.sha256(f"{package} for {sys.executable} {sys.version}".encode()).hexdigest()[:16]
    folder = _CACHE / wanted
    made_once(folder, install)
    return folder / "bin/python"
