"""The golden self-test: stored files whose pixels and answers are known must come out of this process the same."""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.artifact.decoder.decode import ImageError, decode
from app.artifact.manifest import ArtifactError, Manifest

FILE = "golden.npz"
JPEG_PIXEL_TOLERANCE = 2  # of 255: JPEG libraries may round their inverse DCT differently; PNG is exact
ROW_SUM_TOLERANCE = 1e-5
# what numpy and zipfile raise on damaged archives
DAMAGE = (
    *(OSError, EOFError, TypeError, ValueError, KeyError, RuntimeError, NotImplementedError),
    *(tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)


class VariantMismatch(ArtifactError):
    """The artifact is intact, but this engine on this machine does not give the checkpoint's answers."""


@dataclass(frozen=True)
class Golden:
    """`files`: G encoded images. `pixels` uint8[G, H, W, 3] and `probabilities` float32[G, K] are what the export's
    decoder and the eager checkpoint made of them. `contract`: see Manifest.contract."""

    files: tuple[bytes, ...]
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    contract: str

    def save(self, folder: Path) -> None:
        """Write golden.npz: plain arrays, no pickle."""
        np.savez_compressed(
            folder / FILE,
            files=np.frombuffer(b"".join(self.files), np.uint8),
            lengths=np.array([len(file) for file in self.files], np.int64),
            pixels=self.pixels,
            probabilities=self.probabilities,
            contract=np.frombuffer(self.contract.encode(), np.uint8),
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
                )
        except DAMAGE as error:
            raise ArtifactError(f"{folder / FILE} cannot be read: {error}") from error


def check_decoder(golden: Golden, manifest: Manifest) -> None:
    """Labels, input and decoded pixels are the export's. Raises ArtifactError."""
    if golden.contract != manifest.contract:
        raise ArtifactError("Self-test failed: labels or input of the manifest are not those of the golden images")
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


def check_variant(
    golden: Golden,
    name: str,
    tolerance: float,
    probabilities_of: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
) -> float:
    """The variant's answers are the checkpoint's; returns the largest difference of a probability.

    It is fed the stored pixels, so that the tolerance is the variant's own and not also that of JPEG decoding.
    Raises VariantMismatch.
    """
    worst, where = 0.0, 0
    # one batch and single rows: an engine that mixes up rows, or is wrong at one of the two sizes, is found here
    answers = (
        probabilities_of(golden.pixels),
        np.concatenate([probabilities_of(row[None]) for row in golden.pixels]),
    )
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
