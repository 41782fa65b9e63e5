"""Weights that their makers publish: what they are called, under which licence, with which preprocessing, and whether
they are on this machine."""

from importlib.util import find_spec
from typing import Protocol

from app.artifact.decoder.decode import InputSpec
from training.models import registry
from training.models.heads import State
from training.weights.packaged import FILES, Packaged
from training.weights.timm_hub import Timm
from training.weights.torchvision_hub import Torchvision

__all__ = ["Packaged", "Published", "Timm", "Torchvision", "of"]


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
        return Packaged(model, registry.PACKAGES[model], *FILES[model])
    if model.startswith(registry.TIMM):
        return found if (found := Timm(model)).config.has_weights else None
    return Torchvision(model) if model.startswith(registry.TORCHVISION) else None
