"""Where a network starts when not from scratch: published weights, a file, another run or an artifact."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from training.console.terminal import count
from training.errors import TrainingError
from training.models import registry
from training.models.heads import Network, Pooled, State
from training.recipes.recipe import Recipe, parse
from training.runs.schema import Origin
from training.runs.trained_model import WEIGHTS, TrainedModel
from training.weights import published


@dataclass(frozen=True)
class Weights:
    """`state` by the names that its maker gave; `labels` are those of its head, none where they are not known;
    `input` is the preprocessing that it learnt with, None where that is not known; `origin` of published ones."""

    name: str
    state: State
    labels: tuple[str, ...] = ()
    input: InputSpec | None = None
    origin: Origin | None = None

    def copy_into(self, network: Network, labels: tuple[str, ...], model: str, *, blocks: int = 0) -> bool:
        """Fill the features, and the head where it is for the same labels; whether the head was filled.

        Raises TrainingError where they are not those of `model`, which the network is, or its first `blocks`.
        """
        wanted = network.state_dict()
        state = self._named_as(wanted)
        keep_head = self.labels == labels and all(
            name in state and state[name].shape == wanted[name].shape for name in wanted if name.startswith("head.")
        )
        chosen = [name for name in wanted if keep_head or not name.startswith("head.")]
        for name in chosen:
            if name not in state or state[name].shape != wanted[name].shape:
                found = f"is {tuple(state[name].shape)}" if name in state else "is missing"
                message = f'{self.name} does not fit {model}: "{name}" {found}, {tuple(wanted[name].shape)} is needed'
                raise TrainingError(message, "name the model and input_size that these weights were made for")
        if not blocks and (surplus := _surplus(network, state)):
            message = f"{self.name} does not fit {model}: these are the weights of another, larger network"
            message += f', which has {count(len(surplus), "tensor")} more, such as "{surplus[0]}"'
            raise TrainingError(message, "name the model that these weights were made for")
        for name in chosen:
            wanted[name].copy_(state[name])
        return keep_head

    def _named_as(self, wanted: State) -> dict[str, Tensor]:
        """By the names of `wanted`, whether a wrapper or torchvision (now or long ago) gave the others."""
        state = {}
        for name, tensor in self.state.items():
            for wrapper in ("module.", "_orig_mod."):  # DataParallel, torch.compile
                name = name.removeprefix(wrapper)
            name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)  # as torchvision's DenseNet does
            state[name] = tensor
        if not any(name.startswith("features.") and name in wanted for name in state):
            state = {f"features.{name}": tensor for name, tensor in state.items()}
        # only counters; files from before PyTorch 0.4.1 have none
        return {name: wanted[name] for name in wanted if name.endswith("num_batches_tracked")} | state


def _surplus(network: Network, state: State) -> list[str]:
    """The names by which `state` goes on inside what `network` has: of a deeper network the rest would half fit.

    What is neither there nor one more of a numbered row is the last layer of `state` or a side output (GoogLeNet's,
    Inception's).
    """
    wanted = network.state_dict()
    inside = {name.split(".")[1] for name in wanted if name.startswith("features.")}
    path, module = list(network.features.named_modules())[-1]
    if isinstance(module, nn.Identity) and not isinstance(network, Pooled):
        inside.discard(path.split(".")[0])  # where the last layer was cut off, those of `state` may be several
    names = [name for name in state if name.startswith("features.") and name not in wanted]
    return [name for name in names if name.split(".")[1] in inside or name.split(".")[1].isdigit()]


def resolve(
    recipe: Recipe, source: str | None, asked: Collection[str] = (), *, offline: bool = False
) -> tuple[Recipe, Weights | None]:
    """What `--from SOURCE` or else the recipe's `weights` names, and the recipe as it follows from them.

    The preprocessing follows the weights, but for a `fit` that the recipe or the user names; from a run or an artifact
    the model does too. `asked` are the keys that the user set; `offline`: nothing is downloaded. Raises TrainingError,
    also where those are at odds with the weights.
    """
    own: dict[str, Any] = {}
    if source is not None and "weights" in asked:
        raise TrainingError("--from and weights both say where to start", "give one of them")
    if source is None:
        found = _named(recipe, offline) if recipe.weights else None
    elif folder := _learnt(Path(source)):
        learnt = TrainedModel.load(folder)
        found = Weights(source, learnt.network.state_dict(), learnt.labels, learnt.input, learnt.origin)
        like = learnt.recipe
        # pooled networks take images of another size as well, and a new run may want no mirror images
        free = {key: getattr(like, key) for key in ("input_size", "enlarge", "blocks", "flip") if key not in asked}
        own = {"model": like.model, "weights": "", **free}
    elif source != "DEFAULT" and not Path(source).is_file():
        hint = "the folder of a run or an artifact, a .pth, .pt or .safetensors file, or DEFAULT"
        raise TrainingError(f'there is no run, artifact or weights file "{source}"', hint)
    else:
        own = {"weights": source}
        found = _named(recipe.model_copy(update=own), offline)
    if found and found.input:
        own |= {key: getattr(found.input, key) for key in ("channels", "crop_fraction", "interpolation", "fit")}
        if "fit" in recipe.model_fields_set and recipe.fit != found.input.fit:
            del own["fit"], own["crop_fraction"]  # how much of an image is seen; weights stand another shape
        if "crop_fraction" in recipe.model_fields_set:
            own.pop("crop_fraction", None)
    for key in asked:
        if key in own and key != "weights" and own[key] != getattr(recipe, key):
            raise TrainingError(f"{key} follows the weights of {source or recipe.weights}: {own[key]}", "leave it out")
    return parse(recipe.model_dump() | own), found


def _learnt(source: Path) -> Path | None:
    """The folder that `source` is or, as a run's or an artifact's own weights, lies in: it has the preprocessing."""
    described = {"weights.pt": "meta.json", WEIGHTS: manifest.FILE}.get(source.name)
    if source.is_file() and described and (source.parent / described).is_file():
        return source.parent
    return source if source.is_dir() else None


def _named(recipe: Recipe, offline: bool) -> Weights:
    """Those that the model's makers publish, by "DEFAULT", or a file; their models' preprocessing is theirs."""
    found = published.of(recipe.model)
    spec = found.input(recipe.input_size) if found else None
    if recipe.weights != "DEFAULT":
        return Weights(recipe.weights, _read(Path(recipe.weights)), input=spec)
    if found is None:
        raise TrainingError(
            f'nobody publishes weights of "{recipe.model}"', "--set weights=PATH, or a torchvision/ or timm/ model"
        )
    if offline and not found.is_here():
        raise TrainingError(
            f"the weights of {recipe.model} are not on this machine", "leave --offline out, or --from FILE"
        )
    name = f"{registry.zoo_of(recipe.model)[:-1]}'s {found.file}"
    return Weights(name, found.state(), input=spec, origin=Origin(source=found.source, licence=found.licence))


def _read(path: Path) -> State:
    """The tensors of a .safetensors or torch file, bare or under one of the usual keys. Raises TrainingError."""
    if not path.is_file():
        raise TrainingError(f'there is no weights file "{path}"', "a .pth, .pt or .safetensors file, or DEFAULT")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise TrainingError(f"{path} is damaged: {error}") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the unpickler or zip reader meets
        message = f"{path} is damaged, or holds more than tensors by name"
        raise TrainingError(message, "torch.save(network.state_dict(), PATH) writes what can be read") from error
    for key in ("network", "state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        message = f"{path} holds more than tensors by name"
        raise TrainingError(message, "torch.save(network.state_dict(), PATH) writes what can be read")
    return content
