"""The artifact's own weights as an eager network, and as the TorchScript file that a tutorial exports."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

from app.artifact import manifest
from training.models import registry


def network(artifact: Path) -> torch.nn.Module:
    """The network that every variant of the artifact holds: normalised float[N, 3, H, W] -> logits."""
    described = manifest.load(artifact)
    recipe = described.provenance["recipe"]
    built = registry.build(recipe["model"], described.input.channels, len(described.labels), described.input.width)
    built.load_state_dict(load_file(artifact / "weights.safetensors"))
    return built.eval()


def export_naive(artifact: Path, out: Path) -> Path:
    """Trace the network alone into `out`."""
    spec = manifest.load(artifact).input
    example = torch.zeros(1, spec.channels, spec.height, spec.width)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")  # docs/adr/0003-torchscript.md
        torch.jit.trace(network(artifact), example).save(str(out))
    return out
