"""Requests that do not fit the model: each is one sentence about what was wrong, and nothing is a 500."""

import gzip
import json
import zlib
from typing import Any

import httpx2
import numpy as np
import pytest

from app.errors import Problem
from app.open_inference.models import models_of
from app.open_inference.request import InferRequest, Wanted
from app.open_inference.response import count_values
from tests.app.artifacts import small_manifest
from tests.app.conftest import MAX_UPLOAD_BYTES
from tests.app.open_inference.bodies import HEADER, body, elements, encoded_input, error, outputs, pixels_input, post
from tests.images import drawing, encode

PNG = encode(drawing(40, 30, 1))
PIXELS = np.zeros((2, 16, 16, 3), np.uint8)
RAW = PIXELS.tobytes()
WHOLE = body(pixels_input(PIXELS), RAW)


def changed(**members: Any) -> tuple[bytes, dict[str, str]]:
    """A request for the pixels whose input has these members instead."""
    return body(pixels_input(PIXELS) | members, RAW)


def files(data: bytes, images: int = 2) -> tuple[bytes, dict[str, str]]:
    return body(encoded_input([PNG] * images), data)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (changed(name="pixels"), 'digits has no input "pixels"; it has `image`.'),
        (changed(name=None), "digits has no input of type NoneType; it has `image`."),
        (changed(name="\ud800" * 99), "digits has no input"),
        (changed(datatype="FP32"), '`image` has the datatype UINT8, not "FP32".'),
        (changed(shape=[2, 16, 16]), "`image` has the shape [N, 16, 16, 3], not [2, 16, 16]."),
        (changed(shape=[2, 3, 16, 16]), "`image` has the shape [N, 16, 16, 3], not [2, 3, 16, 16]."),
        (changed(shape=[3, 16, 16, 3]), "`image` of that shape has 2304 bytes, not 1536."),
        (changed(shape=[-1, 16, 16, 3]), "`image` has the shape [N, 16, 16, 3]."),
        (changed(shape=[True, 16, 16, 3]), "`image` has the shape [N, 16, 16, 3]."),
        (changed(shape=[2.0, 16, 16, 3]), "`image` has the shape [N, 16, 16, 3]."),
        (changed(shape=[10**4000, 16, 16, 3]), "`image` has the shape [N, 16, 16, 3]."),
        (changed(shape="2"), "`image` has the shape [N, 16, 16, 3]."),
        (changed(shape=[0, 16, 16, 3]), "There is no image in it."),
        (changed(shape=[2**30, 16, 16, 3]), "1073741824 images; this service takes at most 64 a request"),
        (changed(parameters={}), "`image` needs either `data` or the parameter `binary_data_size`."),
        (changed(data=[1]), "`image` needs either `data` or the parameter `binary_data_size`."),
        (changed(parameters=[]), "`parameters` must be an object."),
        (changed(parameters={"binary_data_size": 9}), "binary_data_size 9, but 1536 bytes come after the JSON."),
        (changed(parameters={"binary_data_size": -1}), "binary_data_size -1, but 1536 bytes come after the JSON."),
        (changed(parameters={"binary_data_size": True}), "binary_data_size True, but 1536 bytes"),
        (changed(parameters={"binary_data_size": "x"}), 'binary_data_size "x", but 1536 bytes'),
        (changed(parameters={"shared_memory_region": "r"}), "There is no shared memory"),
        ((WHOLE[0][:-1], WHOLE[1]), "binary_data_size 1536, but 1535 bytes come after the JSON."),
        ((WHOLE[0] + b"x", WHOLE[1]), "binary_data_size 1536, but 1537 bytes come after the JSON."),
        ((WHOLE[0], {HEADER: "999999"}), "Inference-Header-Content-Length: 999999, but the body has"),
        ((WHOLE[0], {HEADER: "-1"}), "Inference-Header-Content-Length: -1, but"),
        ((WHOLE[0], {HEADER: "x" * 99}), "Inference-Header-Content-Length: xxxxxxxxxxxxxxxxxxxx, but"),
        ((WHOLE[0], {HEADER: str(int(WHOLE[1][HEADER]) - 1)}), "The request is no JSON"),
        ((WHOLE[0], {}), "The request is no JSON"),
        ((RAW[:-1], {HEADER: "0"}), "1535 bytes are no whole number of images of 768 bytes."),
        ((PIXELS[:1].tobytes() * 65, {HEADER: "0"}), "65 images; this service takes at most 64"),
        ((b"", {}), "Send the request as the body."),
        ((b"", {HEADER: "0"}), "Send the request as the body."),
        ((b"[]", {}), "The request is no JSON object."),
        ((b"{}", {}), "`inputs` must be a list of one object, the input `image`."),
        ((b'{"inputs": [1]}', {}), "`inputs` must be a list of one object"),
        ((b'{"inputs": [{}, {}]}', {}), "`inputs` must be a list of one object"),
        ((b"[" * 100_000, {}), "The request is no JSON"),
        ((b'{"id": NaN}', {}), "The request is no JSON (NaN is no JSON)"),
        ((b'{"id": ' + b"9" * 5000 + b"}", {}), "The request is no JSON"),
        ((b'{"x": [' + b"1," * 20_000 + b"1]}", {}), "more than 10000 values besides the tensor's numbers"),
        ((b"\xff\xfe{}", {}), "The request is no JSON"),
        (body(pixels_input(PIXELS), RAW, id=7), "`id` is no string."),
        (body(pixels_input(PIXELS), RAW, outputs={}), "`outputs` must be a list of objects"),
        (body(pixels_input(PIXELS), RAW, outputs=[{"name": "scores"}]), 'digits has no output "scores"; it has'),
        (body(pixels_input(PIXELS), RAW, outputs=[{"name": "logits"}] * 2), "the same output twice"),
        (body(pixels_input(PIXELS), RAW, outputs=[{"name": "logits"}] * 9), "`outputs` must be a list of objects"),
        (
            body(pixels_input(PIXELS), RAW, parameters={"binary_data_output": 1}),
            "binary_data_output: 1: true or false.",
        ),
    ],
)
def test_pixels(client: httpx2.Client, request_: tuple[bytes, dict[str, str]], said: str) -> None:
    assert said in error(post(client, "digits", *request_), 400)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"classification": -1}, "classification: -1: how many classes, a whole number."),
        ({"classification": 1.5}, "classification: 1.5: how many classes"),
        ({"classification": True}, "classification: True: how many classes"),
        ({"binary_data": "yes"}, 'binary_data: "yes": true or false.'),
        ({"shared_memory_region": "r"}, "There is no shared memory"),
    ],
)
def test_parameters_of_outputs(client: httpx2.Client, parameters: dict[str, Any], said: str) -> None:
    wanted = [{"name": "probabilities", "parameters": parameters}]
    assert said in error(post(client, "digits", *body(pixels_input(PIXELS), RAW, outputs=wanted)), 400)


def test_heat_maps_have_no_classes(client: httpx2.Client) -> None:
    wanted = [{"name": "heatmap", "parameters": {"classification": 2}}]
    said = error(post(client, "digits", *body(pixels_input(PIXELS), RAW, outputs=wanted)), 400)
    assert said.startswith("`heatmap` has no classes to rank")


@pytest.mark.parametrize(
    "data",
    [
        [0] * 1535,
        [0] * 1537,
        [0] * 1535 + [256],
        [0] * 1535 + [-1],
        [0] * 1535 + [1.0],
        [0] * 1535 + [None],
        [0] * 1535 + ["0"],
        [0] * 1535 + [{}],
        [],
        "0",
        {"0": 0},
        7,
    ],
)
def test_json_numbers_must_be_pixels(client: httpx2.Client, data: Any) -> None:
    said = error(post(client, "digits", *body(pixels_input(PIXELS, data=data))), 400)
    assert said == "`data` of `image` must be 1536 whole numbers from 0 to 255."


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            files(elements([PNG, PNG])[:-1]),
            f"Element 1 of `image_bytes` announces {len(PNG)} bytes; {len(PNG) - 1} are",
        ),
        (files(elements([PNG])), "`image_bytes` announces 2 elements, but its bytes end after 1."),
        (files(elements([PNG, PNG]) + b"x"), "`image_bytes` has 1 bytes after its 2 elements."),
        (files(b"\xff\xff\xff\xff" + PNG), "Element 0 of `image_bytes` announces 4294967295 bytes"),
        (files(b""), "`image_bytes` announces 2 elements, but its bytes end after 0."),
        (files(elements([PNG] * 65), 65), "65 images; this service takes at most 64 a request"),
        (body(encoded_input([PNG], data=[PNG.decode("latin-1")])), "A string of `image_bytes` is no base64."),
        (body(encoded_input([PNG], data=["AA=="] * 2)), "`image_bytes` needs 1 strings, each an image in base64."),
        (body(encoded_input([PNG], data=[[1]])), "`image_bytes` needs 1 strings"),
        *(
            (body(encoded_input([PNG], data=[text])), "is no base64.")
            for text in (
                "A" * 65_535 + "=" + "A" * 8,
                "A",
                "AA=",
                "AA===",
                "=",
                "AA=A",
                "AA==AAAA",
                "A!AA",
                "Aé==",
                "%41AAA",
            )
        ),
        (
            body(encoded_input([PNG], data=["data:image/png;base64,AAAA"])),
            "it is a data URL; send what is behind its comma",
        ),
    ],
)
def test_encoded_images(client: httpx2.Client, request_: tuple[bytes, dict[str, str]], said: str) -> None:
    assert said in error(post(client, "digits-encoded", *request_), 400)


@pytest.mark.parametrize(
    ("file", "status", "said"),
    [
        (b"", 415, "file has no bytes"),
        (b"%PDF-1.7", 415, "file is PDF"),
        (PNG[:60], 422, "cannot be decoded"),
    ],
)
def test_an_image_that_cannot_be_decoded_ends_the_request(
    client: httpx2.Client, file: bytes, status: int, said: str
) -> None:
    assert said in error(post(client, "digits-encoded", *files(elements([file]), 1)), status)
    told = error(post(client, "digits-encoded", *files(elements([PNG, file]))), status)
    assert said in told
    assert told.startswith("Element 1: ")


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (gzip.compress(WHOLE[0])[:-9], "gzip", "The body's gzip stream ends too early."),
        (gzip.compress(WHOLE[0]) + b"x", "gzip", "The body's gzip stream goes on after its end."),
        (WHOLE[0], "gzip", "The body is no gzip"),
        (gzip.compress(WHOLE[0]), "deflate", "The body is no deflate"),
        (b"", "gzip", "The body's gzip stream ends too early."),
    ],
)
def test_bodies_that_are_not_compressed_as_they_say(
    client: httpx2.Client, content: bytes, encoding: str, said: str
) -> None:
    assert said in error(post(client, "digits", content, WHOLE[1] | {"Content-Encoding": encoding}), 400)


def test_a_coding_that_is_not_read_is_415_and_says_which_are(client: httpx2.Client) -> None:
    answer = post(client, "digits", WHOLE[0], WHOLE[1] | {"Content-Encoding": "br"})
    assert error(answer, 415) == "Content-Encoding: br: this service takes gzip, deflate or none."
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_bomb_is_stopped_at_the_limit(client: httpx2.Client, encoding: str, compress: Any) -> None:
    bomb = compress(bytes(500 * MAX_UPLOAD_BYTES // 10))
    assert len(bomb) < MAX_UPLOAD_BYTES
    said = error(post(client, "digits", bomb, {HEADER: "0", "Content-Encoding": encoding}), 413)
    assert said == "More than the limit of 2 MB once it is decompressed (SIGHTGLASS_MAX_UPLOAD_BYTES)."


def test_a_body_is_never_larger_than_the_limit(client: httpx2.Client) -> None:
    assert "the limit is 2 MB" in error(post(client, "digits", bytes(MAX_UPLOAD_BYTES + 1), {HEADER: "0"}), 413)


def test_too_many_numbers_and_classes_as_text_are_refused() -> None:
    described = small_manifest(labels=[str(label) for label in range(1000)], heatmap=(7, 7))
    model = models_of(described, "onnx")["beetles"]
    heat, binary, ranked = Wanted("heatmap", False), Wanted("heatmap", True), Wanted("logits", False, 5)
    assert count_values(InferRequest(None, [PNG] * 5, (heat, ranked)), model) == 5 * 50_000
    assert count_values(InferRequest(None, [PNG] * 128, (binary, ranked)), model) == 128 * 50_000
    with pytest.raises(Problem, match="The answer has 294000 numbers in JSON and classes; at most 262144 are sent"):
        count_values(InferRequest(None, [PNG] * 6, (heat,)), model)
    for as_bytes in (True, False):
        all_ranked = [Wanted("logits", as_bytes, 1000), Wanted("probabilities", as_bytes, 1000)]
        assert count_values(InferRequest(None, [PNG] * 131, tuple(all_ranked)), model) == 262_000
        with pytest.raises(Problem, match="The answer has 264000 numbers in JSON and classes"):
            count_values(InferRequest(None, [PNG] * 132, tuple(all_ranked)), model)


def test_after_all_that_the_service_is_well(client: httpx2.Client) -> None:
    assert outputs(post(client, "digits", *WHOLE))["probabilities"].shape == (2, 10)
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert json.loads(client.get("/health").content)["status"] == "ok"
