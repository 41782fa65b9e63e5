"""The decoder and colour profiles: an image is what a viewer shows, and a damaged profile is none."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.artifact.decoder.decode import Preview, decode
from tests.images import difference, drawing, encode, spec

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
WIDE = {b"rXYZ": (0.79767, 0.28804, 0.0), b"gXYZ": (0.13519, 0.71188, 0.0), b"bXYZ": (0.03134, 0.00009, 0.82491)}
P3 = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.15710, 0.06657, 0.78407)}
RED, BLUE = (0.43607, 0.22249, 0.01392), (0.14307, 0.06061, 0.71410)  # sRGB's, adapted to D50
PROFILES = {"wide gamut": WIDE, "Display P3": P3, "red and blue swapped": {b"rXYZ": BLUE, b"bXYZ": RED}}
SHOWN = drawing(320, 240, seed=5)


def _with_primaries(primaries: dict[bytes, tuple[float, ...]]) -> bytes:
    """sRGB's profile with other primaries."""
    profile = bytearray(SRGB.tobytes())
    for name, at, _ in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * int.from_bytes(profile[128:132])]):
        if name in primaries:
            numbers = (round(value * 65536) for value in primaries[name])
            profile[at + 8 : at + 20] = struct.pack(">iii", *numbers)
    return bytes(profile)


def _grey_profile(gamma: float) -> bytes:
    """A grey profile by hand: white point and one curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = tags + white + curve
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


def _profiled(profile: bytes, kind: str, shown: Image.Image = SHOWN, **options: Any) -> bytes:
    """The image converted to that profile and carrying it: a viewer shows what it showed before."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    changed = ImageCms.profileToProfile(shown, SRGB, target, outputMode="RGB")
    assert changed is not None
    return encode(changed, kind, icc_profile=profile, **options)


@pytest.mark.parametrize("primaries", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_image_with_a_profile_is_what_a_viewer_shows(kind: str, primaries: dict[bytes, tuple[float, ...]]) -> None:
    profile, lossless = _with_primaries(primaries), {"WEBP": {"lossless": True}}.get(kind, {})
    file = _profiled(profile, kind, **lossless)
    with Image.open(io.BytesIO(file)) as stored:
        viewed = ImageCms.profileToProfile(stored, ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB)
    assert viewed is not None
    pairs = [(decode(file, model).pixels, decode(encode(viewed), model).pixels) for model in (spec(), spec(320, 240))]
    for found, right in [*pairs, (decode(file, Preview(160)).pixels, decode(encode(viewed), Preview(160)).pixels)]:
        if kind == "JPEG":  # is decoded at a reduced scale
            assert np.abs(found.astype(int) - right).mean() < 1
        else:
            assert difference(found, right) == 0
    plain = decode(encode(SHOWN), spec(320, 240)).pixels
    assert np.abs(pairs[1][0].astype(int) - plain).mean() < 3  # of 8 bits in another space, and JPEG


@pytest.mark.parametrize("primaries", PROFILES.values(), ids=PROFILES)
def test_converting_the_small_image_gives_what_converting_the_large_one_gives(
    primaries: dict[bytes, tuple[float, ...]],
) -> None:
    profile = _with_primaries(primaries)
    with Image.open("cat.jpg") as cat:
        photo = cat.resize((1300, 865), Image.Resampling.BICUBIC)
    file, plain = _profiled(profile, "PNG", photo, compress_level=1), encode(photo, compress_level=1)
    for side in (32, 224):
        found = decode(file, spec(side, side)).pixels.astype(int)
        assert np.abs(found - decode(plain, spec(side, side)).pixels).mean() < 1


def test_a_grey_profile_is_that_of_a_grey_image_only() -> None:
    grey, profile = SHOWN.convert("L"), _grey_profile(1.0)  # linear light
    stored = np.asarray(grey).astype(float) / 255
    expected = np.where(stored <= 0.0031308, stored * 12.92, 1.055 * stored ** (1 / 2.4) - 0.055) * 255
    found = decode(encode(grey, "PNG", icc_profile=profile), spec(320, 240)).pixels[..., 0]
    assert np.abs(found - expected).max() <= 2
    clear = grey.convert("LA")
    assert np.abs(decode(encode(clear, icc_profile=profile), spec(320, 240)).pixels[..., 0] - expected).max() <= 2
    # of another kind of colours than the image's it says nothing
    assert difference(decode(encode(SHOWN, icc_profile=profile), spec()), decode(encode(SHOWN), spec())) == 0
    wide = _with_primaries(WIDE)
    assert difference(decode(encode(grey, icc_profile=wide), spec()), decode(encode(grey), spec())) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_srgb_profile_changes_nothing(kind: str) -> None:
    file, plain = encode(SHOWN, kind, icc_profile=SRGB.tobytes()), encode(SHOWN, kind)
    assert difference(decode(file, spec()), decode(plain, spec())) == 0


def test_a_damaged_profile_is_none() -> None:
    whole, chance = _with_primaries(WIDE), np.random.default_rng(0)
    plain = decode(encode(SHOWN), spec())
    damaged = [b"x", b"not a profile" * 20, whole[:200], whole[:130], bytes(128), whole[:16] + b"CMYK" + whole[20:]]
    damaged += [b"\0" * 5_000_000]
    for profile in damaged:
        assert difference(decode(encode(SHOWN, "TIFF", icc_profile=profile), spec()), plain) == 0
    for _ in range(60):  # becomes some colours, or none
        profile = bytearray(whole)
        profile[int(chance.integers(len(whole)))] = int(chance.integers(256))
        assert decode(encode(SHOWN, icc_profile=bytes(profile)), spec()).format == "PNG"


def test_clear_pixels_are_white_in_every_profile() -> None:
    clear = SHOWN.copy()
    clear.putalpha(0)
    for primaries in PROFILES.values():
        found = decode(encode(clear, icc_profile=_with_primaries(primaries)), spec()).pixels
        assert found.min() >= 254


@pytest.mark.parametrize("size", [(640, 320), (2000, 1000)], ids=["below 1 MP", "above"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "LAB"])
def test_padding_is_grey_and_what_it_surrounds_is_converted(mode: str, size: tuple[int, int]) -> None:
    """Above a megapixel the image is converted once it is small: not together with what is laid around it."""
    colour = {"RGB": (60, 200, 60), "CMYK": (200, 20, 30, 0), "LAB": (120, 60, 200)}[mode]
    profile = {"icc_profile": _with_primaries(WIDE)} if mode == "RGB" else {}
    file = encode(Image.new(mode, size, colour), "PNG" if mode == "RGB" else "TIFF", **profile)
    padded, whole = (
        decode(file, spec(32, 32).model_copy(update={"fit": fit})).pixels.astype(int) for fit in ("pad", "squash")
    )
    assert (padded[:6] == 114).all()
    assert abs(padded[16, 16] - whole[16, 16]).max() <= 1
