"""A class's heat map and the image that it lies over."""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from app.artifact.decoder.geometry import Box, Geometry

LONGEST_SIDE = 1024  # pixels of an overlay
Method = Literal["class-activation", "occlusion"]

# Of "inferno", whose lightness rises evenly with the value (N. Smith and S. van der Walt for matplotlib, 2015; CC0).
_INFERNO = (
    *("000004", "0c0826", "240c4f", "420a68", "5d126e", "781c6d", "932667", "ae305c"),
    *("c73e4c", "dd513a", "ed6925", "f8850f", "fca50a", "fac62d", "f2e661", "fcffa4"),
)
_OPAQUE = 0.65  # where the heat is greatest: the image is seen through it
_LEVEL = 1  # of zlib: 6 per cent more bytes than level 3, in two thirds of the time
_REACH = 2  # places to each side that bicubic interpolation looks at
_DIM = 0.6  # of the brightness, where the model did not look
# What an overlay takes at most per pixel: image, its copy, colours and PNG, 4 bytes each; heat in floats and in bytes.
OVERLAY_BYTES = 28


def _palette() -> bytes:
    """256 colours, RGB, between those of the table."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _INFERNO])
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.round(channels).T.astype(np.uint8).tobytes()


def _opacity() -> list[int]:
    """Of each heat: 0..255."""
    return [round(255 * _OPAQUE * (heat / 255) ** 0.8) for heat in range(256)]


@dataclass(frozen=True)
class Explanation:
    """Where the evidence for class `number` lies; `label` and `probability` are its own.

    `maps`: float32[K, h, w], of every class, in units of its logit: class activations (Zhou et al. 2016,
    arXiv:1512.04150), whose mean is the logit, or how much the logit falls with each place covered. Row 0 is at the top
    of `box`, where the grid lies in the image as displayed, in its pixels; it can stick out of what the model saw.
    """

    label: str
    number: int
    probability: float
    method: Method
    maps: NDArray[np.float32]
    geometry: Geometry
    box: Box

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """The class's own map, float32[h, w]."""
        own: NDArray[np.float32] = self.maps[self.number]
        return own

    @property
    def strongest(self) -> float:
        """The greatest number of any class's map."""
        return float(self.maps.max())

    def evidence(self) -> NDArray[np.float32]:
        """What an overlay shows, float32[h, w] in 0..1: what speaks for the class, what speaks against it being 0.

        As Grad-CAM's ReLU has it (Selvaraju et al. 2016, arXiv:1610.02391), but in parts of the strongest evidence for
        any class: a class that nothing speaks for does not glow. It is not set against the mean over the classes, which
        training leaves at zero (0.02 beside peaks of 10 to 17 in the embedded model's maps).
        """
        if self.strongest <= 0:
            return np.zeros_like(self.heatmap)
        shares: NDArray[np.float32] = np.clip(self.heatmap / self.strongest, 0, 1)
        return shares


def overlay(explanation: Explanation, image: NDArray[np.uint8]) -> bytes:
    """A PNG of the image as displayed, uint8[h, w, 3]: heat over the box, and what is outside of it dimmed."""
    shown = Image.fromarray(image)
    seen = explanation.geometry.seen
    # what the model saw in whole pixels, at least one, of the image that was reduced to this size
    across, down = shown.width / seen.width, shown.height / seen.height
    left, top = min(shown.width - 1, round(seen.left * across)), min(shown.height - 1, round(seen.top * down))
    box = left, top, max(left + 1, round(seen.right * across)), max(top + 1, round(seen.bottom * down))
    warm = _heated(shown.crop(box), explanation)
    if warm.size != shown.size:
        shown = shown.point([round(value * _DIM) for value in range(256)] * 3)
    shown.paste(warm, box)
    about = PngImagePlugin.PngInfo()
    about.add_itxt("Title", f"{explanation.label}, p = {explanation.probability:.3f}, {explanation.method}")
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", compress_level=_LEVEL, pnginfo=about)
    return buffer.getvalue()


def _heated(image: Image.Image, explanation: Explanation) -> Image.Image:
    """The evidence, smooth between the middles of its places, as colour that covers the more the more there is."""
    evidence, seen = explanation.evidence(), explanation.geometry.seen
    rows, columns = evidence.shape
    left, top, right, bottom = explanation.box
    across, down = columns / (right - left), rows / (bottom - top)
    # what the model saw, in places of the grid
    saw = np.array([(seen.left - left) * across, (seen.top - top) * down])
    saw_to = np.array([(seen.right - left) * across, (seen.bottom - top) * down])
    beyond = max(0.0, *-saw, *(saw_to - [columns, rows]))
    # with the outermost places repeated: where the kernel is cut off, Pillow puts the peak at the image's edge
    margin = _REACH + math.ceil(beyond)
    wide = Image.fromarray(np.pad(evidence * 255, margin, mode="edge"))
    heat = wide.resize(image.size, Image.Resampling.BICUBIC, (*(saw + margin), *(saw_to + margin))).convert("L")
    colours = heat.copy()
    colours.putpalette(_palette())
    return Image.composite(colours.convert("RGB"), image, heat.point(_opacity()))
