"""Where the model's pixels lie in the image as displayed: EXIF's orientations, and how a shape is made to fit."""

import math
from typing import Literal, NamedTuple

from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Fit = Literal["crop", "squash", "pad"]
# EXIF orientation -> how stored pixels become the displayed image (as PIL.ImageOps.exif_transpose does).
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Geometry(NamedTuple):
    """Where the model's pixels lie in the image as displayed (EXIF applied); all in that image's pixels. Where it
    was padded the box sticks out of it."""

    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float

    def lay(self, box: Box, size: Size) -> Box:
        """A box in the model's pixels, of which there are `size`, in the image as displayed."""
        across, down = (self.right - self.left) / size[0], (self.bottom - self.top) / size[1]
        left, top, right, bottom = box
        return (
            self.left + left * across,
            self.top + top * down,
            self.left + right * across,
            self.top + bottom * down,
        )

    @property
    def seen(self) -> "Geometry":
        """The same for that part of the image alone that the model saw: without what was padded."""
        right, bottom = min(self.right, float(self.width)), min(self.bottom, float(self.height))
        return self._replace(left=max(0.0, self.left), top=max(0.0, self.top), right=right, bottom=bottom)


def turned(size: Size, orientation: int) -> Size:
    """Width and height on the other side of the EXIF orientation."""
    return (size[1], size[0]) if orientation >= 5 else size


def centre(size: Size, target: Size, fraction: float, fit: Fit = "crop") -> Box:
    """The centred box, in an image of `size`, that becomes the model's `target` pixels: left, top, right, bottom.

    `crop`: the largest of `target`'s aspect ratio within the image; `squash`: the image; `pad`: the smallest of
    about that ratio around it. Of each its middle `fraction`.
    """
    if fit == "squash":
        width, height = size[0] * fraction, size[1] * fraction
    elif fit == "pad":
        scale = max(size[0] / target[0], size[1] / target[1]) * fraction
        width, height = _padded(size[0], target[0], scale), _padded(size[1], target[1], scale)
    else:
        scale = min(size[0] / target[0], size[1] / target[1]) * fraction
        width, height = target[0] * scale, target[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _padded(side: int, target: int, scale: float) -> float:
    """The box's side. Of the `target` pixels as many are padding on one side of the image as on the other, all whole:
    so an image turned by EXIF, or by hand, is padded alike."""
    if side / scale >= target:
        return target * scale
    padding = min(math.floor((target - side / scale) / 2 + 0.5), (target - 1) // 2)  # as the page's Math.round
    return target * side / (target - 2 * padding)


def margins(box: Box, target: Size) -> Size:
    """How many of the model's `target` pixels to the left (as many as to the right) and above (as many as below) are
    padding, where `box` sticks out of the image."""
    left, top, right, bottom = box
    return max(0, round(-left / (right - left) * target[0])), max(0, round(-top / (bottom - top) * target[1]))
