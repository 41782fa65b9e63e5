"""The self-test: it passes what answers like the checkpoint, and each way of answering otherwise turns it red."""

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.golden import Golden, Outputs, VariantMismatch, check_decoder, check_variant
from app.artifact.manifest import ArtifactError, Manifest
from tests.app.artifacts import small_manifest
from tests.images import drawing, encode

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
TOLERANCE = 1e-3


def truth(pixels: Pixels) -> Probabilities:
    """The checkpoint of these tests: each row depends on its own image only."""
    logits = pixels.reshape(len(pixels), -1, 3).mean(axis=1) / 40
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def described() -> Manifest:
    variant = small_manifest().variants["onnx"].model_copy(update={"tolerance": TOLERANCE})
    return small_manifest(variants={"onnx": variant}, default_variant="onnx")


def golden() -> Golden:
    """Two JPEGs and two PNGs."""
    spec = described().input
    files = tuple(encode(drawing(40, 30, seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "JPEG", "PNG")))
    pixels = np.stack([decode(file, spec).pixels for file in files])
    return Golden(files, pixels, truth(pixels), described().contract)


def shifted(amount: float) -> Callable[[Pixels], Probabilities]:
    """As the truth, but for `amount` of probability in the wrong place; rows still sum to 1."""
    return lambda pixels: truth(pixels) + np.array([amount, -amount, 0], np.float32)


# --- the file -----------------------------------------------------------------------------------------------------


def test_golden_images_come_back_as_they_were_saved_and_without_pickle(tmp_path: Path) -> None:
    saved = golden()
    saved.save(tmp_path)
    loaded = Golden.load(tmp_path)
    assert (loaded.files, loaded.contract) == (saved.files, saved.contract)
    assert (loaded.pixels == saved.pixels).all()
    assert (loaded.probabilities == saved.probabilities).all()
    assert (loaded.pixels.dtype, loaded.probabilities.dtype) == (np.uint8, np.float32)
    with np.load(tmp_path / "golden.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays)


def test_no_golden_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"golden\.npz cannot be read"):
        Golden.load(tmp_path)


def _other_files() -> dict[str, bytes]:
    array, pickled, incomplete = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    np.savez(pickled, files=np.array([{"a": 1}]), lengths=np.array([1]))
    np.savez(incomplete, files=np.zeros(3, np.uint8), lengths=np.array([3]))
    return {
        "nothing": b"",
        "text": b"golden",
        "one array": array.getvalue(),
        "a pickle": pickled.getvalue(),
        "arrays missing": incomplete.getvalue(),
    }


@pytest.mark.parametrize("content", _other_files().values(), ids=_other_files())
def test_another_kind_of_file_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"golden\.npz cannot be read"):
        Golden.load(tmp_path)


def test_a_damaged_golden_file_is_an_artifact_error_or_reads_as_something(tmp_path: Path) -> None:
    """A cut file is always refused; a flipped byte may hit what zip does not check. No other exception comes out."""
    golden().save(tmp_path)
    path = tmp_path / "golden.npz"
    whole, dice, refused = path.read_bytes(), random.Random(7), 0
    for turn in range(400):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged[: dice.randrange(len(whole))] if turn % 4 == 0 else damaged)
        try:
            assert isinstance(Golden.load(tmp_path), Golden)
            assert turn % 4
        except ArtifactError:
            refused += 1
    assert refused > 200


# --- the decoder --------------------------------------------------------------------------------------------------


def test_an_untouched_golden_passes_the_decoder_check() -> None:
    check_decoder(golden(), described())


def test_the_exporters_golden_passes_the_decoder_check(digits_artifact: Path) -> None:
    check_decoder(Golden.load(digits_artifact), manifest.load(digits_artifact))


def _nudged(number: int, amount: int) -> Golden:
    """One channel of one pixel of one stored image off by `amount`."""
    images = golden()
    pixels = images.pixels.copy()
    place = number, 2, 3, 1
    pixels[place] = int(pixels[place]) + (amount if pixels[place] < 128 else -amount)
    return replace(images, pixels=pixels)


@pytest.mark.parametrize(("number", "amount"), [(0, 3), (2, 3), (1, 1), (3, 1)])
def test_pixels_beyond_the_formats_limit_are_refused(number: int, amount: int) -> None:
    with pytest.raises(ArtifactError, match=f"golden image {number} .* decodes differently by {amount} of 255"):
        check_decoder(_nudged(number, amount), described())


def test_a_jpeg_may_differ_by_two() -> None:
    check_decoder(_nudged(0, 2), described())


@pytest.mark.parametrize(
    "change",
    [
        {"labels": tuple(reversed(small_manifest().labels))},
        {"input": small_manifest().input.model_copy(update={"std": (0.25, 0.25, 0.25)})},
    ],
)
def test_labels_or_input_of_another_export_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="labels, input or doubt"):
        check_decoder(golden(), described().model_copy(update=change))


def test_a_golden_file_that_does_not_decode_is_refused() -> None:
    images = golden()
    with pytest.raises(ArtifactError, match="golden image 1 does not decode"):
        check_decoder(replace(images, files=(images.files[0], b"no image", *images.files[2:])), described())


def _malformed() -> dict[str, Golden]:
    images = golden()
    return {
        "no images": Golden((), images.pixels[:0], images.probabilities[:0], images.contract),
        "an image too few": replace(images, pixels=images.pixels[:-1]),
        "pixels of another size": replace(images, pixels=images.pixels[:, :3]),
        "one pixel that would fit any image": replace(images, pixels=images.pixels[:, :1, :1]),
    }


@pytest.mark.parametrize("images", _malformed().values(), ids=_malformed())
def test_a_golden_that_proves_nothing_is_refused(images: Golden) -> None:
    with pytest.raises(ArtifactError):
        check_decoder(images, described())


def answering(probabilities_of: Callable[[Pixels], Probabilities]) -> Callable[[Pixels], Outputs]:
    """As an engine does; its logits are nobody's business here."""

    def run(pixels: Pixels) -> Outputs:
        answer = probabilities_of(pixels)
        return answer, answer, None

    return run


# --- the variant --------------------------------------------------------------------------------------------------


def test_the_truth_passes_and_the_difference_is_zero() -> None:
    assert check_variant(golden(), "onnx", TOLERANCE, answering(truth)) < 1e-7


def test_a_difference_just_below_the_tolerance_passes_and_is_told() -> None:
    off = answering(shifted(0.95 * TOLERANCE))
    assert check_variant(golden(), "onnx", TOLERANCE, off) == pytest.approx(0.95 * TOLERANCE, abs=1e-6)


WRONG: dict[str, Callable[[Pixels], Probabilities]] = {
    "rows reversed": lambda pixels: truth(pixels)[::-1],
    "two rows swapped": lambda pixels: truth(pixels)[[1, 0, 2, 3]] if len(pixels) > 1 else truth(pixels),
    "off by one row": lambda pixels: np.roll(truth(pixels), 1, axis=0),
    "the first row for all": lambda pixels: np.repeat(truth(pixels)[:1], len(pixels), axis=0),
    "wrong for one image": lambda pixels: truth(pixels) if len(pixels) > 1 else truth(255 - pixels),
    "wrong for a batch": lambda pixels: truth(pixels) if len(pixels) == 1 else truth(255 - pixels),
    "channels swapped": lambda pixels: truth(pixels[..., ::-1]),
    "just above the tolerance": shifted(1.05 * TOLERANCE),
    "just above, the other way": shifted(-1.05 * TOLERANCE),
    "not a number": lambda pixels: np.where(np.arange(3) == 1, np.float32("nan"), truth(pixels)),
    "infinite": lambda pixels: np.where(np.arange(3) == 1, np.float32("inf"), truth(pixels)),
    "a label too few": lambda pixels: truth(pixels)[:, :2],
    "a row too few": lambda pixels: truth(pixels)[: max(1, len(pixels) - 1)],
    "no batch axis": lambda pixels: truth(pixels)[0],
    "rows do not sum to 1": lambda pixels: truth(pixels) * np.float32(1 + 5e-5),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_engine_that_answers_otherwise_is_refused_in_one_sentence(wrong: Callable[[Pixels], Probabilities]) -> None:
    with pytest.raises(VariantMismatch, match=r"^Self-test failed: onnx") as mismatch:
        check_variant(golden(), "onnx", TOLERANCE, answering(wrong))
    assert "\n" not in str(mismatch.value)


def test_the_mismatch_names_the_image_the_difference_and_the_limit() -> None:
    def wrong_on_the_third(pixels: Pixels) -> Probabilities:
        third = (pixels == golden().pixels[2]).all(axis=(1, 2, 3))
        return np.where(third[:, None], shifted(0.25)(pixels), truth(pixels))

    with pytest.raises(VariantMismatch, match=r"by 0\.25 on golden image 2 \(limit 0\.001\)"):
        check_variant(golden(), "onnx", TOLERANCE, answering(wrong_on_the_third))


@pytest.mark.parametrize("off", [0.0, 0.09, -0.09, 0.11, -0.11, float("nan")])
@pytest.mark.parametrize("rows", [1, 4])
def test_logits_that_no_probability_shows_are_compared_by_the_out_of_distribution_score(off: float, rows: int) -> None:
    """A constant on all logits leaves every probability as it is, and makes every image unfamiliar."""

    def run(pixels: Pixels) -> Outputs:
        logits = np.log(truth(pixels))
        return truth(pixels), logits + np.float32(off if len(pixels) == rows else 0), None

    images = replace(golden(), ood_scores=-np.log(truth(golden().pixels)).max(axis=1).astype(np.float64))
    assert check_variant(images, "onnx", TOLERANCE, run) < 1e-7, "nobody asks where the manifest has no doubt"
    if abs(off) < 0.1:
        assert check_variant(images, "onnx", TOLERANCE, run, ood_tolerance=0.1) < 1e-7
    else:
        with pytest.raises(VariantMismatch, match="onnx's out-of-distribution score differs from the checkpoint's by"):
            check_variant(images, "onnx", TOLERANCE, run, ood_tolerance=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_one_changed_expected_value_refuses_every_engine(value: float) -> None:
    images = golden()
    changed = images.probabilities.copy()
    changed[2, 1] = value
    with pytest.raises(ArtifactError):
        check_variant(replace(images, probabilities=changed), "onnx", TOLERANCE, answering(truth))
