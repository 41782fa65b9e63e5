"""Colour profiles (ICC): what an image's numbers mean, where they are not sRGB's."""

import io
from functools import lru_cache

from PIL import Image, ImageCms

_MOST_BYTES = 4 * 2**20  # those of printers take 0.5 to 3 MB
_TABLE, _MOST_TAGS = 132, 100  # where the tags begin, and how many LittleCMS reads
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_UNSEEN = 2  # levels of 8 bits by which profiles that are called sRGB differ
_BROKEN = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


# Through the grid that LittleCMS makes of it to be faster, CIELab is four levels off.
_LAB = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _SRGB, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)


def is_endless(profile: object) -> bool:
    """Whether colours may go through any number of steps (multiProcessElementsType, ICC.1:2010, 10.14): 0.8 MB of them
    took 1.7 s. Those of other types have at most five."""
    if not isinstance(profile, bytes) or len(profile) > _MOST_BYTES or len(profile) < _TABLE:
        return False
    many = min(_MOST_TAGS, int.from_bytes(profile[_TABLE - 4 : _TABLE]))
    places = (int.from_bytes(profile[at + 4 : at + 8]) for at in range(_TABLE, _TABLE + 12 * many, 12))
    return any(profile[place : place + 4] == b"mpet" for place in places)


def applies(image: Image.Image) -> bool:
    """Whether the image has a profile of its own kind of colours that is whole and is not sRGB's."""
    return _transform_of(image) is not None


def in_srgb(image: Image.Image) -> Image.Image:
    """RGB in sRGB, by the profile in the image's `info`; without one, or with a damaged one, its numbers are sRGB's.

    Of a large image it is made for what is left of it: a pixel takes 40 ns, 12 MP half a second. Of photographs the
    colours are less than a level off on average then (tests/app/artifact/decoder/test_icc_profile.py).
    """
    if image.mode == "LAB" or "icc_profile" in image.info:
        transform = _LAB if image.mode == "LAB" else _transform_of(image)
        if transform:
            return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _transform_of(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    profile = image.info.get("icc_profile")
    return _transform(profile, image.mode) if isinstance(profile, bytes) and len(profile) <= _MOST_BYTES else None


@lru_cache(maxsize=4)
def _transform(data: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """1 to 50 ms; few profiles are in use, and the images of one camera or program have the same."""
    if _SPACES.get(data[16:20].decode("latin-1")) != mode:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        transform = ImageCms.buildTransform(profile, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except _BROKEN:
        return None
    if mode != "RGB":
        return transform
    steps = bytes(range(0, 256, 17))
    cube = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    seen = transform.apply(Image.frombytes("RGB", (256, 16), cube)).tobytes()
    changes = max(abs(one - other) for one, other in zip(cube, seen, strict=True)) > _UNSEEN
    return transform if changes else None
