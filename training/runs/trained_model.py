"""What has been learnt: a run's best checkpoint or an artifact's weights, with all it takes to use or go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.engines import Outputs
from training.errors import TrainingError
from training.models import registry
from training.models.heads import Network
from training.models.servable import Normalise, Servable
from training.recipes.recipe import Recipe, parse
from training.runs import checkpoint
from training.runs.schema import Origin

RECORDED = "splits.json"  # of an artifact: split -> the first 16 hex digits of its files' sha256 sums
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """`network`: normalised float[N, C, H, W] -> logits float[N, K], on the CPU, in evaluation mode, without gradients
    of weights. `temperature` softens its probabilities; a run has none yet: 1. `origin`: of the published weights that
    it started from, if it did.

    It answers as an engine does (see app.engines.Runs): the reference that every exported variant is measured against.
    """

    recipe: Recipe
    labels: tuple[str, ...]
    input: InputSpec
    network: Network
    temperature: float = 1.0
    origin: Origin | None = None
    device: ClassVar[str] = "cpu"

    @classmethod
    def load(cls, target: Path) -> "TrainedModel":
        """Raises TrainingError or ArtifactError where `target` is neither a run nor an artifact, or damaged."""
        if not is_artifact(target):
            return cls.of(checkpoint.Run.open(target))
        described, file = manifest.load(target), target / WEIGHTS
        recipe = parse(described.provenance["recipe"])
        network = _filled(recipe, len(described.labels), load_file(file), file)
        published = described.provenance.get("weights")
        origin = Origin(source=published["source"], licence=published["licence"]) if published else None
        return cls(recipe, described.labels, described.input, network, described.temperature, origin)

    @classmethod
    def of(cls, run: checkpoint.Run) -> "TrainedModel":
        """The run's best checkpoint. Raises TrainingError without one."""
        state = checkpoint.load_best(run.folder)
        network = _filled(run.recipe, len(run.labels), state, run.folder / "weights.pt")
        return cls(run.recipe, run.labels, run.input, network, origin=run.meta.origin)

    @cached_property
    def normalise(self) -> Normalise:
        """RGB 0..255, [N, H, W, 3] -> the network's input."""
        return Normalise(self.input.mean, self.input.std, self.recipe.enlarge)

    @cached_property
    def servable(self) -> Servable:
        """The graph that is exported; its network is a copy."""
        return Servable(self.network, self.normalise, self.temperature)

    def probabilities(self, x: Tensor) -> Tensor:
        """float32[N, K] of the network's input, as they are served."""
        with torch.no_grad():
            logits: Tensor = self.network(x)
        return torch.softmax(logits / self.temperature, dim=1)

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """uint8[N, H, W, 3] RGB at the model's input size -> Outputs, by the graph that is exported."""
        with torch.inference_mode():
            values = self.servable(torch.from_numpy(pixels))
        heatmap = None if values.heatmap is None else values.heatmap.numpy()
        return Outputs(values.probabilities.numpy(), values.logits.numpy(), heatmap)


def untrained(recipe: Recipe, classes: int) -> Network:
    """The recipe's model with fresh weights: normalised float[N, channels, network_size, network_size] -> logits."""
    size = recipe.network_size
    return registry.build(recipe.model, recipe.channels, classes, size, recipe.head_hidden, recipe.blocks)


def is_artifact(folder: Path) -> bool:
    """Whether `folder` is an artifact, not a run. Raises TrainingError where it is neither."""
    if (folder / manifest.FILE).exists():
        return True
    if not (folder / "meta.json").exists():
        message = (
            f'"{folder}" is neither a run nor an artifact' if folder.exists() else f'there is no folder "{folder}"'
        )
        raise TrainingError(message, "name what `sightglass train` or `sightglass export` wrote to --out")
    return False


def _filled(recipe: Recipe, classes: int, state: Mapping[str, Tensor], file: Path) -> Network:
    """The recipe's model with the tensors that `file` holds. Raises TrainingError where they are of another one."""
    network = untrained(recipe, classes)
    with checkpoint.fitting(file):
        network.load_state_dict(state)
    return network.eval().requires_grad_(False)
