"""The two models that the protocol's clients see of what is served: its pixels, and encoded images."""

from dataclasses import dataclass
from typing import Any

from app.artifact.manifest import Manifest
from app.engines.variants import VARIANTS

PIXELS, ENCODED = "image", "image_bytes"
ENCODED_SUFFIX = "-encoded"
_CONFIG_TYPES = {"UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}


@dataclass(frozen=True)
class Tensor:
    """One input or output; the first of `shape` is -1, the number of images."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def metadata(self) -> dict[str, Any]:
        """As the protocol describes it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def config(self) -> dict[str, Any]:
        """As Triton's model configuration describes it, without the number of images."""
        return {"name": self.name, "data_type": _CONFIG_TYPES[self.datatype], "dims": list(self.shape[1:])}


@dataclass(frozen=True)
class Model:
    """What a model takes and gives; `labels` are those of its K probabilities."""

    name: str
    version: str
    platform: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.platform,
            "inputs": [self.input.metadata()],
            "outputs": [output.metadata() for output in self.outputs],
        }

    def config(self, max_images: int) -> dict[str, Any]:
        """What Triton's clients read of a model's configuration."""
        return {
            "name": self.name,
            "platform": self.platform,
            "max_batch_size": max_images,
            "input": [self.input.config()],
            "output": [output.config() for output in self.outputs],
        }


def models_of(manifest: Manifest, variant: str) -> dict[str, Model]:
    """By name: `{name}` takes uint8[N, H, W, 3] at the model's size, `{name}-encoded` takes N files."""
    labels, spec = manifest.labels, manifest.input
    outputs = [Tensor("probabilities", "FP32", (-1, len(labels))), Tensor("logits", "FP32", (-1, len(labels)))]
    if manifest.heatmap:
        outputs.append(Tensor("heatmap", "FP32", (-1, len(labels), *manifest.heatmap)))
    inputs = {
        manifest.name: Tensor(PIXELS, "UINT8", (-1, spec.height, spec.width, 3)),
        manifest.name + ENCODED_SUFFIX: Tensor(ENCODED, "BYTES", (-1,)),
    }
    version, platform = str(manifest.version), VARIANTS[variant].platform
    return {name: Model(name, version, platform, each, tuple(outputs), labels) for name, each in inputs.items()}
