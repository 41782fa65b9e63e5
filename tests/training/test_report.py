"""The report of an artifact, with labels that a page and a plot could trip over."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.artifact import manifest
from training import report
from training.checkpoint import Run
from training.gates import Proof, Verdict
from training.score import Evaluation

ROWS = [
    Verdict(name, file, Proof(0.9, 1.0, 0.0, 0.0, {1: 1.0, 8: 1.0}), 0.0, objection)
    for name, file, objection in [("checkpoint", "", ""), ("onnx", "model.onnx", ""), ("onnx-int8", "x", "1 < 2 & 3")]
]


def page(folder: Path, run: Path, artifact: Path, labels: tuple[str, ...]) -> str:
    """report.html for random predictions of the given labels."""
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(len(labels)), 60).astype(np.float32)
    evaluation = Evaluation.of(labels, np.arange(60, dtype=np.int64) % len(labels), probabilities)
    report.write(folder, manifest.load(artifact), ROWS, evaluation, Run.open(run).history())
    assert json.loads((folder / "report.json").read_text())["evaluation"]["labels"] == list(labels)
    return (folder / "report.html").read_text()


def test_labels_and_reasons_are_text_not_markup(tmp_path: Path, digits_run: Path, digits_artifact: Path) -> None:
    text = page(tmp_path, digits_run, digits_artifact, ("<script>alert(1)</script>", "a & b"))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a &amp; b" in text
    assert "refused: 1 &lt; 2 &amp; 3" in text


@pytest.mark.parametrize("label", ["100% #1 \\alpha", "a_b^c", "coin_$1_vs_$2", "猫"])
def test_any_folder_name_can_be_a_label(label: str, tmp_path: Path, digits_run: Path, digits_artifact: Path) -> None:
    """matplotlib takes what lies between two dollar signs for TeX, and its own font knows no Chinese."""
    assert label in page(tmp_path, digits_run, digits_artifact, (label, "other"))


def test_two_hundred_classes_fit(tmp_path: Path, digits_run: Path, digits_artifact: Path) -> None:
    text = page(tmp_path, digits_run, digits_artifact, tuple(f"class {number}" for number in range(200)))
    assert len(text) < 3_000_000
    assert "class 199" in text


def test_the_verdict_table_shows_what_was_measured(digits_artifact: Path) -> None:
    described = manifest.load(digits_artifact)
    lines = report.verdict(ROWS, described, range(179))
    assert "reference" in lines[1]
    assert lines[2].split()[1] == f"{described.files['model.onnx'].size_bytes / 1e6:.1f}"
    assert lines[3].endswith("refused: 1 < 2 & 3")
    assert all(limit in lines[4] for limit in ("99.9%", "98%", "0.5 pt", "1.6x"))
    assert "179 val images" in lines[5]
