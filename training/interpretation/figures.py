"""The sheets of images that `explain` writes: filters, Grad-CAM, feature maps, maximised classes."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rich.cells import cell_len
from torch import Tensor

from app.artifact import heat
from app.artifact.decoder.decode import Decoded, InputSpec, Preview, decode
from training.interpretation.activation_maximization import Maximised
from training.interpretation.filters import Filters
from training.metrics.lettering import Lettering

FILTERS, MAPS = 64, 16  # at most on a sheet
SIDE = 360  # pixels of the longer side of a photograph
DPI, POINTS = 120, 8
Tile = tuple[NDArray[np.uint8], str]  # uint8[h, w] or [h, w, 3], and its caption
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class InputImage:
    """One image: its file, what the decoder made of it, and as the network's input float[1, C, H, W]."""

    path: Path
    content: bytes
    decoded: Decoded
    x: Tensor


def of_filters(filters: Filters, weights: Tensor) -> Figure:
    """Each filter by its own range: in colour where the input is RGB, else the mean over its input channels."""
    shown = weights[:FILTERS]
    tiles = shown.permute(0, 2, 3, 1) if weights.shape[1] == 3 else shown.mean(dim=1)
    of = f"{len(shown)} of {len(weights)}" if len(shown) < len(weights) else str(len(weights))
    title = f"{filters.layer}: {of} filters {filters.verdict}".rstrip()
    return grid(title, [(stretch(each), str(number)) for number, each in enumerate(tiles.numpy())], 8, 48)


def of_grad_cam(image: InputImage, spec: InputSpec, row: Mapping[str, Any], cam: Floats) -> Figure:
    """The image as displayed, what the network gets of it, and `cam`, by its own maximum, over the image; `row` is of
    explain.json."""
    full = image.decoded.geometry
    grey = ", as grey" if spec.channels == 1 else ""
    about = f"Grad-CAM of {row['class']}, p = {row['class_probability']:.3f}"
    places = f"at {row['layer']}, {cam.shape[1]} x {cam.shape[0]} places"
    tiles = [
        (overlay(image, np.zeros_like(cam)), f"{image.path.name}\n{full.width} x {full.height}"),
        (image.decoded.pixels, f"what the network gets\n{spec.width} x {spec.height}{grey}"),
        (overlay(image, cam), f"{about}\n{places}"),
    ]
    return grid(f"{image.path.name}: {row['prediction']}, p = {row['probability']:.3f}", tiles, 3, SIDE)


def of_maps(layer: str, maps: Tensor) -> Figure:
    """The most active channels of float[C, h, w], each by its own range."""
    strength = maps.abs().mean(dim=(1, 2))
    most = strength.topk(min(MAPS, len(maps))).indices.tolist()
    title = f"{layer}: the {len(most)} most active of {len(maps)} channels; channel: mean |activation|"
    return grid(title, [(stretch(maps[each].numpy()), f"{each}: {strength[each]:.2f}") for each in most], 8, 96)


def of_maximised(names: Sequence[str], best: Maximised, steps: int) -> Figure:
    """One tile per class."""
    tiles = []
    for place, name in enumerate(names):
        gain = f"logit {best.before[place]:.1f} to {best.after[place]:.1f}"
        tiles.append((best.pixels[place], f"{name}, p = {best.probability[place]:.3f}\n{gain}"))
    return grid(f"what the network finds most typical, {steps} steps from noise", tiles, 5, 192)


def stretch(values: Floats) -> NDArray[np.uint8]:
    """Any range to 0..255, by its own minimum and maximum; what is constant becomes black."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low or 1) * 255).round().astype(np.uint8)


def overlay(image: InputImage, cam: Floats) -> NDArray[np.uint8]:
    """The whole image as a viewer shows it, `cam` float[h, w] >= 0 over it, and dimmed what the model does not see."""
    at = image.decoded.geometry
    shown = Image.fromarray(decode(image.content, Preview(SIDE)).pixels)
    larger = max(1, SIDE // max(shown.size))  # pixels of small images stay squares, and the heat smooth
    shown = shown.resize((shown.width * larger, shown.height * larger), Image.Resampling.NEAREST)
    return np.asarray(heat.paint(shown, at, (at.left, at.top, at.right, at.bottom), cam / max(float(cam.max()), 1e-12)))


def grid(title: str, tiles: Sequence[Tile], columns: int, side: int) -> Figure:
    """The tiles in rows, `side` pixels wide or as wide as their captions, which stand below them, and a title line."""
    letters = Lettering.of([title, *(caption for _, caption in tiles)])
    captions = ["\n".join(map(letters.written, caption.split("\n"))) for _, caption in tiles]
    lines = [line for caption in captions for line in caption.split("\n")]
    text: dict[str, Any] = {"parse_math": False, "family": letters.families(), "fontsize": POINTS}
    line = POINTS * 1.3 / 72  # inches
    wide = max(side / DPI, max(map(cell_len, lines)) * POINTS * 0.7 / 72)
    high = side / DPI * max(min(1.0, image.shape[0] / image.shape[1]) for image, _ in tiles)
    below = line * (max(caption.count("\n") for caption in captions) + 2)
    columns, rows = min(columns, len(tiles)), math.ceil(len(tiles) / columns)
    figure = Figure(figsize=(columns * wide, rows * (high + below)), dpi=DPI)
    places = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.1, "hspace": below / high})
    figure.subplots_adjust(left=0, right=1, bottom=below / (rows * (high + below)), top=1)
    for axes in places.flat[len(tiles) :]:
        axes.remove()
    for axes, (image, _), caption in zip(places.flat, tiles, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_visible(False)
        axes.set_xlabel(caption, **text)
    figure.text(0, 1 + line / (rows * (high + below)), letters.written(title), va="bottom", **text)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As PNG, as large as what is on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.1)
