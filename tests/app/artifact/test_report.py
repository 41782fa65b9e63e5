"""report.json: what one export writes another Sightglass reads, whichever of the two is older."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app.artifact import manifest, report
from app.artifact.manifest import ArtifactError
from app.artifact.report import Report
from app.settings import DEFAULT_MODEL


def unknown(value: Any) -> list[str]:
    """The keys that the model does not name, in any depth."""
    if isinstance(value, BaseModel):
        inside = [key for name in type(value).model_fields for key in unknown(getattr(value, name))]
        return [*(value.model_extra or {}), *inside]
    return [key for each in value for key in unknown(each)] if isinstance(value, tuple) else []


def test_a_fresh_report_is_described_whole_and_reads_back_as_written(digits_artifact: Path) -> None:
    written = json.loads((digits_artifact / report.FILE).read_text())
    found = report.read(digits_artifact, manifest.load(digits_artifact))
    assert unknown(found) == []
    assert json.loads(json.dumps(found.model_dump())) == written


def test_the_report_of_an_early_sightglass_is_read(tmp_path: Path) -> None:
    """The committed artifact's has no word on confidence; nothing that it says is lost when it is written again."""
    old = json.loads((DEFAULT_MODEL / report.FILE).read_text())
    assert not {"fitted", "temperature"} & old.keys()
    found = report.read(DEFAULT_MODEL, manifest.load(DEFAULT_MODEL))
    assert found.evaluation is not None
    assert (found.evaluation.accuracy, found.evaluation.n) == (old["evaluation"]["accuracy"], 5000)
    assert [row.name for row in found.variants] == ["checkpoint", "torchscript", "onnx", "onnx-int8"]
    assert (found.temperature, found.fitted) == (None, ())
    found.save(tmp_path)
    again = json.loads((tmp_path / report.FILE).read_text())
    assert {key: again[key] for key in ("name", "version", "gates", "history")} == {
        key: old[key] for key in ("name", "version", "gates", "history")
    }
    assert old["evaluation"].items() <= again["evaluation"].items()


def test_what_a_later_sightglass_says_besides_is_kept() -> None:
    later = Report.model_validate({"name": "cats", "drift": 0.1, "evaluation": {"split": "test", "brier": 0.2}})
    assert later.model_dump()["drift"] == 0.1
    assert later.model_dump()["evaluation"]["brier"] == 0.2


@pytest.mark.parametrize(
    ("content", "where"),
    [("{", "JSON"), ("[]", "JSON"), ('{"evaluation": {"n": 3}}', "evaluation.split"), ('{"gates": 1}', "gates")],
)
def test_damage_is_one_sentence_that_names_the_place(content: str, where: str, tmp_path: Path) -> None:
    (tmp_path / report.FILE).write_text(content)
    with pytest.raises(ArtifactError) as refusal:
        report.read(tmp_path, manifest.load(DEFAULT_MODEL))
    assert str(refusal.value).startswith(f"{tmp_path / report.FILE} is no report: {where}: ")
    assert "\n" not in str(refusal.value)
