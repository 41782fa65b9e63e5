"""The heat lies on the object, however the image is turned, cropped and shaped; and it is what autograd says."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder.decode import Preview, decode
from app.artifact.heat import DIM, opacity, palette
from app.settings import DEFAULT_MODEL
from tests.app.artifact.decoder.test_orientation import BACK, TURN, turned
from tests.app.inference.squares import Scene
from tests.images import encode
from tests.serving import serving
from training.interpretation.gradcam import grad_cam
from training.runs.trained_model import TrainedModel

CAT = (DEFAULT_MODEL.parents[2] / "cat.jpg").read_bytes()
SHAPES = ((200, 200), (360, 120), (100, 330))
STEP = 4
PLACES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75), (0.5, 0.5))


class Explained(NamedTuple):
    """A server and how it explains."""

    client: httpx2.Client
    method: str


@pytest.fixture(scope="module", params=["class-activation", "occlusion"])
def explained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explained]:
    with_maps = request.param == "class-activation"
    artifact = request.getfixturevalue("squares_artifact" if with_maps else "squares_without_maps")
    with (
        serving(artifact, tmp_path_factory.mktemp("server"), VARIANT="onnx") as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        yield Explained(client, request.param)


def peak_of(answer: dict[str, Any]) -> tuple[float, float]:
    """x and y of the middle of the hottest place, in the image as displayed."""
    heat, box = np.array(answer["heatmap"]), answer["box"]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    across, down = (box["right"] - box["left"]) / heat.shape[1], (box["bottom"] - box["top"]) / heat.shape[0]
    return box["left"] + (column + 0.5) * across, box["top"] + (row + 0.5) * down


def heat_in(png: bytes, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[h, w] of every fourth pixel: which heat, laid over the image, gives the overlay's colours."""
    with Image.open(io.BytesIO(png)) as opened:
        assert opened.size == (shown.shape[1], shown.shape[0])
        overlay = np.asarray(opened)[::STEP, ::STEP].astype(np.float32)
    shown = shown[::STEP, ::STEP]
    covers = np.array(opacity())[:, None, None, None] / 255
    colours = palette().reshape(256, 1, 1, 3)
    every = np.arange(0, 256, 4)
    expected = shown * (1 - covers[every]) + colours[every] * covers[every]
    return (every[np.abs(expected - overlay).sum(axis=3).argmin(axis=0)]).astype(np.uint8)


@pytest.mark.parametrize("orientation", TURN)
def test_the_peak_lies_in_a_bright_square_in_all_orientations_and_shapes(
    explained: Explained, orientation: int
) -> None:
    for shape in SHAPES:
        for place in PLACES:
            scene = Scene.of(*shape, *place)
            file = encode(turned(scene.image, BACK[orientation]), "JPEG", orientation, quality=95)
            answer = explained.client.post("/explain?class=square", content=file).json()
            assert answer["method"] == explained.method
            assert answer["picture"] == {"width": shape[0], "height": shape[1]}
            assert answer["prediction"] == "square"
            assert scene.holds(*peak_of(answer)), (shape, place)

            png = explained.client.post("/explain?class=square", content=file, headers={"Accept": "image/png"}).content
            heat = heat_in(png, decode(file, Preview(1024)).pixels)
            rows, columns = np.nonzero(heat == heat.max())
            assert heat.max() > 240
            assert scene.holds(columns.mean() * STEP, rows.mean() * STEP), (shape, place)


def test_outside_of_what_the_model_saw_there_is_no_heat_but_shade(explained: Explained) -> None:
    file = encode(Scene.of(360, 120, 0.25, 0.25).image)
    png = explained.client.post("/explain?class=square", content=file, headers={"Accept": "image/png"}).content
    with Image.open(io.BytesIO(png)) as opened:
        overlay = np.asarray(opened)
    shown = decode(file, Preview(1024)).pixels
    for outside in (np.s_[:, :120], np.s_[:, 240:]):
        assert overlay[outside] == pytest.approx(shown[outside] * DIM, abs=1)
    assert (overlay[:, 120:240] != shown[:, 120:240]).any()


def test_what_speaks_against_a_class_does_not_glow(explained: Explained) -> None:
    scene = Scene.of(200, 200, 0.25, 0.25)
    file = encode(scene.image)
    asked = "/explain?class=nothing"
    heatmap = np.array(explained.client.post(asked, content=file).json()["heatmap"])
    assert heatmap.min() < -1
    png = explained.client.post(asked, content=file, headers={"Accept": "image/png"}).content
    heat = heat_in(png, decode(file, Preview(1024)).pixels)
    middle = (scene.left + scene.right) // 2, (scene.top + scene.bottom) // 2
    assert heat[middle[1] // STEP, middle[0] // STEP] == 0


def test_the_numbers_served_are_autograds_grad_cam(tmp_path: Path) -> None:
    """ReLU(heat map - bias) / (h w) of every class, through HTTP, the decoder and the fp32 ONNX graph."""
    loaded = TrainedModel.load(DEFAULT_MODEL)
    x = loaded.normalise(torch.from_numpy(decode(CAT, loaded.input).pixels)[None])
    bias = loaded.network.head.bias
    with (
        serving(DEFAULT_MODEL, tmp_path, VARIANT="onnx") as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        answers = {
            label: client.post("/explain", params={"class": label}, content=CAT).json() for label in loaded.labels
        }
        card = client.post("/predict?top_k=all", content=CAT).json()
    probabilities = {row["class"]: row["probability"] for row in card["top_k"]}
    largest = 0.0
    for number, (label, answer) in enumerate(answers.items()):
        assert (answer["class"], answer["prediction"]) == (label, "cat")
        assert answer["probability"] == probabilities[label]
        served = torch.tensor(answer["heatmap"])
        found = grad_cam(loaded.network, "features", x, number)
        torch.testing.assert_close(torch.relu(served - bias[number]) / 16, found, atol=1e-4, rtol=0)
        largest = max(largest, float(found.max()))
    assert largest > 0.1


def test_the_mean_of_class_activations_is_the_logit(squares_artifact: Path, tmp_path: Path) -> None:
    """Of two classes, their difference decides the probability, which the answer has."""
    file = encode(Scene.of(200, 200, 0.7, 0.7).image)
    with serving(squares_artifact, tmp_path) as server, httpx2.Client(base_url=server.url, timeout=60) as client:
        temperature = client.get("/model").json()["temperature"]
        answers = [client.post("/explain", params={"class": c}, content=file).json() for c in ("square", "nothing")]
    logits = [np.mean(answer["heatmap"]) for answer in answers]
    expected = 1 / (1 + np.exp((logits[1] - logits[0]) / temperature))
    assert answers[0]["probability"] == pytest.approx(expected, abs=1e-4)
