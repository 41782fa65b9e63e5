"""What happens before the socket listens: checksums, decoder, engine, self-test; the same for `verify`."""

import time
from dataclasses import dataclass
from pathlib import Path

from app import engines
from app.artifact import golden, manifest
from app.artifact.golden import Golden, VariantMismatch
from app.artifact.manifest import ArtifactError, Manifest
from app.engines import Engine, EngineError


@dataclass(frozen=True)
class Served:
    """A variant that passed. `difference`: largest distance of a probability to the checkpoint's on the golden images;
    `warning`: why this is not the default variant, or empty; `seconds`: how long loading and proving took."""

    folder: Path
    manifest: Manifest
    variant: str
    engine: Engine
    difference: float
    warning: str
    seconds: float


def start(folder: Path, variant: str = "auto", device: str = "auto", threads: int = 1) -> Served:
    """Load an artifact and prove it in this process.

    `auto` takes the manifest's default, and falls back from INT8 to fp32 where this CPU computes INT8 differently.
    Raises ArtifactError or EngineError with one sentence.
    """
    started = time.perf_counter()
    description = manifest.load(folder)
    images = Golden.load(folder)
    golden.check_decoder(images, description)
    warning = ""
    chosen = _choose(description, variant, device)
    try:
        engine, difference = _prove(folder, description, images, chosen, device, threads)
    except VariantMismatch as error:
        if variant != "auto" or chosen != "onnx-int8":
            raise
        warning = f"{error}; serving onnx instead"
        chosen = "onnx"
        engine, difference = _prove(folder, description, images, chosen, device, threads)
    seconds = time.perf_counter() - started
    return Served(folder, description, chosen, engine, difference, warning, seconds)


def _choose(description: Manifest, variant: str, device: str) -> str:
    name = description.default_variant if variant == "auto" else variant
    if name not in description.variants:
        raise ArtifactError(f'{description.name} has no variant "{name}"; it has {", ".join(description.variants)}')
    if name not in engines.ENGINES:
        raise ArtifactError(f'this Sightglass has no engine for variant "{name}"')
    # INT8 graphs are made for CPU instructions; on a GPU the fp32 graph is the fast one
    return "onnx" if variant == "auto" and device == "cuda" and name == "onnx-int8" else name


def _prove(
    folder: Path, description: Manifest, images: Golden, variant: str, device: str, threads: int
) -> tuple[Engine, float]:
    engine = engines.load(variant, folder / description.variants[variant].file, device, threads)
    try:
        difference = golden.check_variant(images, description, variant, lambda pixels: engine.run(pixels).probabilities)
    except EngineError as error:
        raise VariantMismatch(f"Self-test failed: {error}") from error
    return engine, difference
