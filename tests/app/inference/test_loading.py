"""Before listening: a proven variant starts, a damaged artifact never does, and INT8 may fall back."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app import machine
from app.artifact import manifest
from app.artifact.golden import Golden, VariantMismatch
from app.engines import Outputs
from app.engines.onnx import OnnxEngine
from app.engines.variants import VARIANTS
from app.inference import loading
from app.inference.loading import Served
from app.settings import DEFAULT_MODEL
from tests.app.artifacts import Content, put, refused, reseal, rewrite, spoil

INT8 = "model.int8.onnx"


@pytest.mark.parametrize(
    ("cpu_ms", "cores", "memory", "workers"),
    [
        (0.3, 1, 8e9, 1),
        (0.3, 2, 8e9, 2),
        (0.3, 64, 64e9, 8),
        (0.3, 4, 512e6, 1),  # a small container
        (0.3, 4, 1e9, 3),
        (2.0, 2, 8e9, 1),  # the network, not Python, is what takes the time
        (2.0, 8, 8e9, 8),
        (40.0, 8, 8e9, 1),
    ],
)
def test_a_small_network_gets_a_worker_a_core(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu_ms: float,
    cores: int,
    memory: float,
    workers: int,
) -> None:
    folder = Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "1"))

    def take(content: Content) -> None:
        for variant in content["variants"].values():
            variant["cpu_ms_per_image"] = {"1": cpu_ms * 2, "8": cpu_ms}

    rewrite(folder, take)
    monkeypatch.setattr("app.machine.cores", lambda: machine.Cores(cores, "said the test"))
    monkeypatch.setattr("app.machine.memory_bytes", lambda: int(memory))
    assert loading.workers_for(folder, "auto", "cpu", None) == workers
    assert loading.workers_for(folder, "auto", "cpu", 2) == 1


def with_wrong_int8(folder: Path) -> None:
    """An intact artifact whose default is an INT8 variant that this machine computes otherwise than its proof says."""
    spoil(folder / "model.onnx", folder / INT8)
    announce_int8(folder)


def announce_int8(folder: Path) -> None:
    """The default, whatever the file holds."""

    def announce(content: Content) -> None:
        content["variants"]["onnx-int8"] = {**content["variants"]["onnx"], "file": INT8, "tolerance": 0.02}
        content["default_variant"] = "onnx-int8"
        content["files"][INT8] = manifest.fingerprint(folder / INT8).model_dump()

    rewrite(folder, announce)


# --- what starts --------------------------------------------------------------------------------------------------


def test_every_variant_of_an_artifact_starts(digits_artifact: Path) -> None:
    for variant in ("onnx", "torchscript"):
        assert loading.start(digits_artifact, variant).difference < 1e-4


def test_a_started_variant_is_within_its_own_tolerance_and_runs(digits_artifact: Path) -> None:
    for variant, proof in manifest.load(digits_artifact).variants.items():
        served = loading.start(digits_artifact, variant, "cpu")
        assert (served.variant, served.warning, served.engine.device) == (variant, "", "cpu")
        assert served.difference <= proof.tolerance
        assert served.seconds > 0
        images = Golden.load(digits_artifact).pixels
        assert len(served.engine.run(images).probabilities) == len(images)


def test_auto_takes_the_default_of_the_manifest(copy: Path) -> None:
    for default in ("onnx", "torchscript"):
        rewrite(copy, put("default_variant", default))
        assert loading.start(copy, device="cpu").variant == default


@pytest.mark.parametrize("package", ["app.engines.onnx", "training.variants.writers"])
def test_onnx_runtime_does_not_report_home(package: str, digits_artifact: Path, tmp_path: Path) -> None:
    """It keeps what it will send in a database under HOME; CI alone switches it off as well."""
    code = f"import {package}, onnxruntime; onnxruntime.InferenceSession({str(digits_artifact / 'model.onnx')!r})"
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-c", code], env=clean | {"HOME": str(home)}, check=True, timeout=60)
    assert [path for path in home.rglob("*") if path.is_file()] == []


# --- INT8 ---------------------------------------------------------------------------------------------------------


def test_auto_falls_back_to_fp32_where_int8_answers_otherwise_and_says_so(copy: Path) -> None:
    with_wrong_int8(copy)
    served = loading.start(copy, device="cpu")
    assert served.variant == "onnx"
    assert served.difference < 1e-4
    assert "onnx-int8 differs from the checkpoint" in served.warning
    assert "serving onnx instead" in served.warning


class BuiltForCuda:
    """The engine of an install of onnxruntime-gpu; whether there is a GPU shows in a session's `device`."""

    has_cuda = staticmethod(lambda: True)
    found = "cpu"

    def __init__(self, path: Path, device: str, threads: int) -> None:
        self._engine = OnnxEngine(path, "cpu", threads)
        self.device = self.found if device == "auto" else device

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        return self._engine.run(pixels)


@pytest.mark.parametrize(("found", "variant"), [("cpu", "onnx-int8"), ("cuda", "onnx")])
def test_auto_takes_fp32_for_int8_only_where_there_is_a_gpu(
    copy: Path, monkeypatch: pytest.MonkeyPatch, found: str, variant: str
) -> None:
    shutil.copy(copy / "model.onnx", copy / INT8)
    announce_int8(copy)
    monkeypatch.setattr(BuiltForCuda, "found", found)
    for name in ("onnx", "onnx-int8"):
        monkeypatch.setitem(VARIANTS, name, replace(VARIANTS[name], engine=f"{__name__}:BuiltForCuda"))
    served = loading.start(copy)
    assert (served.variant, served.engine.device, served.warning) == (variant, found, "")
    assert loading.start(copy, "onnx").variant == "onnx"


def test_an_explicit_int8_never_falls_back(copy: Path) -> None:
    with_wrong_int8(copy)
    with pytest.raises(VariantMismatch, match="onnx-int8 differs from the checkpoint"):
        loading.start(copy, "onnx-int8", "cpu")


def test_fp32_never_falls_back_even_with_auto(copy: Path) -> None:
    spoil(copy / "model.onnx", copy / "model.onnx")
    rewrite(copy, put("default_variant", "onnx"))
    reseal(copy)
    assert "onnx differs from the checkpoint" in refused(copy)


def test_a_wrong_int8_without_an_fp32_graph_to_fall_back_to_is_refused(copy: Path) -> None:
    with_wrong_int8(copy)
    rewrite(copy, lambda content: content["variants"].pop("onnx"))
    assert "onnx-int8 differs from the checkpoint" in refused(copy)


def test_only_int8_falls_back_for_no_other_variant_may_depend_on_the_cpu(copy: Path) -> None:
    rewrite(copy, put("default_variant", "torchscript"))
    rewrite(copy, put("variants", "torchscript", "tolerance", 1e-12))
    assert "torchscript differs from the checkpoint" in refused(copy)


@pytest.mark.parametrize("default", ["onnx", "onnx-int8"])
def test_without_onnx_runtime_the_start_is_refused_in_one_sentence(copy: Path, default: str) -> None:
    with_wrong_int8(copy)
    rewrite(copy, put("default_variant", default))
    program = """
import sys
from pathlib import Path
sys.modules["onnxruntime"] = None  # as if it were not installed
from app import engines
from app.inference import loading
try:
    loading.start(Path(sys.argv[1]))
except engines.EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "needs onnxruntime" in done.stdout


@pytest.mark.parametrize("resealed", [False, True])
def test_a_damaged_default_is_fatal_even_with_auto(copy: Path, resealed: bool) -> None:
    with_wrong_int8(copy)
    (copy / INT8).write_bytes((copy / INT8).read_bytes()[:5000])
    if resealed:
        reseal(copy)
    assert INT8 in refused(copy)


def test_a_damaged_variant_that_is_not_served_is_fatal_too(copy: Path) -> None:
    rewrite(copy, put("default_variant", "onnx"))
    (copy / "model.torchscript.pt").write_bytes(b"")
    assert "model.torchscript.pt" in refused(copy, "onnx")


# --- verify -------------------------------------------------------------------------------------------------------


def test_verify_proves_every_variant_on_the_cpu(digits_artifact: Path) -> None:
    results = loading.verify(digits_artifact)
    assert set(results) == set(manifest.load(digits_artifact).variants)
    for variant, result in results.items():
        assert isinstance(result, Served)
        assert (result.variant, result.engine.device, result.warning) == (variant, "cpu", "")


def test_verify_finds_a_wrong_variant_that_is_not_the_default(copy: Path) -> None:
    with_wrong_int8(copy)
    rewrite(copy, put("default_variant", "onnx"))
    with pytest.raises(VariantMismatch, match="onnx-int8 differs"):
        loading.verify(copy)
    assert loading.start(copy, device="cpu").variant == "onnx"


# --- names --------------------------------------------------------------------------------------------------------


def test_an_unknown_variant_is_refused_with_the_ones_there_are(digits_artifact: Path) -> None:
    sentence = refused(digits_artifact, "tensorrt")
    assert 'no variant "tensorrt"' in sentence
    assert "onnx" in sentence
    assert "torchscript" in sentence


def test_verify_says_of_a_variant_of_a_later_sightglass_that_it_is_not_checked(copy: Path) -> None:
    rewrite(copy, lambda content: content["variants"].update(tensorrt=content["variants"]["onnx"]))
    results = loading.verify(copy)
    assert str(results.pop("tensorrt")) == 'this Sightglass has no engine for variant "tensorrt"'
    assert all(isinstance(result, Served) for result in results.values())


def test_a_variant_of_a_later_sightglass_is_refused(copy: Path) -> None:
    rewrite(copy, lambda content: content["variants"].update(tensorrt=content["variants"]["onnx"]))
    assert 'no engine for variant "tensorrt"' in refused(copy, "tensorrt")
    assert loading.start(copy, "onnx", "cpu").variant == "onnx"
