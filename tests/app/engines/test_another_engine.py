"""An engine is a runtime and not a file: another runtime of model.onnx is a class and a row of the table."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from starlette.testclient import TestClient

from app.artifact import manifest
from app.artifact.golden import VariantMismatch
from app.engines import Outputs
from app.engines.variants import VARIANTS
from app.inference import loading
from app.main import create_app
from app.settings import Settings
from tests.images import drawing, encode
from tests.training.exports import copied, proven


class Reference:
    """ONNX's own evaluator of graphs, in Python: the new runtime of these tests."""

    device = "cpu"
    has_cuda = staticmethod(lambda: False)

    def __init__(self, path: Path, device: str, threads: int) -> None:
        self._graph = ReferenceEvaluator(str(path))

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        values = dict(zip(self._graph.output_names, self._graph.run(None, {"image": pixels}), strict=True))
        return Outputs(values["probabilities"], values["logits"], values.get("heatmap"))


class Upside(Reference):
    """One that gets it wrong."""

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        return super().run(pixels[:, ::-1])


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    row = replace(VARIANTS["onnx"], engine=f"{__name__}:Reference", library="onnx")
    monkeypatch.setitem(VARIANTS, "reference", row)
    monkeypatch.setitem(VARIANTS, "upside", replace(row, engine=f"{__name__}:Upside"))


def test_an_artifact_of_before_is_served_by_it_with_the_proof_of_the_file(digits_artifact: Path) -> None:
    served = loading.start(digits_artifact, "reference", "cpu")
    assert served.proof == manifest.load(digits_artifact).variants["onnx"]
    assert served.difference <= served.proof.tolerance
    image = encode(drawing(16, 16))
    with TestClient(create_app(Settings(), served)) as client:
        answer = client.post("/predict", content=image, headers={"Content-Type": "image/png"}).json()
        assert answer["model"]["variant"] == "reference"
        assert 'engine_version="onnx 1' in client.get("/metrics").text
        assert client.get("/v2/models/digits").json()["platform"] == "onnx_onnxv1"
    onnx = loading.start(digits_artifact, "onnx", "cpu")
    with TestClient(create_app(Settings(), onnx)) as client:
        expected = client.post("/predict", content=image, headers={"Content-Type": "image/png"}).json()
    for found, known in zip(answer["top_k"], expected["top_k"], strict=True):
        assert found == {"class": known["class"], "probability": pytest.approx(known["probability"], abs=1e-5)}


def test_one_that_answers_otherwise_is_refused_by_the_self_test(digits_artifact: Path) -> None:
    with pytest.raises(VariantMismatch, match="upside differs from the checkpoint"):
        loading.start(digits_artifact, "upside", "cpu")


def test_an_export_proves_it_beside_the_others_that_run_the_file(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(VARIANTS, "upside")
    out = tmp_path / "colours" / "1"
    described = proven(colours_run, out, {"model.onnx": copied(colours_artifact)})
    assert {variant: proof.file for variant, proof in described.variants.items()} == {
        "onnx": "model.onnx",
        "reference": "model.onnx",
    }
    assert described.variants["reference"].agreement == 1
    assert loading.start(out, "reference", "cpu").proof == described.variants["reference"]


def test_without_its_library_an_export_leaves_it_out(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(VARIANTS, "upside")
    monkeypatch.setitem(VARIANTS, "reference", replace(VARIANTS["onnx"], engine="no_such_runtime:Engine"))
    described = proven(colours_run, tmp_path / "colours" / "1", {"model.onnx": copied(colours_artifact)})
    assert list(described.variants) == ["onnx"]
