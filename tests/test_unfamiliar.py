"""The study behind docs/unfamiliar.md runs, and tells what is familiar from what is not."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from app.artifact.decoder.decode import decode
from app.artifact.doubt import ood_scores
from app.inference import loading
from benchmarks import unfamiliar
from tests.images import drawing


@pytest.mark.slow  # the study is a tool; tests/app/artifact/test_doubt.py has the score that is served
def test_the_study_of_an_artifact_has_a_row_for_each_score_and_each_variant(
    colours_data: Path,
    colours_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was trained on is familiar; a class that it does not know is left out; photographs come in a folder."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for folder in colours_data.iterdir():
            (tmp_path / split / folder.name).symlink_to(folder)
    for folder in ("others", "test/clouds"):
        (tmp_path / folder).mkdir()
        for seed in range(3):
            drawing(90, 60, seed).save(tmp_path / folder / f"{seed}.png")
    words = ["unfamiliar", colours_artifact, tmp_path, "--images", 5, "--others", tmp_path / "others"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    unfamiliar.main()
    said = capsys.readouterr().out
    assert "familiar: 15 images of 3 classes; left out: ['clouds']" in said
    assert "| classes left out | digits | textures | others | mean |" in said
    areas = {row[0]: [float(cell.split()[0]) for cell in row[1:]] for row in rows(said) if len(row) == 6}
    assert len(areas) == 10
    assert all(0 <= area <= 1 for row in areas.values() for area in row)
    served = loading.start(colours_artifact, "onnx", "cpu")

    def strongest(paths: Iterable[Path]) -> list[float]:
        spec = served.manifest.input
        pixels = np.stack([decode(path.read_bytes(), spec).pixels for path in paths])
        return ood_scores(*served.engine.run(pixels)[1:]).tolist()

    familiar = strongest(path for label in served.manifest.labels for path in first(tmp_path / "test" / label))
    strange = strongest(first(tmp_path / "test/clouds"))
    below = np.mean([low < high for low in familiar for high in strange])
    assert areas["max logit of a place"][0] == pytest.approx(below, abs=0.001), "the score that is served"
    promised = {row[0]: row for row in rows(said) if len(row) == 7}
    assert {"onnx", "variant"} <= promised.keys()
    assert re.fullmatch(r"[01]\.\d{4}", promised["onnx"][-2])


def first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())[:5]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and "AUROC" not in line]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
