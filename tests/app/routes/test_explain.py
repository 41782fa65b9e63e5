"""POST /explain over HTTP: forms, parameters, every kind of image, errors, what is counted, and its bounds."""

import difflib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.errors import Problem
from app.routes import explain
from app.settings import DEFAULT_MODEL
from tests.images import drawing, encode
from tests.serving import Server, metrics, problem, serving

CAT = (DEFAULT_MODEL.parents[2] / "cat.jpg").read_bytes()
PNG = {"Accept": "image/png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded artifact as it is served by default: INT8."""
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("server"), MAX_PIXELS=64_000_000) as running:
        yield running


def opened(answer: httpx2.Response) -> Image.Image:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content), formats=("PNG",)) as image:
        image.load()
        return image


# --- forms ------------------------------------------------------------------------------------------------------------


def test_the_numbers_are_of_the_predicted_class_by_default(client: httpx2.Client) -> None:
    answer = client.post("/explain", content=CAT)
    body = answer.json()
    predicted = client.post("/predict", content=CAT).json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "accept"
    members = ["class", "probability", "prediction", "method", "picture", "box", "heatmap", "strongest", "model"]
    assert list(body) == members
    assert (body["class"], body["prediction"]) == ("cat", "cat")
    assert body["probability"] == predicted["confidence"]
    assert body["method"] == "class-activation"
    assert body["picture"] == {"width": 451, "height": 300}
    # the model saw 75.5 to 375.5 across and 0 to 300 down, and its maps are 3.5 of its 32 pixels further up and left
    assert body["box"] == {"left": 42.6875, "top": -32.8125, "right": 342.6875, "bottom": 267.1875}
    assert np.array(body["heatmap"]).shape == (4, 4)
    assert body["strongest"] == np.max(body["heatmap"])  # what the cat has, no other class has
    assert body["model"] == predicted["model"] == {"name": "cifar10", "version": 1, "variant": "onnx-int8"}


def test_a_form_and_a_bare_body_say_the_same(client: httpx2.Client) -> None:
    form = client.post("/explain?class=dog", files={"file": ("cat.jpg", CAT)}).json()
    assert form == client.post("/explain?class=dog", content=CAT).json()
    assert (form["class"], form["prediction"]) == ("dog", "cat")
    assert form["probability"] < 0.5
    assert form["strongest"] == client.post("/explain", content=CAT).json()["strongest"] > np.max(form["heatmap"])


def test_the_overlay_is_a_png_of_the_displayed_size_that_says_what_it_shows(client: httpx2.Client) -> None:
    image = opened(client.post("/explain", content=CAT, headers=PNG))
    assert (image.size, image.mode) == ((451, 300), "RGB")
    assert image.info["Title"].startswith("cat, p = 0.99")
    other = opened(client.post("/explain?class=frog", content=CAT, headers=PNG))
    assert other.info["Title"].startswith("frog, p = 0.0")
    assert other.tobytes() != image.tobytes()


def test_accept_decides_and_neither_is_406_before_the_image_is_looked_at(client: httpx2.Client) -> None:
    image = client.post("/explain", content=CAT, headers={"Accept": "image/*, application/json;q=0.9"})
    numbers = client.post("/explain", content=CAT, headers={"Accept": "*/*"})
    assert [each.headers["content-type"] for each in (image, numbers)] == ["image/png", "application/json"]
    body = problem(client.post("/explain", content=b"", headers={"Accept": "text/html"}), 406, "not_acceptable")
    assert body["detail"] == "The answer is application/json or image/png; Accept has neither."


def test_openapi_has_both_forms_and_the_parameters_by_their_own_names(client: httpx2.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/explain"]["post"]
    assert set(described["responses"]["200"]["content"]) == {"application/json", "image/png"}
    assert {(each["in"], each["name"]) for each in described["parameters"]} == {
        ("query", "class"),
        ("header", "X-Request-Timeout-Ms"),
    }
    assert set(described["responses"]) > {"400", "406", "413", "415", "422", "429", "503", "504"}


# --- parameters and errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("Cat", 'did you mean "cat"?'),
        ("AIRPLAIN", 'did you mean "airplane"?'),
        ("zebra", "there are airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck."),
        ("", "there are airplane"),
    ],
)
def test_an_unknown_class_is_refused_with_the_nearest(client: httpx2.Client, label: str, hint: str) -> None:
    body = problem(client.post("/explain", params={"class": label}, content=CAT), 400, "bad_parameter")
    assert str(body["detail"]).startswith(f"class={label}: the model has no such label; {hint}")


def test_the_nearest_of_very_many_labels_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than an image, in the event loop, for a request that has no place yet."""
    compared = []

    def counted(self: difflib.SequenceMatcher[str]) -> float:
        compared.append(self)
        return 0.0

    monkeypatch.setattr(difflib.SequenceMatcher, "real_quick_ratio", counted)
    for count, most in ((20, 20), (200, 200), (21_000, 0)):
        compared.clear()
        with pytest.raises(Problem, match=f"there are label 0, label 1, .* and {count - 10} more, see /model"):
            explain._known("lable 7", [f"label {number}" for number in range(count)])
        assert len(compared) == most


@pytest.mark.parametrize("headers", [{}, PNG], ids=["json", "png"])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"%PDF-1.4", 415, "unsupported_image"),
        (CAT[:400], 422, "undecodable_image"),
        (encode(Image.new("1", (9000, 9000))), 422, "too_many_pixels"),
        (b"\xff\xd8\xff" + bytes(10_000_000), 413, "upload_too_large"),
    ],
    ids=["empty", "pdf", "truncated", "81 MP", "10 MB"],
)
def test_what_predict_refuses_explain_refuses(
    client: httpx2.Client, content: bytes, status: int, code: str, headers: dict[str, str]
) -> None:
    problem(client.post("/explain", content=content, headers=headers), status, code)


def files() -> Iterator[Any]:
    drawn = drawing(120, 90)
    frames = [drawing(60, 80, seed) for seed in range(3)]
    yield "animated GIF", encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), (60, 80)
    yield "animated WebP", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), (60, 80)
    yield "palette", encode(drawn.quantize(8)), (120, 90)
    yield "palette with a clear entry", encode(drawn.quantize(8), transparency=2), (120, 90)
    yield "CMYK", encode(drawn.convert("CMYK"), "JPEG"), (120, 90)
    yield "16 bits", encode(Image.new("I;16", (120, 90), 40_000)), (120, 90)
    yield "alpha", encode(drawn.convert("RGBA")), (120, 90)
    yield "1 bit", encode(drawn.convert("1")), (120, 90)
    yield "1 x 1", encode(drawing(1, 1)), (1, 1)
    yield "1 x 1 JPEG", encode(drawing(1, 1), "JPEG"), (1, 1)
    yield "one row", encode(drawing(3000, 1)), (3000, 1)
    yield "one column JPEG", encode(drawing(2, 3000), "JPEG"), (2, 3000)
    yield "TIFF on its side", encode(drawn, "TIFF", 6), (90, 120)


@pytest.mark.parametrize(("file", "size"), [pytest.param(*row[1:], id=row[0]) for row in files()])
def test_every_kind_of_image_is_explained_in_both_forms(
    client: httpx2.Client, file: bytes, size: tuple[int, int]
) -> None:
    body = client.post("/explain", content=file).json()
    assert (body["picture"]["width"], body["picture"]["height"]) == size
    shift, side = 3.5 / 32 * min(size), min(size)
    box = {"left": (size[0] - side) / 2 - shift, "top": (size[1] - side) / 2 - shift}
    box |= {"right": box["left"] + side, "bottom": box["top"] + side}
    assert body["box"] == pytest.approx(box)
    share = min(1, 1024 / max(size))
    expected = tuple(max(1, round(side * share)) for side in size)
    assert opened(client.post("/explain", content=file, headers=PNG)).size == expected


@pytest.mark.parametrize(
    ("size", "kind", "shown"), [((10_000, 6000), "PNG", (1024, 614)), ((4000, 3000), "JPEG", (1024, 768))]
)
def test_large_images_come_out_at_1024_pixels(
    client: httpx2.Client, size: tuple[int, int], kind: str, shown: tuple[int, int]
) -> None:
    file = encode(drawing(400, 300).resize(size), kind)
    assert opened(client.post("/explain", content=file, headers=PNG)).size == shown
    body = client.post("/explain", content=file).json()
    assert body["picture"] == {"width": size[0], "height": size[1]}
    assert body["box"]["right"] - body["box"]["left"] == pytest.approx(size[1])


# --- what is told and counted -----------------------------------------------------------------------------------------


def test_stages_and_the_log_line(tmp_path: Path) -> None:
    with (
        serving(DEFAULT_MODEL, tmp_path, LOG_FORMAT="json") as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        answer = client.post("/explain?class=dog", content=CAT, headers=PNG)
        client.post("/explain?class=cow", content=CAT)
        counted = metrics(server.url)
    timing = answer.headers["server-timing"]
    assert [stage.partition(";")[0] for stage in timing.split(", ")] == [
        "receive",
        "decode",
        "queue",
        "inference",
        "explain",
    ]
    lines = [json.loads(line) for line in server.lines()]
    good, bad = [line for line in lines if line["event"] == "request" and line["route"] == "/explain"]
    expected = {"method": "POST", "status": 200, "format": "JPEG", "width": 451, "prediction": "cat"}
    assert (expected | {"explained": "dog", "explanation": "class-activation"}).items() <= good.items()
    assert good["explain_ms"] > 0
    assert {"status": 400, "code": "bad_parameter"}.items() <= bad.items()
    assert 'sightglass_images_total{outcome="explained"} 1.0' in counted
    assert 'sightglass_stage_duration_seconds_count{stage="explain"} 1.0' in counted
    assert 'route="/explain",status="200"} 1.0' in counted


def test_two_workers_explain_alike(squares_without_maps: Path, tmp_path: Path) -> None:
    with (
        serving(squares_without_maps, tmp_path, WORKERS=2) as server,
        httpx2.Client(base_url=server.url, timeout=60, limits=httpx2.Limits(max_keepalive_connections=0)) as client,
    ):
        answers = [client.post("/explain?class=square", content=CAT).json() for _ in range(8)]
    assert {answer["method"] for answer in answers} == {"occlusion"}
    for answer in answers:
        assert np.array(answer["heatmap"]) == pytest.approx(np.array(answers[0]["heatmap"]), abs=1e-3)
