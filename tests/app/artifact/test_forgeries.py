"""Artifacts whose every checksum and whose digest fit, and which are not what was exported: none starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artifact import manifest
from app.artifact.golden import Golden
from app.inference import loading
from tests.app.artifacts import Content, put, refused, reseal, rewrite, spoil


def test_an_untouched_copy_that_is_resealed_starts(copy: Path) -> None:
    """Else the forgeries below would be refused for a wrong reason."""
    reseal(copy)
    assert loading.start(copy, "onnx", "cpu").difference < 1e-4


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


def _two_images_swapped(images: Golden) -> Golden:
    return replace(images, files=(images.files[1], images.files[0], *images.files[2:]))


def _contract(images: Golden) -> Golden:
    return replace(images, contract=images.contract.replace('"0"', '"zero"'))


@pytest.mark.parametrize(
    "change", [_one_probability, _one_probability_is_no_number, _one_pixel, _two_images_swapped, _contract]
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
