"""The manifest: what was exported is what is read, and what makes no sense is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.artifact import manifest
from tests.app.artifacts import Content, put, refusal, reseal, rewrite, small_artifact, small_manifest


def test_a_manifest_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = small_artifact(tmp_path / "1")
    assert manifest.load(tmp_path / "1").model_copy(update={"digest": ""}) == saved


def test_the_exporters_manifest_loads_and_saves_to_the_same_bytes(digits_artifact: Path, tmp_path: Path) -> None:
    manifest.load(digits_artifact).save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (digits_artifact / "manifest.json").read_bytes()


def test_resealing_an_untouched_artifact_changes_nothing(tmp_path: Path) -> None:
    """Else the tests that forge a digest would be refused for a wrong reason."""
    small_artifact(tmp_path / "1")
    before = manifest.load(tmp_path / "1")
    reseal(tmp_path / "1")
    assert manifest.load(tmp_path / "1") == before


def test_an_artifact_reached_through_a_link_is_read(tmp_path: Path) -> None:
    small_artifact(tmp_path / "1")
    (tmp_path / "latest").symlink_to(tmp_path / "1")
    assert manifest.load(tmp_path / "latest").name == "beetles"


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("蜂", "Käfer", 'moth, "white"\n')},
        {"labels": ("Käfer", "蜂")},
        {"input": small_manifest().input.model_copy(update={"mean": (0.1, 0.33, 0.5)})},
        {"input": small_manifest().input.model_copy(update={"crop_fraction": 1.0})},
    ],
)
def test_the_contract_covers_labels_their_order_and_the_input(change: Content) -> None:
    assert small_manifest(**change).contract != small_manifest().contract
    assert small_manifest(temperature=2.0, name="other").contract == small_manifest().contract


DOUBT = {
    "n": 50,
    "unfamiliar": {"score": "max-local-logit", "threshold": -3.5, "accepts": 0.95},
    "accept": None,
    "set": {"score": "least-ambiguous", "probability": 0.25, "coverage": 0.95},
}
MEASURED = {"split": "test", "n": 179, "unfamiliar": 0.05, "accepted": None, "right": None}
MEASURED |= {"coverage": 0.95, "set_size": 1.5, "tolerance": 0.1}


def doubting(content: Content) -> None:
    content.update(schema_version=3, doubt=DOUBT)
    for variant in content["variants"].values():
        variant["doubt"] = MEASURED


def test_doubt_is_read_needs_its_schema_and_is_part_of_the_contract(tmp_path: Path) -> None:
    """Older services refuse it in one sentence; what older exports wrote keeps its digest and its contract."""
    before = small_artifact(tmp_path / "1")
    assert "doubt" not in before.contract + (tmp_path / "1" / "manifest.json").read_text()
    rewrite(tmp_path / "1", doubting)
    found = manifest.load(tmp_path / "1")
    assert found.doubt is not None
    assert found.model_dump(mode="json")["doubt"] == DOUBT
    assert '"threshold":-3.5' in found.contract
    rewrite(tmp_path / "1", put("schema_version", 2))
    assert "doubt needs schema 3" in refusal(tmp_path / "1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("doubt", "unfamiliar", "score", "max-logit"), "not what this network gives"),
        (put("doubt", "unfamiliar", "score", "energy"), "doubt.unfamiliar.score"),
        (put("doubt", "unfamiliar", "threshold", float("nan")), "threshold"),
        (put("doubt", "set", "coverage", 1.5), "coverage"),
        (put("doubt", "more", 1), "doubt.more"),
        (lambda content: content["variants"]["onnx"].pop("doubt"), "of every variant or of none"),
        (lambda content: content.pop("doubt"), "of every variant or of none"),
    ],
)
def test_doubt_that_makes_no_sense_is_refused(tmp_path: Path, change: Callable[[Content], Any], words: str) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", doubting)
    rewrite(tmp_path / "1", change)
    assert words in refusal(tmp_path / "1")


def unmeasured(content: Content, schema: int) -> None:
    """As of a network that was exported as its makers published it."""
    content.update(metrics=None, schema_version=schema)
    for variant in content["variants"].values():
        variant["score"] = None


def test_a_network_that_nothing_here_has_measured_is_schema_3(tmp_path: Path) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", lambda content: unmeasured(content, 3))
    assert manifest.load(tmp_path / "1").metrics is None


NAN, INFINITY = float("nan"), float("inf")
INVALID: dict[str, tuple[Callable[[Content], Any], str]] = {
    "unknown field": (put("extra", 1), "extra"),
    "unknown field inside": (put("input", "padding", 4), "input.padding"),
    "unknown field of a variant": (put("variants", "onnx", "opset", 20), "variants.onnx.opset"),
    "missing field": (lambda content: content.pop("labels"), "labels"),
    "newer schema": (put("schema_version", 4), "update"),
    "schema 0": (put("schema_version", 0), "schema"),
    "negative schema": (put("schema_version", -1), "schema"),
    "schema as a truth": (put("schema_version", True), "schema"),
    "schema as text": (put("schema_version", "1"), "schema_version"),
    "no schema": (lambda content: content.pop("schema_version"), "schema_version"),
    "label twice": (put("labels", ["a", "b", "a"]), "twice"),
    "one label": (put("labels", ["a"]), "labels"),
    "default missing": (put("default_variant", "torchscript"), "torchscript"),
    "metrics gone": (lambda content: content.update(metrics=None, schema_version=3), "both or neither"),
    "a score gone": (put("variants", "onnx", "score", None), "both or neither"),
    "unmeasured in an old schema": (lambda content: unmeasured(content, 2), "needs schema 3"),
    "mean too short": (put("input", "mean", [0.5]), "per channel"),
    "std zero": (put("input", "std", [0.0, 0.1, 0.1]), "std"),
    "crop beyond": (put("input", "crop_fraction", 1.5), "crop_fraction"),
    "no such interpolation": (put("input", "interpolation", "nearest"), "interpolation"),
    "huge width": (put("input", "width", 10**400), "width"),
    "huge float as width": (put("input", "width", 1e308), "width"),
    "tolerance not a number": (put("variants", "onnx", "tolerance", NAN), "tolerance"),
    "mean not a number": (put("input", "mean", [NAN, 0.5, 0.5]), "mean"),
    "std infinite": (put("input", "std", [INFINITY, 0.5, 0.5]), "std"),
    "temperature infinite": (put("temperature", INFINITY), "temperature"),
    "cost infinite": (put("variants", "onnx", "cpu_ms_per_image", "1", INFINITY), "cpu_ms_per_image"),
    "version 0": (put("version", 0), "version"),
    "name with a slash": (put("name", "../evil"), "name"),
    "negative size": (put("files", "model.onnx", "size_bytes", -1), "size_bytes"),
    "checksum too short": (put("files", "model.onnx", "sha256", "00"), "sha256"),
}


@pytest.mark.parametrize(("change", "words"), INVALID.values(), ids=INVALID)
def test_invalid_content_is_refused_though_its_digest_fits(
    tmp_path: Path, change: Callable[[Content], Any], words: str
) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", change)
    sentence = refusal(tmp_path / "1")
    assert words in sentence
    assert "edited after" not in sentence


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    assert "is no artifact" in refusal(tmp_path)
    assert "is no artifact" in refusal(tmp_path / "nowhere")


NO_MANIFEST = {
    "nothing": b"",
    "text": b"hello",
    "binary": bytes(range(256)),
    "half": b'{"schema_version": 1, "name"',
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"1",
    "empty object": b"{}",
    "deep": b"[" * 100_000,
    "number of 5000 digits": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "not a number": b'{"schema_version": NaN}',
    "broken unicode": b'{"schema_version": 1, "name": "\\ud800"}',
}


@pytest.mark.parametrize("content", NO_MANIFEST.values(), ids=NO_MANIFEST)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert "manifest.json" in refusal(tmp_path)


def test_a_manifest_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    assert "cannot be read" in refusal(tmp_path)


def test_even_white_space_is_as_it_was_exported(tmp_path: Path) -> None:
    small_artifact(tmp_path / "1")
    path = tmp_path / "1" / "manifest.json"
    path.write_text(path.read_text().replace("\n", "\t", 1))
    assert "layout" in refusal(tmp_path / "1")
