"""The trained network itself, read back from a run or an artifact for everything that needs gradients or hooks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.artifact.decoder.decode import InputSpec
from training.models.heads import Network
from training.models.servable import Normalise
from training.runs import trained_model


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
    found = trained_model.read(target)
    return Eager(found.network().requires_grad_(False), found.labels, found.input, found.temperature)
