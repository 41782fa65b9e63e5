"""What has been learnt: a run or an artifact, read back with all it takes to go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from app.artifact import manifest
from app.artifact.image import InputSpec
from training import checkpoint
from training.models.heads import Network
from training.recipe import Recipe, parse


@dataclass(frozen=True)
class Trained:
    """`state`: the best checkpoint's tensors by name. A run has no temperature yet: 1."""

    recipe: Recipe
    labels: tuple[str, ...]
    input: InputSpec
    temperature: float
    state: Mapping[str, Tensor]

    def network(self) -> Network:
        """In evaluation mode."""
        network = self.recipe.network(len(self.labels))
        network.load_state_dict(self.state)
        return network.eval()


def read(folder: Path) -> Trained:
    """Raises TrainingError or ArtifactError where `folder` is neither a run nor an artifact."""
    if (folder / manifest.FILE).exists():
        described = manifest.load(folder)
        recipe, state = parse(described.provenance["recipe"]), load_file(folder / "weights.safetensors")
        return Trained(recipe, described.labels, described.input, described.temperature, state)
    run = checkpoint.Run.open(folder)
    return Trained(run.recipe, run.labels, run.input, 1.0, checkpoint.load(folder / "weights.pt")["network"])
