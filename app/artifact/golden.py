"""The golden self-test: stored files whose pixels and answers are known must come out of this process the same."""

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.decode import ImageError, decode
from app.artifact.decoder.header import kind_of
from app.artifact.doubt import ood_scores
from app.artifact.manifest import ArtifactError, Manifest
from app.artifact.ranking import rank

FILE = "golden.npz"
# what every browser shows as it is meant; a CMYK JPEG and a 16-bit PNG test the decoder, not the eye
SHOWN = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P")}
JPEG_PIXEL_TOLERANCE = 2  # of 255: JPEG libraries may round their inverse DCT differently; PNG is exact
ROW_SUM_TOLERANCE = 1e-5
# what numpy and zipfile raise on damaged archives
DAMAGE = (
    *(OSError, EOFError, TypeError, ValueError, KeyError, RuntimeError, NotImplementedError),
    *(tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)


Outputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]
"""Probabilities and logits, [N, K], and heat maps, [N, K, h, w], as an engine has them."""


class VariantMismatch(ArtifactError):
    """The artifact is intact, but this engine on this machine does not give the checkpoint's answers."""


@dataclass(frozen=True)
class Golden:
    """`files`: G encoded images. `pixels` uint8[G, H, W, 3] and `probabilities` float32[G, K] are what the export's
    decoder and the eager checkpoint made of them. `contract`: see Manifest.contract. Where the manifest has doubt:
    `ood_scores` float64[G], the checkpoint's too, and `doubts`, see doubts_of."""

    files: tuple[bytes, ...]
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    contract: str
    ood_scores: NDArray[np.float64] | None = None
    doubts: str = ""

    def save(self, folder: Path) -> None:
        """Write golden.npz: plain arrays, no pickle."""
        doubt: dict[str, Any] = {}
        if self.ood_scores is not None:
            doubt = {"ood_scores": self.ood_scores, "doubts": np.frombuffer(self.doubts.encode(), np.uint8)}
        np.savez_compressed(
            folder / FILE,
            files=np.frombuffer(b"".join(self.files), np.uint8),
            lengths=np.array([len(file) for file in self.files], np.int64),
            pixels=self.pixels,
            probabilities=self.probabilities,
            contract=np.frombuffer(self.contract.encode(), np.uint8),
            **doubt,
        )

    @classmethod
    def load(cls, folder: Path) -> "Golden":
        """Raises ArtifactError where the file is missing or not what `save` wrote."""
        try:
            with np.load(io.BytesIO((folder / FILE).read_bytes()), allow_pickle=False) as arrays:
                ends = np.cumsum(arrays["lengths"])
                files = arrays["files"].tobytes()
                return cls(
                    tuple(files[end - n : end] for n, end in zip(arrays["lengths"], ends, strict=True)),
                    arrays["pixels"],
                    arrays["probabilities"],
                    arrays["contract"].tobytes().decode(),
                    arrays.get("ood_scores"),
                    arrays["doubts"].tobytes().decode() if "doubts" in arrays else "",
                )
        except DAMAGE as error:
            raise ArtifactError(f"{folder / FILE} cannot be read: {error}") from error


def is_shown(file: bytes) -> bool:
    """Whether every browser shows it as it is meant, by its header alone. Raises ImageError where it is no image."""
    modes = SHOWN.get(kind_of(file), ())
    return bool(modes) and Image.open(io.BytesIO(file)).mode in modes


def check_decoder(golden: Golden, manifest: Manifest) -> None:
    """Labels, input and decoded pixels are the export's. Raises ArtifactError."""
    if golden.contract != manifest.contract:
        raise ArtifactError(
            "Self-test failed: labels, input or doubt of the manifest are not those of the golden images"
        )
    shape = len(golden.files), manifest.input.height, manifest.input.width, 3
    if not golden.files or golden.pixels.shape != shape or len(golden.probabilities) != len(golden.files):
        raise ArtifactError(f"Self-test failed: {FILE} does not hold pixels and probabilities for each of its files")
    for number, (file, expected) in enumerate(zip(golden.files, golden.pixels, strict=True)):
        try:
            decoded = decode(file, manifest.input)
        except ImageError as error:
            raise ArtifactError(f"Self-test failed: golden image {number} does not decode: {error}") from error
        allowed = JPEG_PIXEL_TOLERANCE if decoded.format == "JPEG" else 0
        difference = int(np.abs(decoded.pixels.astype(int) - expected).max())
        if difference > allowed:
            raise ArtifactError(
                f"Self-test failed: golden image {number} ({decoded.format}) decodes differently by {difference} of 255"
                f" (limit {allowed}); another Pillow than the export's?"
            )


def doubts_of(golden: Golden, manifest: Manifest) -> str:
    """What the manifest's thresholds say of the checkpoint's answers to each golden image, as JSON."""
    labels, doubt, scores = manifest.labels, manifest.doubt, golden.ood_scores
    assert doubt is not None
    assert scores is not None
    return json.dumps(
        [
            doubt.of(row, float(score), labels, rank(row, labels, 1))
            for row, score in zip(golden.probabilities, scores, strict=True)
        ]
    )


def check_doubts(golden: Golden, manifest: Manifest) -> None:
    """This process says of the checkpoint's answers what the export said. Raises ArtifactError."""
    if manifest.doubt is None:
        return
    scores = golden.ood_scores
    if scores is None or scores.shape != (len(golden.files),) or not np.isfinite(scores).all():
        raise ArtifactError(
            f"Self-test failed: {FILE} does not hold an out-of-distribution score for each of its files"
        )
    if golden.probabilities.shape[1:] != (len(manifest.labels),) or doubts_of(golden, manifest) != golden.doubts:
        raise ArtifactError(
            "Self-test failed: unfamiliar, accept or set of a golden image are not what the export said"
        )


def check_variant(
    golden: Golden,
    name: str,
    tolerance: float,
    run: Callable[[NDArray[np.uint8]], Outputs],
    ood_tolerance: float | None = None,
) -> float:
    """The variant's answers are the checkpoint's; returns the largest difference of a probability. `ood_tolerance`: of
    an out-of-distribution score, where the manifest has doubt.

    It is fed the stored pixels, so that the tolerance is the variant's own and not also that of JPEG decoding.
    Raises VariantMismatch.
    """
    # one batch and single rows: an engine that mixes up rows, or is wrong at one of the two sizes, is found here
    rows = [run(row[None]) for row in golden.pixels]
    together = run(golden.pixels)
    worst = _check_probabilities(golden, name, tolerance, (together[0], np.concatenate([row[0] for row in rows])))
    if ood_tolerance is not None:
        for outputs in ([together], rows):
            _check_ood_scores(golden, name, ood_tolerance, outputs)
    return worst


def _check_ood_scores(golden: Golden, name: str, tolerance: float, outputs: Sequence[Outputs]) -> None:
    found = np.concatenate([ood_scores(logits, heatmap) for _, logits, heatmap in outputs])
    assert golden.ood_scores is not None
    apart = np.abs(found - golden.ood_scores)
    if not apart.max() <= tolerance:
        raise VariantMismatch(
            f"Self-test failed: {name}'s out-of-distribution score differs from the checkpoint's by {apart.max():.2g}"
            f" on golden image {apart.argmax()} (limit {tolerance:.2g})"
        )


def _check_probabilities(golden: Golden, name: str, tolerance: float, answers: Sequence[NDArray[np.float32]]) -> float:
    worst, where = 0.0, 0
    for answer in answers:
        if answer.shape != golden.probabilities.shape or not np.isfinite(answer).all():
            raise VariantMismatch(
                f"Self-test failed: {name} answers no finite float32[N, {golden.probabilities.shape[-1]}]"
            )
        sums = np.abs(answer.sum(axis=1) - 1)
        if sums.max() > ROW_SUM_TOLERANCE:
            raise VariantMismatch(f"Self-test failed: {name}'s probabilities sum to 1 only within {sums.max():.1e}")
        differences = np.abs(answer - golden.probabilities).max(axis=1)
        if not differences.max() <= worst:  # written so that NaN counts as a difference
            worst, where = float(differences.max()), int(differences.argmax())
    if not worst <= tolerance:
        raise VariantMismatch(
            f"Self-test failed: {name} differs from the checkpoint by {worst:.2g} on golden image {where}"
            f" (limit {tolerance:.2g})"
        )
    return worst
