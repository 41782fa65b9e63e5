"""What pixels are wanted of an image: a model's input, or a preview for people."""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from app.artifact.decoder.geometry import Box, Fit, Size, centre, turned

Positive = Annotated[float, Field(gt=0)]


class InputSpec(BaseModel):
    """What the network expects of an image. `decode` does the geometry, the exported graph the rest.

    `fit` brings the image as displayed to the model's aspect ratio: `crop` cuts off what sticks out, centred;
    `squash` changes its shape; `pad` lays grey, 114 of 255, around it. The middle `crop_fraction` of that is kept (the
    usual "shorter side to 256, centre 224" is 0.875) and resized to `width` x `height` with antialiasing. `mean` and
    `std` are per channel, in units of 0..1. One-channel networks see Rec. 601 luma.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: Annotated[int, Field(ge=1, le=4096)]
    height: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    # left out where it says what all artifacts did before there was a choice: their digests and contracts stay
    fit: Annotated[Fit, Field(exclude_if=lambda fit: fit == "crop")] = "crop"

    def box(self, size: Size, orientation: int = 1) -> Box:
        """What of an image of `size`, before EXIF's orientation is applied, becomes the model's pixels."""
        return centre(size, turned((self.width, self.height), orientation), self.crop_fraction, self.fit)

    def most_reduction(self, size: Size, orientation: int) -> float:
        """By how much an image may be decoded smaller while twice the model's pixels stay of what is in the box."""
        left, top, right, bottom = self.box(size, orientation)
        width, height = turned((self.width, self.height), orientation)
        return min((right - left) / width, (bottom - top) / height) / 2


class Preview(NamedTuple):
    """The whole image as displayed, for people to look at: no side longer than `longest_side`, never enlarged."""

    longest_side: int

    def size_of(self, size: Size) -> Size:
        """Of the preview of an image of `size`."""
        share = min(1.0, self.longest_side / max(size))
        return max(1, round(size[0] * share)), max(1, round(size[1] * share))

    def most_reduction(self, size: Size, _orientation: int) -> float:
        """By how much an image may be decoded smaller: to the preview's size."""
        return max(size) / self.longest_side
