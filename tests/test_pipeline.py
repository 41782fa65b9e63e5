"""From files on disk to answers over HTTP: what is served is what was evaluated."""

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from app.settings import DEFAULT_MODEL
from tests.commands import Sightglass
from tests.images import drawing, encode
from tests.serving import serving
from training.data.source import index

ROOT = Path(__file__).parent.parent


def process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its own process."""
    command = [sys.executable, "-m", "sightglass", *(str(word) for word in words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | environment
    )


@cache
def odd_images() -> list[tuple[str, bytes]]:
    """50 large, rotated, translucent and CMYK files."""
    files = []
    for seed in range(10):
        photo = drawing(800 + 37 * seed, 600 - 23 * seed, seed)
        translucent = photo.convert("RGBA")
        translucent.putalpha(Image.linear_gradient("L").resize(photo.size))
        files += [
            (f"large{seed}.jpg", encode(drawing(2400, 1600, seed), "JPEG")),
            (f"turned{seed}.jpg", encode(photo, "JPEG", orientation=1 + seed % 8)),
            (f"alpha{seed}.png", encode(translucent)),
            (f"cmyk{seed}.jpg", encode(photo.convert("CMYK"), "JPEG")),
            (f"wide{seed}.png", encode(drawing(1500, 90 + seed, seed))),
        ]
    return files


def folder_of_files(source: str, count: int, folder: Path) -> Path:
    """`count` files of a data set's test split (or of all of it), evenly taken, and the odd ones, in class folders."""
    data = index(source)
    samples = data.splits.get("test") or data.splits["all"]
    chosen = [samples[position * len(samples) // count] for position in range(count)]
    files = [(f"{data.labels[s.label]}/{Path(s.path).name}", data.read(s.path)) for s in chosen]
    files += [(f"{data.labels[0]}/{name}", content) for name, content in odd_images()]
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def require_http_equals_evaluate(
    sightglass: Sightglass, artifact: Path, folder: Path, count: int, tmp_path: Path
) -> None:
    done = sightglass("evaluate", artifact, "--data", folder, "--out", tmp_path / "evaluated")
    assert done.code == 0, done.err
    with (tmp_path / "evaluated/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count + 50
    with serving(artifact, tmp_path) as server, httpx2.Client(base_url=server.url) as client:
        for row in rows:
            content = (folder / row["path"]).read_bytes()
            answer = client.post("/predict?top_k=all", files={"file": content}).json()
            assert answer["prediction"] == row["prediction"], row["path"]
            for each in answer["top_k"]:
                assert abs(each["probability"] - float(row[f"p_{each['class']}"])) <= 1e-5, row["path"]


def test_http_equals_evaluate_on_digits(digits_artifact: Path, tmp_path: Path, sightglass: Sightglass) -> None:
    folder = folder_of_files("digits", 150, tmp_path / "images")
    require_http_equals_evaluate(sightglass, digits_artifact, folder, 150, tmp_path)


@pytest.mark.cifar10
def test_http_equals_evaluate_on_cifar10(cifar10: Path, tmp_path: Path, sightglass: Sightglass) -> None:
    folder = folder_of_files(str(cifar10), 500, tmp_path / "images")
    require_http_equals_evaluate(sightglass, DEFAULT_MODEL, folder, 500, tmp_path)


@pytest.mark.parametrize("variant", ["torchscript", "onnx", "onnx-int8"])
@pytest.mark.cifar10
def test_the_default_artifact_is_as_accurate_as_it_says(variant: str, cifar10: Path, sightglass: Sightglass) -> None:
    described = json.loads((DEFAULT_MODEL / "manifest.json").read_text())["variants"][variant]
    scores = json.loads(sightglass("evaluate", DEFAULT_MODEL, "--data", cifar10, "--variant", variant, "--json").out)
    assert scores["n"] == described["score"]["n"] == 5000
    # another CPU may round an INT8 product differently and move a few images
    assert abs(scores["accuracy"] - described["score"]["accuracy"]) <= (0.002 if variant == "onnx-int8" else 0.0004)


def test_the_default_artifact_passed_its_gates() -> None:
    manifest = json.loads((DEFAULT_MODEL / "manifest.json").read_text())
    checkpoint, variants = manifest["metrics"]["score"], manifest["variants"]
    int8, onnx = variants["onnx-int8"], variants["onnx"]
    assert manifest["default_variant"] == "onnx-int8"
    assert checkpoint["accuracy"] >= 0.88
    assert checkpoint["accuracy"] - int8["score"]["accuracy"] <= 0.005
    assert int8["agreement"] >= 0.98
    assert min(onnx["agreement"], variants["torchscript"]["agreement"]) >= 0.999
    for size in ("1", "8"):
        assert onnx["cpu_ms_per_image"][size] / int8["cpu_ms_per_image"][size] >= 1.6
    assert sum(path.stat().st_size for path in DEFAULT_MODEL.iterdir()) <= 20e6


NO_TRAINING_LIBRARIES = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "onnx", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def serving_install(tmp_path: Path) -> dict[str, str]:
    """An environment in which what only training installs cannot be imported."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent/sitecustomize.py").write_text(NO_TRAINING_LIBRARIES)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "absent"), os.environ.get("PYTHONPATH", "")])}


def test_the_serving_install_verifies_predicts_and_lists(serving_install: dict[str, str]) -> None:
    verified = process("verify", DEFAULT_MODEL, **serving_install)
    assert verified.returncode == 0, verified.stderr
    assert "ok           onnx-int8" in verified.stdout
    assert "not checked  torchscript" in verified.stdout
    predicted = process("predict", DEFAULT_MODEL, ROOT / "cat.jpg", "--json", **serving_install)
    assert json.loads(predicted.stdout)[0]["top_k"][0]["probability"] > 0.1
    assert "residual-cnn" in process("models", **serving_install).stdout


def test_the_serving_install_serves(
    serving_install: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in serving_install.items():
        monkeypatch.setenv(name, value)
    with serving(DEFAULT_MODEL, tmp_path) as server:
        assert httpx2.get(f"{server.url}/health").json()["status"] == "ok"


def test_a_command_that_needs_an_extra_names_it(serving_install: dict[str, str], tmp_path: Path) -> None:
    done = process("train", "digits", "--out", tmp_path / "run", **serving_install)
    assert done.returncode == 2
    assert "hint: pip install -e '.[train]'" in done.stderr
    assert "Traceback" not in done.stderr
