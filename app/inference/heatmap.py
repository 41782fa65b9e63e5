"""A class's heat map and the image that it lies over."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from app.artifact import heat
from app.artifact.decoder.geometry import Box, Geometry

LONGEST_SIDE = 1024  # pixels of an overlay
Method = Literal["class-activation", "occlusion"]

_LEVEL = 1  # of zlib: 6 per cent more bytes than level 3, in two thirds of the time
# What an overlay takes at most per pixel: image, its copy, colours and PNG, 4 bytes each; heat in floats and in bytes.
OVERLAY_BYTES = 28


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
    shown = heat.paint(Image.fromarray(image), explanation.geometry, explanation.box, explanation.evidence())
    about = PngImagePlugin.PngInfo()
    about.add_itxt("Title", f"{explanation.label}, p = {explanation.probability:.3f}, {explanation.method}")
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", compress_level=_LEVEL, pnginfo=about)
    return buffer.getvalue()
