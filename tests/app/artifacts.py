"""Manifests and artifacts that tests make, and forge as someone would who knows how to make every checksum fit."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.artifact.manifest import ArtifactError, Machine, Manifest, Metrics, Score, Variant
from app.engines import EngineError
from app.inference import loading

Content = dict[str, Any]
SCORE = Score(split="test", n=179, accuracy=0.9, low=0.85, high=0.95)


def small_manifest(**changes: Any) -> Manifest:
    """A manifest with two variants and three labels."""
    fields: Content = {
        "schema_version": 1,
        "name": "beetles",
        "version": 3,
        "created": "2026-01-02T03:04:05+00:00",
        "labels": ("Käfer", "蜂", 'moth, "white"\n'),
        "input": InputSpec(
            width=8,
            height=6,
            channels=3,
            crop_fraction=0.875,
            interpolation="bicubic",
            mean=(0.1, 1 / 3, 0.5),
            std=(0.25, 1e-7, 1.0),
        ),
        "temperature": 1.1,
        "heatmap": (2, 2),
        "variants": {"onnx": _variant("model.onnx", 1e-4), "onnx-int8": _variant("model.int8.onnx", 0.02)},
        "default_variant": "onnx-int8",
        "metrics": Metrics(score=SCORE, macro_f1=0.9, ece=0.01, majority=0.4),
        "machine": Machine(cpu="a CPU", instruction_set="avx2"),
        "provenance": {"recipe": {"lr": 0.1, "jitter": [0.0, 1.0]}, "commit": None},
        "files": {},
    }
    return Manifest(**(fields | changes))


def _variant(file: str, tolerance: float) -> Variant:
    return Variant(
        file=file,
        agreement=1.0,
        max_probability_difference=1e-6,
        tolerance=tolerance,
        cpu_ms_per_image={"1": 0.25, "8": 0.125},
        score=SCORE,
    )


def small_artifact(folder: Path) -> Manifest:
    """An intact folder as `manifest.load` sees it; its files hold nothing that could run."""
    folder.mkdir(parents=True)
    for name in ("golden.npz", "model.onnx", "model.int8.onnx", "report.json"):
        (folder / name).write_bytes(name.encode() * 3)
    saved = small_manifest(files={path.name: manifest.fingerprint(path) for path in folder.iterdir()})
    saved.save(folder)
    return saved


def rewrite(folder: Path, change: Callable[[Content], object], digest: bool = True) -> None:
    """Edit manifest.json; with `digest`, as someone who knows how to make the digest fit again."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    if digest:
        rest = {key: value for key, value in content.items() if key != "digest"}
        canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        content["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(content, indent=2) + "\n")


def reseal(folder: Path) -> None:
    """Make every checksum and the digest fit the files as they are now."""

    def fit(content: Content) -> None:
        for name in content["files"]:
            data = (folder / name).read_bytes()
            content["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}

    rewrite(folder, fit)


def put(*path: Any) -> Callable[[Content], None]:
    """Set the last of `path` at the keys before it."""
    *keys, last, value = path

    def change(content: Content) -> None:
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def refused(folder: Path, variant: str = "auto") -> str:
    """Why the artifact does not start; one sentence."""
    with pytest.raises((ArtifactError, EngineError)) as refusal:
        loading.start(folder, variant, "cpu")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def spoil(model: Path, out: Path) -> None:
    """Write a graph that loads and runs but answers otherwise: as INT8 kernels of another CPU would."""
    graph = onnx.load(model)
    bias = next(each for each in graph.graph.initializer if each.name.endswith("head.bias"))
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values + np.linspace(-4, 4, len(values), dtype=values.dtype), bias.name))
    onnx.save(graph, out)


def refusal(folder: Path) -> str:
    """What `load` says of a folder that it must not accept; one sentence."""
    with pytest.raises(ArtifactError) as refused:
        manifest.load(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)
