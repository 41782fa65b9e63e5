"""What happens before the socket listens: checksums, decoder, engine, self-test; the same for `verify`."""

import time
from dataclasses import dataclass
from pathlib import Path

from app import engines, machine
from app.artifact import golden, manifest
from app.artifact.golden import Golden, VariantMismatch
from app.artifact.manifest import ArtifactError, Manifest, Variant
from app.engines import EngineError, LibraryMissing, Runs
from app.engines.variants import VARIANTS

# Measured for docs/performance.md: one image's time in the event loop, and a worker with room for images.
_HTTP_MS, _WORKER_BYTES, _MOST_WORKERS = 0.5, 300_000_000, 8


@dataclass(frozen=True)
class Served:
    """A variant that passed. `proof`: what the export measured of its file; `difference`: largest distance of a
    probability to the checkpoint's on the golden images; `warning`: why this is not the default variant, or empty;
    `seconds`: how long loading and proving took."""

    folder: Path
    manifest: Manifest
    variant: str
    proof: Variant
    engine: Runs
    difference: float
    warning: str
    seconds: float


@dataclass(frozen=True)
class Artifact:
    """A folder whose checksums hold and whose golden files this process decodes as the export did."""

    folder: Path
    manifest: Manifest
    images: Golden

    @classmethod
    def open(cls, folder: Path) -> "Artifact":
        """Raises ArtifactError with one sentence."""
        described = manifest.load(folder)
        images = Golden.load(folder)
        golden.check_decoder(images, described)
        golden.check_doubts(images, described)
        return cls(folder, described, images)

    def prove(self, variant: str, device: str, threads: int, warning: str = "") -> Served:
        """Load one variant and compare its answers. Raises VariantMismatch, EngineError or LibraryMissing."""
        started = time.perf_counter()
        proof = _proof_of(self.manifest, variant)
        engine = engines.load(variant, self.folder / proof.file, device, threads)
        try:
            ood_tolerance = proof.doubt.tolerance if proof.doubt else None
            difference = golden.check_variant(self.images, variant, proof.tolerance, engine.run, ood_tolerance)
        except EngineError as error:
            raise VariantMismatch(f"Self-test failed: {error}") from error
        seconds = time.perf_counter() - started
        return Served(self.folder, self.manifest, variant, proof, engine, difference, warning, seconds)


def start(folder: Path, variant: str = "auto", device: str = "auto", threads: int = 1) -> Served:
    """Load an artifact and prove it in this process.

    `auto` takes the manifest's default, on a GPU the fp32 graph instead of INT8, and falls back to that where this CPU
    computes INT8 differently. Raises ArtifactError or EngineError with one sentence.
    """
    artifact = Artifact.open(folder)
    chosen = _choose(artifact.manifest, variant, device)
    try:
        served = artifact.prove(chosen, device, threads)
    except VariantMismatch as error:
        fallback = VARIANTS[chosen].fallback
        if variant != "auto" or fallback not in artifact.manifest.variants:
            raise
        return artifact.prove(fallback, device, threads, warning=f"{error}; serving {fallback} instead")
    if variant == "auto" and chosen != artifact.manifest.default_variant and served.engine.device == "cpu":
        return start(folder, variant, "cpu", threads)  # it was chosen for a GPU, and only now shows that there is none
    return served


def workers_for(folder: Path, variant: str, device: str, threads: int | None) -> int:
    """How many processes serve this artifact best here: one a core where the network is small, else one with threads.

    Python runs one thread of a process at a time, so that one process answers about 2,200 small images a second;
    a network that takes much longer gains nothing from a second process, and is held in memory once for each.
    Raises ArtifactError or EngineError.
    """
    described = manifest.load(folder)
    name = _choose(described, variant, device)
    cores = machine.cores().usable
    network_ms = min(_proof_of(described, name).cpu_ms_per_image.values()) / cores
    if threads is not None or network_ms > _HTTP_MS:
        return 1
    if VARIANTS[name].precision != "int8" and engines.on_gpu(name, device):
        return 1
    return max(1, min(cores, _MOST_WORKERS, machine.memory_bytes() // _WORKER_BYTES))


def _choose(described: Manifest, variant: str, device: str) -> str:
    name = described.default_variant if variant == "auto" else variant
    _proof_of(described, name)
    if name not in VARIANTS:
        raise ArtifactError(f'this Sightglass has no engine for variant "{name}"')
    fallback = VARIANTS[name].fallback
    # INT8 graphs are made for CPU instructions; on a GPU the fp32 graph is the fast one
    if variant == "auto" and fallback in described.variants and engines.on_gpu(fallback, device):
        return fallback
    return name


def _proof_of(described: Manifest, name: str) -> Variant:
    """The variant's own or, where an artifact does not know the runtime, that of the file which it runs.

    Raises ArtifactError where the artifact has no such file.
    """
    if name in described.variants:
        return described.variants[name]
    for proof in described.variants.values():
        if name in VARIANTS and proof.file == VARIANTS[name].file:
            return proof
    raise ArtifactError(f'{described.name} has no variant "{name}"; it has {", ".join(described.variants)}')


def verify(folder: Path) -> dict[str, Served | LibraryMissing]:
    """Prove every variant that this install can run, on the CPU; the others come with what is missing.

    Raises ArtifactError or EngineError for the first that does not hold, and when none could be proven.
    """
    artifact = Artifact.open(folder)
    results: dict[str, Served | LibraryMissing] = {}
    for variant in artifact.manifest.variants:
        try:
            results[variant] = artifact.prove(variant, "cpu", 1)
        except LibraryMissing as error:
            results[variant] = error
    if not any(isinstance(result, Served) for result in results.values()):
        raise EngineError(f"no variant of {folder} could be checked: {next(iter(results.values()), 'it has none')}")
    return results
