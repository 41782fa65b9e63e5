"""The folder of an artifact, as it fills: variants, what proves them, checksums; and its first proof."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from app import engines
from app.artifact import manifest
from app.artifact.golden import doubts_of
from app.artifact.manifest import Manifest
from app.engines import LibraryMissing, Runs
from app.engines.variants import VARIANTS
from training.console.progress import Talk
from training.data.pixels import Pixels
from training.errors import Refused
from training.models.servable import Servable
from training.runs.trained_model import RECORDED, WEIGHTS
from training.variants.evidence import Evidence
from training.variants.writers import Writer


def write_variants(
    servable: Servable, train: Pixels, folder: Path, writers: Mapping[str, Writer], talk: Talk
) -> dict[str, Runs]:
    """Write each file and load it with the engines that run it, one thread each; `train` calibrates."""
    images: NDArray[np.uint8] = train.take(np.arange(len(train)))
    loaded: dict[str, Runs] = {}
    for file, write in writers.items():
        with talk.step(f"writing {file}", 1):
            write(servable, images, folder / file)
        for name in (name for name, spec in VARIANTS.items() if spec.file == file):
            try:
                loaded[name] = engines.load(name, folder / file, "cpu", 1)
            except LibraryMissing as missing:
                talk.fact("note", f"left out: {missing}")
        if not any(VARIANTS[name].file == file for name in loaded):
            (folder / file).unlink()  # nothing proves it
    return loaded


def keep(folder: Path, described: Manifest, evidence: Evidence) -> None:
    """Of the variants those that are described; beside them the golden images with their answers, and the weights."""
    kept = {variant.file for variant in described.variants.values()}
    for file in {spec.file for spec in VARIANTS.values()} - kept:
        (folder / file).unlink(missing_ok=True)
    golden = replace(evidence.golden, contract=described.contract)
    doubts = doubts_of(golden, described) if described.doubt else ""
    replace(golden, doubts=doubts, ood_scores=golden.ood_scores if doubts else None).save(folder)
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(evidence.checkpoint.network.state_dict()))


def seal(folder: Path, described: Manifest, recorded: Mapping[str, list[str]]) -> Manifest:
    """The images it was made with, by their checksums, and last the manifest with those of all files."""
    (folder / RECORDED).write_text(json.dumps(recorded))
    files = {path.name: manifest.fingerprint(path) for path in sorted(folder.iterdir())}
    complete = described.model_copy(update={"files": files})
    complete.save(folder)
    return complete


def verify(folder: Path) -> float:
    """What `sightglass verify` says about the folder, in a fresh process. Raises Refused; returns seconds."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-P", "-m", "sightglass", "verify", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"the finished artifact does not verify: {done.stderr.strip()}")
    return time.perf_counter() - started
