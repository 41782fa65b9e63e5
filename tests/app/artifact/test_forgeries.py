"""Artifacts whose every checksum and whose digest fit, and which are not what was exported: none starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artifact import manifest
from app.artifact.golden import Golden, doubts_of
from app.inference import loading
from tests.app.artifacts import Content, put, refused, reseal, rewrite, spoil


def test_an_untouched_copy_that_is_resealed_starts(copy: Path) -> None:
    """Else the forgeries below would be refused for a wrong reason."""
    reseal(copy)
    assert loading.start(copy, "onnx", "cpu").difference < 1e-4


def _reorder_labels(content: Content) -> None:
    content["labels"][0], content["labels"][1] = content["labels"][1], content["labels"][0]


def _next(content: Content) -> float:
    return float(np.nextafter(content["doubt"]["unfamiliar"]["threshold"], 0))


FORGED: dict[str, Callable[[Content], Any]] = {
    "labels reordered": _reorder_labels,
    "a label renamed": put("labels", 3, "three"),
    "mean edited": put("input", "mean", [0.5]),
    "std edited": put("input", "std", [0.5]),
    "crop edited": put("input", "crop_fraction", 0.875),
    "interpolation edited": put("input", "interpolation", "bicubic"),
    "size edited": put("input", "width", 32),
    "unfamiliar's threshold edited": put("doubt", "unfamiliar", "threshold", 1e6),
    "a little": lambda content: content["doubt"]["unfamiliar"].update(threshold=_next(content)),
    "the line lowered": put("doubt", "accept", {"confidence": 0.5, "shown": 0.99}),
    "sets made smaller": put("doubt", "set", "probability", 0.99),
    "coverage boasted of": put("doubt", "set", "coverage", 0.999),
    "never unfamiliar": put("doubt", "unfamiliar", None),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_labels_and_input_cannot_be_edited_even_with_a_fitting_digest(
    copy: Path, change: Callable[[Content], Any]
) -> None:
    rewrite(copy, change)
    assert manifest.load(copy)
    assert "not those of the golden images" in refused(copy, "onnx")


def test_thresholds_edited_in_both_files_are_refused_where_a_golden_image_lies_between(copy: Path) -> None:
    """Whoever makes the contract fit too meets what the export said of each golden image."""
    rewrite(copy, put("doubt", "unfamiliar", "threshold", -1e6))
    contract = manifest.load(copy).contract
    replace(Golden.load(copy), contract=contract).save(copy)
    reseal(copy)
    assert "unfamiliar, accept or set of a golden image" in refused(copy, "onnx")


def test_an_artifact_without_doubt_cannot_be_made_of_one_with_it(copy: Path) -> None:
    def drop(content: Content) -> None:
        for part in (content, *content["variants"].values()):
            del part["doubt"]

    rewrite(copy, drop)
    assert "not those of the golden images" in refused(copy, "onnx")


def _one_ood_score(images: Golden) -> Golden:
    assert images.ood_scores is not None
    changed = images.ood_scores.copy()
    changed[4] += 0.1 if changed[4] > changed.mean() else -0.1
    return replace(images, ood_scores=changed)


def _one_ood_score_is_no_number(images: Golden) -> Golden:
    assert images.ood_scores is not None
    return replace(images, ood_scores=np.where(np.arange(16) == 4, np.nan, images.ood_scores))


def _no_ood_scores(images: Golden) -> Golden:
    return replace(images, ood_scores=None)


def _what_was_said(images: Golden) -> Golden:
    said = images.doubts.replace("true", "True").replace("false", "true").replace("True", "false")
    assert said != images.doubts
    return replace(images, doubts=said)


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


def _two_images_swapped(images: Golden) -> Golden:
    return replace(images, files=(images.files[1], images.files[0], *images.files[2:]))


def _contract(images: Golden) -> Golden:
    return replace(images, contract=images.contract.replace('"0"', '"zero"'))


@pytest.mark.parametrize(
    "change",
    [
        *(_one_probability, _one_probability_is_no_number, _one_pixel, _two_images_swapped, _contract),
        *(_one_ood_score, _one_ood_score_is_no_number, _no_ood_scores, _what_was_said),
    ],
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
        rolled = replace(images, probabilities=np.roll(images.probabilities, 1, axis=1))
        replace(rolled, doubts=doubts_of(rolled, manifest.load(copy))).save(copy)
    reseal(copy)
    assert f"{variant} differs from the checkpoint" in refused(copy, variant)
