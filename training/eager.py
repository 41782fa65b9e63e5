"""The trained network itself, read back from a run or an artifact for everything that needs gradients or hooks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from app.artifact import manifest
from app.artifact.image import InputSpec
from training import checkpoint, recipe
from training.graph import Normalise
from training.models.heads import Network


@dataclass(frozen=True)
class Eager:
    """`network`: normalised float[N, C, H, W] -> logits float[N, K], in evaluation mode, without gradients of weights.

    `normalise` makes its input of RGB pixels 0..255, [N, H, W, 3], as `input` says. A run has no temperature yet: 1.
    """

    network: Network
    labels: tuple[str, ...]
    input: InputSpec
    temperature: float

    @property
    def normalise(self) -> Normalise:
        """The first step of the served graph."""
        return Normalise(self.input.mean, self.input.std)

    def probabilities(self, x: Tensor) -> Tensor:
        """float32[N, K], as they are served."""
        with torch.no_grad():
            logits: Tensor = self.network(x)
        return torch.softmax(logits / self.temperature, dim=1)


def load(target: Path) -> Eager:
    """Raises TrainingError or ArtifactError where `target` is neither a run nor an artifact."""
    if (target / manifest.FILE).exists():
        described = manifest.load(target)
        network = recipe.parse(described.provenance["recipe"]).network(len(described.labels))
        network.load_state_dict(load_file(target / "weights.safetensors"))
        labels, spec, temperature = described.labels, described.input, described.temperature
    else:
        run = checkpoint.Run.open(target)
        network, labels, spec, temperature = run.network(), run.labels, run.input, 1.0
    return Eager(network.eval().requires_grad_(False), tuple(labels), spec, temperature)
