"""What a `train` command will do, decided before anything is read or written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from app.artifact.image import ImageError, InputSpec, decode
from training import TrainingError, checkpoint, recipe
from training import weights as starting
from training.checkpoint import Run
from training.data import index, open_data
from training.recipe import Recipe
from training.samples import Data, Sample
from training.weights import Weights

# Any decode will do to learn a picture's size and whether it is grey.
_PROBE = InputSpec(
    width=32, height=32, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)


@dataclass(frozen=True)
class Plan:
    """`why` says how the recipe was chosen; `device` is cpu or cuda; `weights` is where the network starts (None: from
    scratch); `resumed` is the run to go on with."""

    data: Data
    out: Path
    recipe: Recipe
    why: str
    device: str
    weights: Weights | None
    resumed: Run | None


def make(
    source: str,
    out: Path,
    name: str | None = None,
    overrides: Sequence[str] = (),
    *,
    weights: str | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
) -> Plan:
    """Index the data, choose or load the recipe, find the `weights`, and check device and run folder.

    Raises TrainingError.
    """
    device = _resolve(device)
    if resume:
        return _resumed(source, out, name, overrides, device)
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        remedy = (
            "--resume goes on with it, --force replaces it" if (out / "meta.json").exists() else "--force replaces it"
        )
        raise TrainingError(f'"{out}" exists', remedy)
    checkpoint.require_replaceable(out)
    why = "as asked"
    if name is None:
        name, why = choose(index(source)) if weights is None else ("fine-tuning", "there are weights to start from")
    chosen, start = starting.resolve(recipe.load(name, overrides), weights)
    data = open_data(source, chosen.val_fraction, chosen.test_fraction, chosen.seed)
    return Plan(data, out, chosen, f"{name}: {why}", device, start, None)


def _resolve(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise TrainingError(f'there is no device "{device}"', "known: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"there is no CUDA device here (torch {torch.__version__})", "leave --device out")
    return device


def _resumed(source: str, out: Path, name: str | None, overrides: Sequence[str], device: str) -> Plan:
    run = Run.open(out)
    if name is not None and recipe.load(name, overrides) != run.recipe:
        raise TrainingError(f'"{out}" was started with other settings', "--resume alone takes the recorded recipe")
    if name is None and overrides:
        raise TrainingError("a run cannot be resumed with other settings", "leave --set out, or name a new --out")
    return Plan(run.data(source), out, run.recipe, "the run's own", device, None, run)


def choose(data: Data) -> tuple[str, str]:
    """The recipe for data nobody chose one for, and why: by the size and colour of up to 50 of its pictures."""
    samples = data.splits.get("train") or data.splits["all"]
    picked = np.random.default_rng(0).permutation(len(samples))[:50]
    sizes, grey = _probe(data, [samples[i] for i in picked])
    if not sizes:
        raise TrainingError(f"none of {len(picked)} files looked at in {data.source} is a picture")
    side = median(sizes)
    if side > 40:
        return "photos", f"the pictures are photographs ({side:.0f} px on the shorter side)"
    if grey and side <= 16:
        return "digits", f"the pictures are small and grey ({side:.0f} px)"
    return "residual-cnn-onecycle", f"the pictures are small ({side:.0f} px)"


def _probe(data: Data, samples: list[Sample]) -> tuple[list[int], bool]:
    """Shorter sides in pixels of what decodes, and whether all of it is grey."""
    sizes, grey = [], True
    for sample in samples:
        try:
            decoded = decode(data.read(sample.path), _PROBE)
        except (ImageError, OSError):
            continue
        sizes.append(min(decoded.geometry.width, decoded.geometry.height))
        grey = grey and bool((decoded.pixels == decoded.pixels[:, :, :1]).all())
    return sizes, grey
