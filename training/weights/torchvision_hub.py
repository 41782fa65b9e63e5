"""What torchvision publishes: its weights, as it describes them."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from app.artifact.decoder.decode import InputSpec
from training.models import registry
from training.models.heads import State
from training.weights.download import download


class Torchvision(NamedTuple):
    """What torchvision downloads, and keeps in torch's cache."""

    model: str

    @property
    def licence(self) -> str:
        """torchvision's own, but for weights that state another."""
        return str(self.weights.meta.get("license", "BSD-3-Clause"))

    @property
    def accuracy(self) -> str:
        """Of ImageNet's val, where that is what it was measured on."""
        measured = self.weights.meta["_metrics"].get("ImageNet-1K")
        return f"{measured['acc@1'] / 100:.4g} of ImageNet's val, as torchvision states" if measured else ""

    @property
    def labels(self) -> tuple[str, ...]:
        """As torchvision writes them."""
        return tuple(self.weights.meta["categories"])

    @property
    def size(self) -> int:
        """Of its preset."""
        return int(self.weights.transforms().crop_size[0])

    @property
    def weights(self) -> Any:
        """torchvision's default ones: it has some of each of its classification networks."""
        from torchvision.models import get_model_weights

        return get_model_weights(self.model.removeprefix(registry.TORCHVISION)).DEFAULT

    @property
    def file(self) -> str:
        """Its name alone."""
        return Path(self.weights.url).name

    @property
    def source(self) -> str:
        """Where torchvision looks."""
        return str(self.weights.url)

    def input(self, size: int) -> InputSpec:
        """As torchvision states it."""
        preset = self.weights.transforms()
        # these two normalise anew, to -1..1, where they are made with weights; ours are filled afterwards
        again = self.model.removeprefix(registry.TORCHVISION) in ("googlenet", "inception_v3")
        return InputSpec(
            width=size,
            height=size,
            channels=3,
            crop_fraction=preset.crop_size[0] / preset.resize_size[0],
            interpolation=preset.interpolation.value,
            mean=(0.5, 0.5, 0.5) if again else tuple(preset.mean),
            std=(0.5, 0.5, 0.5) if again else tuple(preset.std),
        )

    def is_here(self) -> bool:
        """Whether torch's cache has them."""
        return (Path(torch.hub.get_dir()) / "checkpoints" / self.file).is_file()

    def state(self) -> State:
        """Checked by the hash in the file's name."""
        with download(self.model, self.file):
            state: State = self.weights.get_state_dict(progress=False, check_hash=True)
        return state
