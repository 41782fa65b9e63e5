"""What the Open Inference Protocol's requests are answered, byte by byte; the clients' own calls are elsewhere."""

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.open_inference.tensors import _of_base64
from tests.app.limits.test_overload import Reply, Service, play, service
from tests.app.open_inference import bodies
from tests.app.open_inference.bodies import (
    HEADER,
    body,
    elements,
    encoded_input,
    error,
    outputs,
    pixels_input,
    post,
    predicted,
)
from tests.images import drawing, encode
from tests.serving import Server, metrics, serving

JPEG = encode(drawing(90, 70), "JPEG")
PNG = encode(drawing(40, 30, 1))


@pytest.fixture(scope="module")
def pixels(digits_artifact: Path) -> np.ndarray:
    """uint8[3, 16, 16, 3] of the two files, and of the first again."""
    spec = manifest.load(digits_artifact).input
    return np.stack([decode(file, spec).pixels for file in (JPEG, PNG, JPEG)])


def test_an_encoded_image_has_exactly_the_probabilities_of_predict(
    client: httpx2.Client, digits_artifact: Path
) -> None:
    for file in (JPEG, PNG):
        expected = predicted(client, file, digits_artifact)
        as_binary = post(client, "digits-encoded", *body(encoded_input([file]), elements([file])))
        as_base64 = post(client, "digits-encoded", *body(encoded_input([file], data=[base64.b64encode(file).decode()])))
        as_body = post(client, "digits-encoded", file, {HEADER: "0"})
        assert HEADER in as_body.headers  # binary, as Triton answers it
        for response in (as_binary, as_base64, as_body):
            assert np.array_equal(outputs(response)["probabilities"][0], expected)


WRAPPED = {
    "wrapped at 76": lambda file: base64.encodebytes(file).decode(),
    "wrapped with CRLF": lambda file: base64.encodebytes(file).decode().replace("\n", "\r\n"),
    "one line end": lambda file: base64.b64encode(file).decode() + "\n",
    "blanks": lambda file: f"\t {base64.b64encode(file).decode()} \r\n",
    "for URLs": lambda file: base64.urlsafe_b64encode(file).decode(),
    "without padding": lambda file: base64.b64encode(file).decode().rstrip("="),
    "for URLs, a line end in place of padding": lambda file: (
        base64.urlsafe_b64encode(file).decode().rstrip("=") + "\r\n"
    ),
}


@pytest.mark.parametrize("write", WRAPPED.values(), ids=WRAPPED)
def test_base64_is_read_as_every_encoder_writes_it(client: httpx2.Client, write: Callable[[bytes], str]) -> None:
    for file in (PNG, PNG + b"\0", PNG + b"\0\0", JPEG):
        plain, odd = (
            post(client, "digits-encoded", *body(encoded_input([file], data=[text])))
            for text in (base64.b64encode(file).decode(), write(file))
        )
        assert np.array_equal(outputs(odd)["probabilities"], outputs(plain)["probabilities"])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 49_151, 49_152, 49_153, 150_000])
def test_base64_is_put_together_right_wherever_it_is_cut(size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = base64.b64encode(data).decode()
    for written in (text, text.rstrip("="), base64.encodebytes(data).decode(), "\n" * 70_000 + text + "\n" * 70_000):
        assert _of_base64(written) == data


def test_the_decoded_pixels_have_exactly_the_probabilities_of_predict(
    client: httpx2.Client, digits_artifact: Path, pixels: np.ndarray
) -> None:
    expected, one = predicted(client, JPEG, digits_artifact), pixels[:1]
    as_binary = post(client, "digits", *body(pixels_input(one), one.tobytes()))
    nested = post(client, "digits", *body(pixels_input(one, data=one.tolist())))
    flat = post(client, "digits", *body(pixels_input(one, data=one.ravel().tolist())))
    as_body = post(client, "digits", one.tobytes(), {HEADER: "0"})
    for response in (as_binary, nested, flat, as_body):
        assert np.array_equal(outputs(response)["probabilities"][0], expected)


def test_images_keep_their_order(client: httpx2.Client, digits_artifact: Path, pixels: np.ndarray) -> None:
    expected = [predicted(client, file, digits_artifact) for file in (JPEG, PNG, JPEG)]
    files = [JPEG, PNG, JPEG]
    for response in (
        post(client, "digits", *body(pixels_input(pixels), pixels.tobytes())),
        post(client, "digits", pixels.tobytes(), {HEADER: "0"}),
        post(client, "digits-encoded", *body(encoded_input(files), elements(files))),
    ):
        assert np.allclose(outputs(response)["probabilities"], expected, rtol=0, atol=1e-6)


def test_numbers_in_json_are_the_binary_ones_and_short(client: httpx2.Client, pixels: np.ndarray) -> None:
    names = ("probabilities", "logits", "heatmap")
    binary = outputs(
        post(
            client,
            "digits",
            *body(
                pixels_input(pixels[:1]),
                pixels[:1].tobytes(),
                outputs=[{"name": name} for name in names],
                parameters={"binary_data_output": True},
            ),
        )
    )
    response = post(
        client,
        "digits",
        *body(pixels_input(pixels[:1]), pixels[:1].tobytes(), outputs=[{"name": name} for name in names]),
    )
    text = outputs(response)
    assert HEADER not in response.headers
    assert response.headers["content-type"] == "application/json"
    for name in names:
        assert np.array_equal(binary[name], text[name])
    for number in response.text.partition("[")[2].replace("[", ",").replace("]", ",").split(","):
        assert len(number.strip('"')) <= 16 or number.startswith(('{"', '"'))


def test_each_output_may_differ_from_the_whole_request(client: httpx2.Client, pixels: np.ndarray) -> None:
    asked = [{"name": "logits", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    parameters = {"binary_data_output": True}
    response = post(
        client, "digits", *body(pixels_input(pixels), pixels.tobytes(), outputs=asked, parameters=parameters)
    )
    content = json.loads(response.content[: int(response.headers[HEADER])])
    logits, probabilities = content["outputs"]
    assert len(logits["data"]) == 30
    assert probabilities["parameters"] == {"binary_data_size": 120}
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("name", ["42", "", "Käfer 蜂", "\ud800", "x" * 10_000])
def test_the_id_comes_back(client: httpx2.Client, name: str) -> None:
    content, headers = body(encoded_input([PNG]), elements([PNG]), id=name)
    assert post(client, "digits-encoded", content, headers).json()["id"] == name


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_may_be_compressed(client: httpx2.Client, pixels: np.ndarray, encoding: str, compress: Any) -> None:
    content, headers = body(pixels_input(pixels), pixels.tobytes())
    response = post(client, "digits", compress(content), headers | {"Content-Encoding": encoding})
    assert np.array_equal(
        outputs(response)["probabilities"], outputs(post(client, "digits", content, headers))["probabilities"]
    )


def test_classes_of_binary_answers_are_length_prefixed(client: httpx2.Client, digits_artifact: Path) -> None:
    asked = [{"name": "probabilities", "parameters": {"classification": 99, "binary_data": True}}]
    response = post(client, "digits-encoded", *body(encoded_input([PNG]), elements([PNG]), outputs=asked))
    length = int(response.headers[HEADER])
    (output,) = json.loads(response.content[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 10])
    rest, ranked = response.content[length:], []
    while rest:
        size = int.from_bytes(rest[:4], "little")
        ranked.append(rest[4 : 4 + size].decode().split(":"))
        rest = rest[4 + size :]
    expected = predicted(client, PNG, digits_artifact)
    assert [np.float32(value) for value, _, _ in ranked] == sorted(expected, reverse=True)
    assert [expected[int(index)] for _, index, _ in ranked] == sorted(expected, reverse=True)


def test_the_version_may_be_named(client: httpx2.Client) -> None:
    content, headers = body(encoded_input([PNG]), elements([PNG]))
    path = "/v2/models/digits-encoded/versions/{}/infer"
    assert outputs(client.post(path.format(1), content=content, headers=headers))
    assert "there is 1" in error(client.post(path.format(2), content=content, headers=headers), 404)


def test_a_request_is_one_log_line_and_its_images_are_counted_once(
    digits_artifact: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    with serving(digits_artifact, tmp_path, LOG_FORMAT="json") as server:
        with httpx2.Client(base_url=server.url) as client:
            post(client, "digits", *body(pixels_input(pixels), pixels.tobytes()))
            post(client, "digits-encoded", *body(encoded_input([PNG, b"GIF89a"]), elements([PNG, b"GIF89a"])))
            post(client, "digits-encoded", PNG, {HEADER: "0"})
            client.get("/v2/health/ready")  # no line: orchestrators ask for it every few seconds
        counted = metrics(server.url)
        lines = [json.loads(line) for line in server.lines() if '"event": "request"' in line]
    three, broken, one = lines
    assert three["route"] == "/v2/models/{model}/infer"
    assert (three["model"], three["images"], three["batch_size"]) == ("digits", 3, 3)
    assert "prediction" not in three
    assert (broken["status"], broken["code"]) == (422, "undecodable_image")
    assert (one["images"], one["bytes_in"], one["model"]) == (1, len(PNG), "digits-encoded")
    assert 0.1 <= one["confidence"] <= 1
    assert {"receive_ms", "decode_ms", "queue_ms", "inference_ms"} < set(one)
    assert 'sightglass_images_total{outcome="predicted"} 4.0' in counted
    assert 'sightglass_images_total{outcome="invalid"} 2.0' in counted
    assert "sightglass_queue_images 0.0" in counted
    assert 'route="/v2/models/{model}/infer",status="200"} 2.0' in counted


def test_more_images_than_places_are_turned_away(digits_artifact: Path, pixels: np.ndarray) -> None:
    async def ask(running: Service, count: int) -> Reply:
        content, headers = body(pixels_input(pixels[:count]), pixels[:count].tobytes())
        length = {"inference_header_content_length": headers[HEADER]}
        return await running.call("POST", "/v2/models/digits/infer", content, **length)

    async def scene() -> None:
        async with service(digits_artifact, max_queue=4) as running:
            refused = await ask(running, 3)
            assert refused.status == 400
            assert refused.body["error"].startswith("3 images; this service takes at most 2 a request")
            running.engine.gate.clear()
            others = [running.predict() for _ in range(3)]
            await running.until("sightglass_queue_images 3.0")
            refused = await ask(running, 2)
            assert (refused.status, list(refused.body)) == (429, ["error"])
            assert int(refused.headers["retry-after"]) >= 1
            counted = (await running.call("GET", "/metrics")).body
            assert 'sightglass_images_total{outcome="rejected"} 2.0' in counted
            assert "sightglass_queue_images 3.0" in counted
            running.engine.gate.set()
            assert [(await each).status for each in others] == [200] * 3

    play(scene)


def test_a_request_that_waits_too_long_is_given_up(server: Server, client: httpx2.Client) -> None:
    with bodies.held(server, "X-Request-Timeout-Ms: 50") as connection:
        answer = connection.recv(4096)
    assert b"504 Gateway Timeout" in answer
    assert b'{"error":"No answer within 50 ms."}' in answer


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_describes_itself(client: httpx2.Client, path: str) -> None:
    content = client.get(path).json()
    assert content["name"] == "sightglass"
    assert content["extensions"] == ["binary_tensor_data", "classification", "model_configuration"]


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models/cats", "/v2/models/digits/versions/7", "/v2/health/x"])
def test_what_is_not_there_is_an_error_in_the_protocols_own_shape(client: httpx2.Client, path: str) -> None:
    assert error(client.get(path), 404).startswith("There is no")


def test_other_methods_are_told_the_right_one(client: httpx2.Client) -> None:
    assert error(client.get("/v2/models/digits/infer"), 405) == "Use POST here."


def test_paths_that_only_begin_alike_keep_problem_documents(client: httpx2.Client) -> None:
    assert client.get("/v2x").headers["content-type"] == "application/problem+json"


def test_a_service_behind_a_prefix_answers_in_the_protocols_shape(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, ROOT_PATH="/cats") as server:
        assert httpx2.get(f"{server.url}/v2").json()["name"] == "sightglass"
        assert "there are digits" in error(httpx2.get(f"{server.url}/v2/models/x"), 404)


def test_a_client_that_leaves_is_not_worked_for(digits_artifact: Path, tmp_path: Path) -> None:
    left = 'sightglass_images_total{outcome="disconnected"} 1.0'
    with serving(digits_artifact, tmp_path) as server:
        with bodies.held(server):
            assert left not in metrics(server.url)
        while left not in (counted := metrics(server.url)):
            pass  # until the service has heard of it
    assert "sightglass_queue_images 0.0" in counted
