"""An image of another shape than the model's: its middle, all of it squashed, or all of it with grey around."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.artifact import manifest
from app.artifact.decoder.decode import Decoded, InputSpec, decode
from app.artifact.decoder.geometry import Fit, Geometry, centre, margins
from app.artifact.decoder.header import MAX_PIXELS, inspect_quickly
from app.artifact.manifest import ArtifactError
from app.inference.heatmap import Explanation, overlay
from app.model_card.sections import percent, preprocessing
from tests.app.artifact.decoder.test_orientation import EXACT, TURN, as_stored, turned
from tests.app.artifacts import put, rewrite, small_artifact, small_manifest
from tests.images import difference, drawing, encode, spec

GREY = 114
WHOLE: tuple[Fit, ...] = ("squash", "pad")
FITS: tuple[Fit, ...] = ("crop", *WHOLE)
SIZES = ((256, 64), (64, 256), (300, 97), (61, 200), (64, 64), (1000, 10), (3, 2), (1, 1))
METHODS = {False: Image.Resampling.BILINEAR, True: Image.Resampling.BICUBIC}


def fitting(fit: Fit, *model: Any, **how: Any) -> InputSpec:
    return spec(*model, **how).model_copy(update={"fit": fit})


# --- what the model gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_squash_is_the_whole_image_in_the_models_shape(size: tuple[int, int], bicubic: bool) -> None:
    shown = drawing(*size)
    expected = shown.resize((20, 12), METHODS[bicubic])
    found = decode(encode(shown), fitting("squash", 20, 12, bicubic=bicubic))
    assert difference(found, np.asarray(expected)) == 0
    assert found.geometry == Geometry(*size, 0, 0, *size)


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(
    ("size", "model"),
    [((256, 64), (32, 32)), ((64, 256), (32, 32)), ((128, 64), (32, 32)), ((90, 30), (33, 33)), ((70, 70), (20, 12))],
)
def test_pad_is_what_pillow_pads_with_that_grey(size: tuple[int, int], model: tuple[int, int], bicubic: bool) -> None:
    """Where the padding is even, for an odd one Pillow has more of it on one side."""
    shown = drawing(*size)
    expected = ImageOps.pad(shown, model, METHODS[bicubic], (GREY,) * 3)
    assert difference(decode(encode(shown), fitting("pad", *model, bicubic=bicubic)), np.asarray(expected)) == 0


def framed(found: Decoded) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The pixels of the image, and those around it, [n, 3]."""
    height, width, _ = found.pixels.shape
    at = found.geometry
    across, down = margins((at.left, at.top, at.right, at.bottom), (width, height))
    inside = np.zeros((height, width), bool)
    inside[down : height - down, across : width - across] = True
    return found.pixels[inside], found.pixels[~inside]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", [(16, 16), (15, 15), (20, 12), (9, 30), (1, 1), (2, 1)])
def test_padding_is_grey_and_the_image_is_all_there(model: tuple[int, int], size: tuple[int, int], kind: str) -> None:
    found = decode(encode(Image.new("RGB", size, (200, 30, 90)), kind), fitting("pad", *model))
    inside, around = framed(found)
    assert len(inside) > 0
    assert np.abs(inside.astype(int) - (200, 30, 90)).max() <= 4
    assert (around == GREY).all()
    assert found.geometry.seen == Geometry(*size, 0, 0, *size)
    # the image keeps its shape, but for whole pixels
    shown = found.geometry
    pixel = (shown.right - shown.left) / model[0], (shown.bottom - shown.top) / model[1]
    across, down = size[0] / pixel[0], size[1] / pixel[1]
    assert abs(across - size[0] / max(size[0] / model[0], size[1] / model[1])) <= 2
    assert abs(down - size[1] / max(size[0] / model[0], size[1] / model[1])) <= 2


@pytest.mark.parametrize("fit", WHOLE)
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_colour_mode_is_fitted(fit: Fit, mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    shown = Image.new("L", (120, 30), 200).convert(mode) if mode != "I;16" else Image.new("I;16", (120, 30), 51400)
    inside, around = framed(decode(encode(shown, kind), fitting(fit, 16, 16)))
    assert set(inside.reshape(-1).tolist()) == {200}
    assert len(around) == (16 * 12 if fit == "pad" else 0)
    assert (around == GREY).all()


# --- turned, and reduced ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", TURN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("fit", FITS)
def test_a_rotated_file_is_fitted_like_the_same_image_turned_by_hand(fit: Fit, kind: str, orientation: int) -> None:
    for size in ((256, 64), (37, 91), (150, 47)):
        rotated = encode(drawing(*size), kind, orientation, **EXACT.get(kind, {}))
        upright = encode(turned(as_stored(drawing(*size), kind), orientation))
        for model in (fitting(fit, 20, 12, 0.875), fitting(fit, 9, 30), fitting(fit, 16, 16, bicubic=True)):
            found, expected = decode(rotated, model), decode(upright, model)
            # the two directions are resized in the other order, in 8 bits; and JPEGs are decoded at a reduced scale
            assert difference(found, expected) <= (1 if kind == "PNG" else 8)
            assert found.geometry == expected.geometry


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(1600, 400), (401, 1603), (2403, 301), (300, 2400)])
@pytest.mark.parametrize("fit", FITS)
def test_a_photo_that_is_decoded_at_reduced_scale_is_fitted_as_the_whole_one(
    fit: Fit, size: tuple[int, int], orientation: int, progressive: bool
) -> None:
    stored = drawing(*size)
    file = encode(stored, "JPEG", orientation, quality=95, progressive=progressive)
    whole = encode(turned(as_stored_jpeg(file), orientation))
    for model in (fitting(fit, 24, 16), fitting(fit, 32, 32, 0.875)):
        found, expected = decode(file, model), decode(whole, model)
        assert difference(found, expected) <= 4
        assert found.geometry == expected.geometry
        assert (framed(found)[1] == GREY).all()


def as_stored_jpeg(file: bytes) -> Image.Image:
    with Image.open(io.BytesIO(file)) as opened:
        return opened.convert("RGB")


@pytest.mark.parametrize("fit", FITS)
def test_reduced_decoding_keeps_twice_the_models_resolution_both_ways(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squashed by 16 across and by 4 down, it is the 4 that counts."""
    file, read = encode(drawing(1024, 256), "JPEG"), []
    resize = Image.Image.resize

    def watched(self: Image.Image, *words: Any, **named: Any) -> Image.Image:
        read.append(self.size)
        return resize(self, *words, **named)

    monkeypatch.setattr(Image.Image, "resize", watched)
    decode(file, fitting(fit, 64, 64))
    expected = {"crop": (512, 128), "squash": (512, 128), "pad": (128, 32)}
    assert read == [expected[fit]]


@pytest.mark.parametrize("fit", FITS)
def test_what_is_decoded_at_once_is_fitted_too(fit: Fit) -> None:
    for kind, size in itertools.product(("JPEG", "PNG"), ((90, 30), (30, 90))):
        file, model = encode(drawing(*size), kind), fitting(fit, 16, 16)
        header = inspect_quickly(file, model, MAX_PIXELS, small=True)
        assert header is not None
        assert difference(decode(file, header), decode(file + b" ", model)) == 0


# --- where it lies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.5, 0.01])
@pytest.mark.parametrize("fit", FITS)
def test_a_place_of_the_model_is_laid_where_its_colour_comes_from(fit: Fit, fraction: float) -> None:
    """A ramp from black at the left to white at the right, and its transpose."""
    for size in ((400, 100), (100, 400)):
        ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
        across = size[0] > size[1]
        pixels = np.broadcast_to(ramp[None, :] if across else ramp[:, None], (size[1], size[0]))
        found = decode(encode(Image.fromarray(np.ascontiguousarray(pixels))), fitting(fit, 32, 32, fraction))
        for place in range(4, 28):
            x, y = (place, 16) if across else (16, place)
            left, top, right, bottom = found.geometry.lay((x, y, x + 1, y + 1), (32, 32))
            middle = (left + right) / 2 if across else (top + bottom) / 2
            assert abs(int(found.pixels[y, x, 0]) - 255 * middle / max(size)) <= 4


def test_margins_are_whole_alike_on_both_sides_and_leave_a_pixel() -> None:
    for width, height, model in itertools.product(range(1, 40), range(1, 40), ((8, 8), (7, 7), (5, 8), (1, 1))):
        box = centre((width, height), model, 1.0, "pad")
        across, down = margins(box, model)
        assert model[0] - 2 * across >= 1
        assert model[1] - 2 * down >= 1
        assert min(across, down) == 0
        pixel = (box[2] - box[0]) / model[0], (box[3] - box[1]) / model[1]
        assert box[0] + across * pixel[0] == pytest.approx(0, abs=1e-9)
        assert box[3] - down * pixel[1] == pytest.approx(height, abs=1e-9)


def test_an_overlay_lays_the_heat_of_the_padding_nowhere() -> None:
    """4 x 4 places over a square around an image of 4:1: its two middle rows would be half padding, half image."""
    found = decode(encode(Image.new("RGB", (64, 16), "white")), fitting("pad", 16, 16))
    heat = np.zeros((1, 16, 16), np.float32)
    heat[0, :6] = 9  # all above the image
    heat[0, 7, 12] = 3  # in it, at the right
    box = found.geometry.lay((0, 0, 16, 16), (16, 16))
    explained = Explanation("a", 0, 1.0, "occlusion", heat, found.geometry, box)
    white = np.full((16, 64, 3), 255, np.uint8)
    drawn = Image.open(io.BytesIO(overlay(explained, white)))
    dark = 255 - np.asarray(drawn.convert("L")).astype(int)
    assert drawn.size == (64, 16)
    _row, column = np.unravel_index(dark[4:].argmax(), dark[4:].shape)
    assert 46 <= column <= 56, "the place that speaks for it"
    assert dark[8:, :40].max() < 10, "and nothing of what lies above"


# --- the artifact -----------------------------------------------------------------------------------------------------


def test_an_artifact_that_crops_is_as_it_was_before_there_was_a_choice(tmp_path: Any) -> None:
    """Older services read it, and what older exports wrote keeps its digest and its contract."""
    plain = small_manifest()
    assert "fit" not in plain.model_dump(mode="json")["input"]
    assert '"fit"' not in plain.contract
    assert manifest.schema_of(plain.input) == 1
    small_artifact(tmp_path / "1")
    assert "fit" not in (tmp_path / "1" / "manifest.json").read_text()
    assert manifest.load(tmp_path / "1").input.fit == "crop"


@pytest.mark.parametrize("fit", WHOLE)
def test_another_fit_is_part_of_the_contract_and_needs_the_newer_schema(fit: Fit, tmp_path: Any) -> None:
    spec = small_manifest().input.model_copy(update={"fit": fit})
    assert manifest.schema_of(spec) == 2, "an older service refuses it in one sentence"
    assert small_manifest(schema_version=2, input=spec).contract != small_manifest().contract
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", put("input", "fit", fit))
    with pytest.raises(ArtifactError, match="needs schema 2"):
        manifest.load(tmp_path / "1")
    rewrite(tmp_path / "1", put("schema_version", 2))
    assert manifest.load(tmp_path / "1").input.fit == fit


@pytest.mark.parametrize(
    ("fit", "fraction", "words"),
    [
        ("crop", 1.0, "the largest centred square crop, resized to 32 x 32 (bilinear, antialiased). What lies outside"),
        ("squash", 1.0, "the whole image, whatever its shape, resized to 32 x 32 (bilinear, antialiased)."),
        ("pad", 1.0, "the whole image, with grey (114 of 255) around it to make it square, resized to 32 x 32"),
        ("pad", 0.5, f"to make it square, of which the middle {percent(0.5)} of each side is kept, resized to 32 x 32"),
    ],
)
def test_the_fit_is_told_in_words(fit: Fit, fraction: float, words: str) -> None:
    told = preprocessing(fitting(fit, 32, 32, fraction))
    assert words in told
    assert ("What lies outside is not seen" in told) == (fit == "crop" or fraction < 1)
