"""What has been learnt: a run or an artifact, read back with all it takes to go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from training.errors import TrainingError
from training.models.heads import Network
from training.recipes.recipe import Recipe, parse
from training.runs import checkpoint

RECORDED = "splits.json"  # of an artifact: split -> the first 16 hex digits of its files' sha256 sums


@dataclass(frozen=True)
class Trained:
    """`state`: the best checkpoint's tensors by name, read from `file`. A run has no temperature yet: 1."""

    recipe: Recipe
    labels: tuple[str, ...]
    input: InputSpec
    temperature: float
    state: Mapping[str, Tensor]
    file: Path

    def network(self) -> Network:
        """In evaluation mode. Raises TrainingError."""
        network = self.recipe.network(len(self.labels))
        with checkpoint.fitting(self.file):
            network.load_state_dict(self.state)
        return network.eval()


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


def read(folder: Path) -> Trained:
    """Raises TrainingError or ArtifactError where `folder` is neither a run nor an artifact, or damaged."""
    if is_artifact(folder):
        described = manifest.load(folder)
        recipe, file = parse(described.provenance["recipe"]), folder / "weights.safetensors"
        return Trained(recipe, described.labels, described.input, described.temperature, load_file(file), file)
    run = checkpoint.Run.open(folder)
    return Trained(run.recipe, run.labels, run.input, 1.0, checkpoint.load_best(folder), folder / "weights.pt")
