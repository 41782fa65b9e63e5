"""Where the model's pixels lie in the picture as displayed: EXIF's eight orientations and the centred crop."""

from typing import NamedTuple

from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
# EXIF orientation -> how stored pixels become the displayed picture (as PIL.ImageOps.exif_transpose does).
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
    """Where the model's pixels lie in the picture as displayed (EXIF applied); all in that picture's pixels."""

    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float

    def lay(self, box: Box, size: Size) -> Box:
        """A box in the model's pixels, of which there are `size`, in the picture as displayed."""
        across, down = (self.right - self.left) / size[0], (self.bottom - self.top) / size[1]
        left, top, right, bottom = box
        return (
            self.left + left * across,
            self.top + top * down,
            self.left + right * across,
            self.top + bottom * down,
        )


def turned(size: Size, orientation: int) -> Size:
    """Width and height on the other side of the EXIF orientation."""
    return (size[1], size[0]) if orientation >= 5 else size


def centre(size: Size, target: Size, fraction: float) -> Box:
    """The centred box of `target`'s aspect ratio within `size`, as left, top, right, bottom."""
    scale = min(size[0] / target[0], size[1] / target[1]) * fraction
    width, height = target[0] * scale, target[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height
