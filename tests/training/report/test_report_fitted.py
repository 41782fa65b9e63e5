"""What a report says of what was fitted on val, and of how small val is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artifact import manifest
from tests.training.report.reports import ROWS, Made, Page, make
from training.report import verdict_table
from training.variants import doubt
from training.variants.calibration import Temperature
from training.variants.proof import Answers


@pytest.fixture(scope="module")
def drawn(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("drawn"), colours_run, colours_artifact, ("cat", "dog", "owl"), each=20)


@pytest.fixture(scope="module")
def plain(drawn: Made) -> tuple[Page, dict[str, Any]]:
    """Its page and its report.json, written once: figures take a second and more."""
    page = Page(drawn.page())
    return page, json.loads((drawn.folder / "report.json").read_text())


def test_an_int8_that_is_kept_although_it_lost_a_few_images_says_so(
    drawn: Made, plain: tuple[Page, dict[str, Any]], digits_artifact: Path
) -> None:
    kept = replace(ROWS[2], objection="", proof=replace(ROWS[2].proof, accuracy=0.89, lost=2, differ=2))
    sentence = "onnx-int8's drop of 1.0 pt on val is within chance: 2 of 179 lost, 0 won, exact McNemar p = 0.25"
    rows = [*ROWS[:2], replace(kept, file="model.onnx")]
    assert verdict_table.reasons(rows, manifest.load(digits_artifact))[-1][1] == f"({sentence})"
    assert sentence in Page(drawn.page(rows)).text
    assert "within chance" not in plain[0].text


def test_what_is_fitted_on_val_says_how_small_val_is(drawn: Made, plain: tuple[Page, dict[str, Any]]) -> None:
    """60 val images: a threshold, but no line, and a temperature only if it is shown to help."""
    page, document = plain
    assert document["temperature"]["n"] == 60
    assert document["reject_below"] is None
    assert "Suggested line: none: " in page.text
    assert "to show 99 % takes 299 without a mistake" in page.text
    assert document["fitted"] == [sentence for _, sentence in drawn.evidence.thresholds]
    assert drawn.evidence.evaluation.calibration.verdict in page.text


def test_a_val_too_small_for_a_threshold_leaves_it_out(drawn: Made) -> None:
    few = replace(drawn.evidence.val, labels=drawn.evidence.val.labels[:5], samples=drawn.evidence.val.samples[:5])
    on_val = Answers(*(part[:5] for part in drawn.evidence.on_val))
    fitted = doubt.fit(few.labels, [on_val], "max-local-logit")
    assert (fitted.n, fitted.unfamiliar, fitted.accept, fitted.set) == (5, None, None, None)
    page = Page(drawn.page(val=few, on_val=on_val, doubt=fitted))
    assert "Sets: none: 5 val images cannot promise 95 % (at least 19)." in page.text
    assert "There is no threshold: 5 val images cannot set one that 5 % exceed (at least 19)." in page.text
    assert json.loads((drawn.folder / "report.json").read_text())["unfamiliar"] is None
    assert "false-alarm rate is" not in page.text


def test_a_temperature_that_softens_hides_no_probable_wrong_label(
    drawn: Made, plain: tuple[Page, dict[str, Any]]
) -> None:
    """The artifact serves 0.6 for what the checkpoint contradicts with 0.99."""
    page, document = plain
    number = document["probable_wrong_labels"]
    logits = drawn.evidence.outputs.logits.astype(np.float64) / 4
    served = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    softened = drawn.evidence.outputs._replace(probabilities=served)
    content = drawn.page(
        outputs=softened,
        temperature=Temperature(4.0, 60, log_loss=1.0, plain=2.0, noise=0.1),
        described=drawn.described.model_copy(update={"temperature": 4.0}),
    )
    assert number > 0
    assert json.loads((drawn.folder / "report.json").read_text())["probable_wrong_labels"] == number
    assert f"Likely wrong labels: {number} wrong with p > 0.9 before the temperature" in Page(content).text
    assert f"Likely wrong labels: {number} wrong with p > 0.9" in page.text
