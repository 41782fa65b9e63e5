"""The network alone as TorchScript, as a tutorial exports it: normalised float[N, 3, H, W] -> logits."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

from app.artifact import manifest
from training import models


def export_naive(artifact: Path, out: Path) -> Path:
    """Trace the artifact's own weights into `out`; the same network that every variant of it holds."""
    described = manifest.load(artifact)
    recipe = described.provenance["recipe"]
    network = models.build(recipe["model"], described.input.channels, len(described.labels))
    network.load_state_dict(load_file(artifact / "weights.safetensors"))
    example = torch.zeros(1, described.input.channels, described.input.height, described.input.width)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")  # docs/adr/0003-torchscript.md
        torch.jit.trace(network.eval(), example).save(str(out))
    return out
