"""The package of the Lambda function: what is in it, and that it is the same whenever it is made."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.deploy.lambda_events import ROOT, build


def test_the_package_takes_from_the_lock_what_the_function_imports() -> None:
    names = {each.partition("==")[0] for each in build.needed()}
    lock = (ROOT / "requirements/lambda.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9][^=]*)==", lock, re.MULTILINE))
    assert locked > build.UNUSED
    assert locked - build.UNUSED == names
    assert {"mangum", "onnxruntime", "fastapi"} <= names
    assert "torch" not in locked
    assert all("--hash=sha256:" in each for each in build.needed())


def test_the_zip_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    archives = []
    for number in (1, 2):
        folder = tmp_path / str(number) / "lambda"
        for name in sorted(("b/two.py", "a.py", "exports/model.onnx"), reverse=number == 2):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
            path.chmod(0o600 + number * 0o11)
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        archives.append(build.pack(folder).read_bytes())
    assert archives[0] == archives[1]


def test_a_package_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    with (artifact / "model.onnx").open("wb") as file:
        file.truncate(build.LIMIT_BYTES)
    monkeypatch.setattr(build, "install", lambda folder: folder.mkdir())
    monkeypatch.setattr(sys, "argv", ["build.py", "--artifact", str(artifact), "--out", str(tmp_path / "lambda")])
    with pytest.raises(SystemExit, match="Lambda takes no package of this size"):
        build.main()
    assert not (tmp_path / "lambda.zip").exists()
