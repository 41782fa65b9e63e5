"""The sheets of images that `explain` writes: filters, Grad-CAM, feature maps, maximised classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from app.artifact.decoder.decode import Decoded, InputSpec
from training.interpretation import canvas
from training.interpretation.activation_maximization import Maximised
from training.interpretation.canvas import Floats
from training.interpretation.filters import Filters

FILTERS, MAPS = 64, 16  # at most on a sheet


@dataclass(frozen=True)
class Seen:
    """One image: its file, what the decoder made of it, and as the network's input float[1, C, H, W]."""

    path: Path
    content: bytes
    decoded: Decoded
    x: Tensor


def of_filters(described: Filters, weights: Tensor) -> Image.Image:
    """Each filter by its own range: in colour where the input is RGB, else the mean over its input channels."""
    shown = weights[:FILTERS]
    tiles = shown.permute(0, 2, 3, 1) if weights.shape[1] == 3 else shown.mean(dim=1)
    of = f"{len(shown)} of {len(weights)}" if len(shown) < len(weights) else str(len(weights))
    title = f"{described.layer}: {of} filters {described.verdict}".rstrip()
    drawn = [(canvas.enlarged(canvas.scaled(each), 48), str(number)) for number, each in enumerate(tiles.numpy())]
    return canvas.sheet(title, drawn, columns=8)


def of_grad_cam(seen: Seen, spec: InputSpec, title: str, about: str, layer: str, heat: Floats) -> Image.Image:
    """The image as displayed, what the network gets of it, and `heat` over the image."""
    shown, at = canvas.displayed(seen.content, spec, seen.decoded)
    full = seen.decoded.geometry
    tiles = [
        (canvas.framed(shown, at), f"{seen.path.name}\n{full.width} x {full.height}"),
        (
            canvas.enlarged(seen.decoded.pixels, round(at.bottom - at.top)),
            f"what the network gets\n{spec.width} x {spec.height}" + (", as grey" if spec.channels == 1 else ""),
        ),
        (
            canvas.overlaid(shown, at, heat),
            f"Grad-CAM of {about}\nat {layer}, {heat.shape[1]} x {heat.shape[0]} places",
        ),
    ]
    return canvas.sheet(title, tiles, columns=3)


def of_maps(layer: str, maps: Tensor) -> Image.Image:
    """The most active channels of float[C, h, w], each by its own range."""
    strength = maps.abs().mean(dim=(1, 2))
    most = strength.topk(min(MAPS, len(maps))).indices.tolist()
    tiles = [(canvas.enlarged(canvas.scaled(maps[each].numpy()), 96), f"{each}: {strength[each]:.2f}") for each in most]
    title = f"{layer}: the {len(most)} most active of {len(maps)} channels; channel: mean |activation|"
    return canvas.sheet(title, tiles, columns=8)


def of_maximised(names: Sequence[str], best: Maximised, steps: int) -> Image.Image:
    """One tile per class."""
    tiles = []
    for place, name in enumerate(names):
        gain = f"logit {best.before[place]:.1f} to {best.after[place]:.1f}"
        caption = f"{name}, p = {best.probability[place]:.3f}\n{gain}"
        tiles.append((canvas.enlarged(best.pixels[place], 192), caption))
    return canvas.sheet(f"what the network finds most typical, {steps} steps from noise", tiles, columns=5)
