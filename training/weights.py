"""Where a network starts when not from scratch: torchvision's weights, a file, another run or an artifact."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from app.artifact import manifest
from app.artifact.image import InputSpec
from training import TrainingError, checkpoint, models
from training.models.heads import Network
from training.recipe import Recipe, parse

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """`state` by the names that its maker gave; `labels` are those of its head, none where they are not known;
    `input` is the preprocessing that it learnt with, None where that is not known."""

    name: str
    state: State
    labels: tuple[str, ...] = ()
    input: InputSpec | None = None

    def copy_into(self, network: Network, labels: tuple[str, ...]) -> bool:
        """Fill the features, and the head where it is for the same labels; whether the head was filled.

        Raises TrainingError where they are not this network's.
        """
        wanted = network.state_dict()
        state = {name.removeprefix("module."): tensor for name, tensor in self.state.items()}
        if not any(name in wanted for name in state):  # torchvision's own names
            state = {f"features.{name}": tensor for name, tensor in state.items()}
        keep_head = self.labels == labels and all(
            name in state and state[name].shape == wanted[name].shape for name in wanted if name.startswith("head.")
        )
        chosen = [name for name in wanted if keep_head or not name.startswith("head.")]
        for name in chosen:
            if name not in state or state[name].shape != wanted[name].shape:
                found = f"is {tuple(state[name].shape)}" if name in state else "is missing"
                message = f'{self.name} does not fit: "{name}" {found}, {tuple(wanted[name].shape)} is needed'
                raise TrainingError(message, "name the model and input_size that these weights were made for")
        network.load_state_dict({name: state[name] for name in chosen}, strict=False)
        return keep_head


def resolve(recipe: Recipe, source: str | None) -> tuple[Recipe, Weights | None]:
    """What `--from SOURCE` or else the recipe's `weights` names, and the recipe as it follows from them.

    The preprocessing follows the weights; from a run or an artifact the model does too. Raises TrainingError.
    """
    if source is None:
        found = _named(recipe) if recipe.weights else None
    elif (Path(source) / manifest.FILE).exists():
        recipe, found = _from_artifact(Path(source), recipe)
    elif Path(source).is_dir():
        recipe, found = _from_run(Path(source), recipe)
    else:
        recipe = recipe.model_copy(update={"weights": source})
        found = _named(recipe)
    if found and found.input:
        keys = {"crop_fraction": found.input.crop_fraction, "interpolation": found.input.interpolation}
        recipe = recipe.model_copy(update={**keys, "channels": found.input.channels})
    return recipe, found


def _from_artifact(folder: Path, recipe: Recipe) -> tuple[Recipe, Weights]:
    described = manifest.load(folder)
    own = parse(described.provenance["recipe"])
    weights = Weights(str(folder), _read(folder / "weights.safetensors"), described.labels, described.input)
    return _same_model(recipe, own), weights


def _from_run(folder: Path, recipe: Recipe) -> tuple[Recipe, Weights]:
    run = checkpoint.Run.open(folder)
    weights = Weights(str(folder), checkpoint.load(folder / "weights.pt")["network"], run.labels, run.input)
    return _same_model(recipe, run.recipe), weights


def _same_model(recipe: Recipe, own: Recipe) -> Recipe:
    return recipe.model_copy(update={"model": own.model, "input_size": own.input_size, "weights": ""})


def _named(recipe: Recipe) -> Weights:
    """torchvision's by "DEFAULT", or a file; for torchvision's networks the preprocessing is torchvision's."""
    published = _published(recipe)
    spec = _spec_of(published, recipe) if published else None
    if recipe.weights != "DEFAULT":
        return Weights(recipe.weights, _read(Path(recipe.weights)), input=spec)
    if published is None:
        raise TrainingError(
            f'nobody publishes weights of "{recipe.model}"', "--set weights=PATH, or a torchvision/ model"
        )
    file = Path(published.url).name
    try:
        state: State = published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or not the file that its name's hash says
        raise TrainingError(
            f"the weights of {recipe.model} are not here and cannot be downloaded: {error}",
            f'fetch {file} elsewhere and --set weights={file}; or --set weights="" to train from scratch',
        ) from error
    return Weights(f"torchvision's {file}", state, input=spec)


def downloaded(recipe: Recipe) -> bool:
    """Whether torchvision's weights of the recipe's model are in torch's cache."""
    published = _published(recipe)
    return published is not None and (Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name).is_file()


def _published(recipe: Recipe) -> Any:
    """torchvision's default weights of the model, None where it has none."""
    import torchvision

    if not recipe.model.startswith(models.ZOO):
        return None
    return torchvision.models.get_model_weights(recipe.model.removeprefix(models.ZOO)).DEFAULT


def _spec_of(published: Any, recipe: Recipe) -> InputSpec:
    """ImageNet's preprocessing as torchvision states it; the size stays the recipe's."""
    preset = published.transforms()
    return InputSpec(
        width=recipe.input_size,
        height=recipe.input_size,
        channels=3,
        crop_fraction=preset.crop_size[0] / preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _read(path: Path) -> State:
    """The tensors of a .safetensors or torch file, bare or under one of the usual keys. Raises TrainingError."""
    if not path.is_file():
        raise TrainingError(f'there is no weights file "{path}"', "a .pth, .pt or .safetensors file, or DEFAULT")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise TrainingError(f"{path} is damaged: {error}") from error
    content = checkpoint.load(path)
    for key in ("network", "state_dict", "model"):
        content = content.get(key, content)
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise TrainingError(f"{path} holds more than tensors by name", "save the network's state_dict() alone")
    return content
