"""What timm publishes: its weights, as its `pretrained_cfg` describes them."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.artifact.decoder.decode import InputSpec
from training.models import registry
from training.models.heads import State
from training.weights.download import download


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

        with download(self.model, self.file):
            net = timm.create_model(self.model.removeprefix(registry.TIMM), pretrained=True)
        state: State = net.state_dict()
        return state
