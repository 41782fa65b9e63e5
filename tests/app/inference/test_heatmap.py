"""From a heat map to an overlay: what is shown, how strongly, and where."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact import heat
from app.artifact.decoder.decode import Geometry
from app.inference.heatmap import Explanation, overlay

BLACK = np.zeros((80, 120, 3), np.uint8)


def explained(maps: object, number: int = 0, geometry: Geometry | None = None) -> Explanation:
    """Class `number` of maps [K, h, w], over the middle 80 x 80 of 120 x 80 pixels."""
    lies = geometry or Geometry(120, 80, 20, 0, 100, 80)
    box = (lies.left, lies.top, lies.right, lies.bottom)
    return Explanation("bee", number, 0.5, "occlusion", np.array(maps, np.float32), lies, box)


def drawn(explained: Explanation, under: NDArray[np.uint8] = BLACK) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(overlay(explained, under))) as image:
        return np.asarray(image)


def brightness(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Over black, the heat's lightness rises with the heat."""
    return np.asarray(Image.fromarray(image).convert("L"))


def test_evidence_is_in_parts_of_the_strongest_of_any_class() -> None:
    maps = [[[2.0, -1.0], [0.0, 1.0]], [[-8.0, 4.0], [0.0, 0.0]]]
    assert explained(maps, 0).evidence().tolist() == [[0.5, 0], [0, 0.25]]
    assert explained(maps, 1).evidence().tolist() == [[0, 1], [0, 0]]
    assert explained(maps, 0).strongest == 4


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_where_nothing_speaks_for_any_class_nothing_glows(value: float) -> None:
    flat = explained(np.full((2, 3, 3), value))
    assert not flat.evidence().any()
    assert not drawn(flat).any()


def test_heat_lies_in_its_place_and_nowhere_else() -> None:
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 2] = 5
    light = brightness(drawn(explained(maps)))
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert 20 <= row < 40
    assert 20 + 40 <= column < 20 + 60
    assert light.max() > 100
    assert not light[50:].any()
    assert not light[:, :20].any()
    assert not light[:, 100:].any()


def test_heat_at_the_edge_does_not_grow_towards_it() -> None:
    """Bicubic interpolation that is cut off at the edge puts the peak there; as it is, it swells a little."""
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 3], maps[1, 0, 0] = 1, 2  # half as strong as the strongest, so that more could be seen
    light = brightness(drawn(explained(maps))).astype(float)
    assert light[29:31, 98:100].mean() == pytest.approx(light[29:31, 89:91].mean(), rel=0.2)


def test_the_stronger_the_evidence_the_lighter_over_dark_and_the_more_it_covers() -> None:
    steps = np.linspace(0, 1, 9)[None, None, :]
    flat = Geometry(120, 80, 0, 0, 120, 80)
    for under in (BLACK, np.full_like(BLACK, 255)):
        row = drawn(explained(steps, geometry=flat), under)[40].astype(int)
        covered = np.abs(row - under[40]).sum(axis=1)[6::13]
        assert (np.diff(covered[:6]) > 0).all()
    assert (np.diff(brightness(drawn(explained(steps, geometry=flat)))[40, 6::13].astype(int)) > 0).all()


def test_what_the_model_did_not_see_is_dimmed_and_only_that() -> None:
    white = np.full_like(BLACK, 200)
    image = drawn(explained(np.zeros((1, 4, 4))), white)
    assert (image[:, 20:100] == 200).all()
    assert (image[:, :20] == round(200 * heat.DIM)).all()
    assert (image[:, 100:] == round(200 * heat.DIM)).all()


@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((1, 1), Geometry(1, 1, 0.25, 0.25, 0.75, 0.75)),
        ((1, 100), Geometry(3000, 1, 1499.5, 0, 1500.5, 1)),
        ((100, 1), Geometry(1, 3000, 0, 1499.5, 1, 1500.5)),
        ((2, 3), Geometry(3, 2, 0.5, 0, 2.5, 2)),
    ],
)
def test_of_the_box_at_least_a_pixel_is_left(shape: tuple[int, int], geometry: Geometry) -> None:
    image = drawn(explained(np.ones((1, 7, 7)), geometry=geometry), np.zeros((*shape, 3), np.uint8))
    assert image.shape == (*shape, 3)
    assert image.any()


def test_the_colours_are_infernos_within_a_few_steps_of_256() -> None:
    from matplotlib import colormaps

    found = heat.palette().astype(int)
    expected = colormaps["inferno"](np.arange(256))[:, :3] * 255
    assert np.abs(found - expected).max() < 7
    light = found @ [299, 587, 114]
    assert (np.diff(light) > 0).all()
