"""Before listening: a proven variant starts, a forged or damaged artifact never does, and INT8 may fall back."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app import startup
from app.artifact import manifest
from app.artifact.golden import Golden, VariantMismatch
from app.artifact.manifest import ArtifactError
from app.engines import EngineError, machine
from app.settings import DEFAULT_MODEL
from app.startup import Served
from tests.app.test_manifest import Content, put, reseal, rewrite

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
    monkeypatch.setattr("app.engines.machine.cores", lambda: machine.Cores(cores, "said the test"))
    monkeypatch.setattr("app.engines.machine.memory_bytes", lambda: int(memory))
    assert startup.workers_for(folder, "auto", "cpu", None) == workers
    assert startup.workers_for(folder, "auto", "cpu", 2) == 1


@pytest.fixture
def copy(digits_artifact: Path, tmp_path: Path) -> Path:
    """A copy of the session's artifact, to tamper with."""
    return Path(shutil.copytree(digits_artifact, tmp_path / "digits" / "1"))


def refused(folder: Path, variant: str = "auto") -> str:
    """Why the artifact does not start; one sentence."""
    with pytest.raises((ArtifactError, EngineError)) as refusal:
        startup.start(folder, variant, "cpu")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def spoil(model: Path, out: Path) -> None:
    """Write a graph that loads and runs but answers otherwise: as INT8 kernels of another CPU would."""
    graph = onnx.load(model)
    bias = next(each for each in graph.graph.initializer if each.name.endswith("head.bias"))
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values + np.linspace(-4, 4, len(values), dtype=values.dtype), bias.name))
    onnx.save(graph, out)


def with_wrong_int8(folder: Path) -> None:
    """An intact artifact whose default is an INT8 variant that this machine computes otherwise than its proof says."""
    spoil(folder / "model.onnx", folder / INT8)

    def announce(content: Content) -> None:
        content["variants"]["onnx-int8"] = {**content["variants"]["onnx"], "file": INT8, "tolerance": 0.02}
        content["default_variant"] = "onnx-int8"
        content["files"][INT8] = manifest.fingerprint(folder / INT8).model_dump()

    rewrite(folder, announce)


# --- what starts --------------------------------------------------------------------------------------------------


def test_every_variant_of_an_artifact_starts(digits_artifact: Path) -> None:
    for variant in ("onnx", "torchscript"):
        assert startup.start(digits_artifact, variant).difference < 1e-4


def test_a_started_variant_is_within_its_own_tolerance_and_runs(digits_artifact: Path) -> None:
    for variant, proof in manifest.load(digits_artifact).variants.items():
        served = startup.start(digits_artifact, variant, "cpu")
        assert (served.variant, served.warning, served.engine.device) == (variant, "", "cpu")
        assert served.difference <= proof.tolerance
        assert served.seconds > 0
        pictures = Golden.load(digits_artifact).pixels
        assert len(served.engine.run(pictures).probabilities) == len(pictures)


def test_auto_takes_the_default_of_the_manifest(copy: Path) -> None:
    for default in ("onnx", "torchscript"):
        rewrite(copy, put("default_variant", default))
        assert startup.start(copy, device="cpu").variant == default


def test_an_untouched_copy_that_is_resealed_starts(copy: Path) -> None:
    """Else the forgeries below would be refused for a wrong reason."""
    reseal(copy)
    assert startup.start(copy, "onnx", "cpu").difference < 1e-4


# --- INT8 ---------------------------------------------------------------------------------------------------------


def test_auto_falls_back_to_fp32_where_int8_answers_otherwise_and_says_so(copy: Path) -> None:
    with_wrong_int8(copy)
    served = startup.start(copy, device="cpu")
    assert served.variant == "onnx"
    assert served.difference < 1e-4
    assert "onnx-int8 differs from the checkpoint" in served.warning
    assert "serving onnx instead" in served.warning


def test_an_explicit_int8_never_falls_back(copy: Path) -> None:
    with_wrong_int8(copy)
    with pytest.raises(VariantMismatch, match="onnx-int8 differs from the checkpoint"):
        startup.start(copy, "onnx-int8", "cpu")


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
from app import engines, startup
try:
    startup.start(Path(sys.argv[1]))
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
    results = startup.verify(digits_artifact)
    assert set(results) == set(manifest.load(digits_artifact).variants)
    for variant, result in results.items():
        assert isinstance(result, Served)
        assert (result.variant, result.engine.device, result.warning) == (variant, "cpu", "")


def test_verify_finds_a_wrong_variant_that_is_not_the_default(copy: Path) -> None:
    with_wrong_int8(copy)
    rewrite(copy, put("default_variant", "onnx"))
    with pytest.raises(VariantMismatch, match="onnx-int8 differs"):
        startup.verify(copy)
    assert startup.start(copy, device="cpu").variant == "onnx"


# --- names --------------------------------------------------------------------------------------------------------


def test_an_unknown_variant_is_refused_with_the_ones_there_are(digits_artifact: Path) -> None:
    sentence = refused(digits_artifact, "tensorrt")
    assert 'no variant "tensorrt"' in sentence
    assert "onnx" in sentence
    assert "torchscript" in sentence


def test_a_variant_of_a_later_sightglass_is_refused(copy: Path) -> None:
    rewrite(copy, lambda content: content["variants"].update(tensorrt=content["variants"]["onnx"]))
    assert 'no engine for variant "tensorrt"' in refused(copy, "tensorrt")
    assert startup.start(copy, "onnx", "cpu").variant == "onnx"


# --- forgeries: every checksum and the digest fit -----------------------------------------------------------------


def _reorder_labels(content: Content) -> None:
    content["labels"][0], content["labels"][1] = content["labels"][1], content["labels"][0]


FORGED: dict[str, Callable[[Content], Any]] = {
    "labels reordered": _reorder_labels,
    "a label renamed": put("labels", 3, "three"),
    "mean edited": put("input", "mean", [0.5]),
    "std edited": put("input", "std", [0.5]),
    "crop edited": put("input", "crop_fraction", 0.875),
    "interpolation edited": put("input", "interpolation", "bicubic"),
    "size edited": put("input", "width", 32),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_labels_and_input_cannot_be_edited_even_with_a_fitting_digest(
    copy: Path, change: Callable[[Content], Any]
) -> None:
    rewrite(copy, change)
    assert manifest.load(copy)
    assert "not those of the golden images" in refused(copy, "onnx")


def _one_probability(images: Golden) -> Golden:
    changed = images.probabilities.copy()
    changed[5, 2] += 0.01 if changed[5, 2] < 0.5 else -0.01
    return replace(images, probabilities=changed)


def _one_probability_is_no_number(images: Golden) -> Golden:
    changed = images.probabilities.copy()
    changed[5, 2] = np.nan
    return replace(images, probabilities=changed)


def _one_pixel(images: Golden) -> Golden:
    changed = images.pixels.copy()
    changed[9, 0, 0, 0] ^= 1  # a PNG
    return replace(images, pixels=changed)


def _two_pictures_swapped(images: Golden) -> Golden:
    return replace(images, files=(images.files[1], images.files[0], *images.files[2:]))


def _contract(images: Golden) -> Golden:
    return replace(images, contract=images.contract.replace('"0"', '"zero"'))


@pytest.mark.parametrize(
    "change", [_one_probability, _one_probability_is_no_number, _one_pixel, _two_pictures_swapped, _contract]
)
def test_no_golden_value_can_be_edited_even_with_fitting_checksums(
    copy: Path, change: Callable[[Golden], Golden]
) -> None:
    change(Golden.load(copy)).save(copy)
    reseal(copy)
    assert manifest.load(copy)
    assert refused(copy, "onnx").startswith("Self-test failed")


@pytest.mark.parametrize("variant", ["onnx", "torchscript"])
def test_a_graph_of_another_model_is_refused_even_with_fitting_checksums(copy: Path, variant: str) -> None:
    if variant == "onnx":
        spoil(copy / "model.onnx", copy / "model.onnx")
    else:  # the graph itself is right, and no longer what the checkpoint answers
        images = Golden.load(copy)
        replace(images, probabilities=np.roll(images.probabilities, 1, axis=1)).save(copy)
    reseal(copy)
    assert f"{variant} differs from the checkpoint" in refused(copy, variant)


@pytest.mark.parametrize("package", ["app.engines.onnx", "training.variants"])
def test_onnx_runtime_does_not_report_home(package: str, digits_artifact: Path, tmp_path: Path) -> None:
    """It keeps what it will send in a database under HOME; CI alone switches it off as well."""
    code = f"import {package}, onnxruntime; onnxruntime.InferenceSession({str(digits_artifact / 'model.onnx')!r})"
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-c", code], env=clean | {"HOME": str(home)}, check=True, timeout=60)
    assert [path for path in home.rglob("*") if path.is_file()] == []
