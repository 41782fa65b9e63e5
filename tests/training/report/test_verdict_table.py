"""What an export prints of its variants: figures, verdicts, reasons."""

from dataclasses import replace
from pathlib import Path

from app.artifact import manifest
from tests.training.report.reports import ROWS
from training.report import verdict_table


def test_the_verdict_table_shows_what_was_measured(digits_artifact: Path) -> None:
    described = manifest.load(digits_artifact)
    lines = verdict_table.verdict(ROWS, described)
    assert "reference" in lines[1]
    assert lines[2].split()[1] == f"{described.files['model.onnx'].size_bytes / 1e6:.1f}"
    assert lines[3].endswith("refused (top-1 on val)")
    refused, gates, where = verdict_table.reasons(ROWS, described)
    assert refused == ("refused", "onnx-int8: 1 < 2 & 3")
    assert all(limit in gates[1] for limit in ("99.9%", "98%", "0.5 pt", "1.6x"))
    assert "179 val images" in where[1]
    assert "train" not in where[1], "there are enough"


def test_images_of_train_that_a_gate_looked_at_are_said(digits_artifact: Path) -> None:
    described = manifest.load(digits_artifact)
    rows = [replace(row, proof=replace(row.proof, images=1, judges=159)) for row in ROWS]
    line = verdict_table.reasons(rows, described)[-1][1]
    assert "(1 val image and 159 of train for agreement, " in line
    assert len(line) <= 91
