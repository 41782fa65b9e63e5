"""Valid requests, damaged at random: the answer is a good one or an error of the client's, never one of ours."""

import base64
import gzip
import json
import random
from typing import Any

import httpx2
import numpy as np

from tests.app.open_inference.bodies import HEADER, body, elements, encoded_input, outputs, pixels_input, post
from tests.images import drawing, encode
from tests.serving import metrics

REQUESTS = 1500
FILES = [encode(drawing(20, 20, 1)), encode(drawing(20, 20, 2), "JPEG")]
PIXELS = np.arange(2 * 768, dtype=np.uint8).reshape(2, 16, 16, 3)
ODD: list[Any] = [None, True, -1, 0, 1.5, 2**31, 10**30, "", "image", "\ud800", [], [[]], {}, {"name": {}}, [1, "x"]]
EVERYTHING = [{"name": name} for name in ("probabilities", "logits", "heatmap")]


def seeds() -> list[tuple[str, bytes, dict[str, str]]]:
    """One of each way to send images."""
    as_text = [base64.b64encode(file).decode() for file in FILES]
    classes = [{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}]
    return [
        ("digits", *body(pixels_input(PIXELS), PIXELS.tobytes(), outputs=EVERYTHING, id="1")),
        ("digits", *body(pixels_input(PIXELS, data=PIXELS.tolist()), parameters={"binary_data_output": True})),
        ("digits", PIXELS.tobytes(), {HEADER: "0"}),
        ("digits-encoded", *body(encoded_input(FILES), elements(FILES), outputs=classes)),
        ("digits-encoded", *body(encoded_input(FILES, data=as_text), outputs=EVERYTHING)),
        ("digits-encoded", FILES[1], {HEADER: "0"}),
    ]


def damaged(content: bytes, luck: random.Random) -> bytes:
    """With bytes changed, taken out, put in, or cut off."""
    changed = bytearray(content)
    for _ in range(luck.randint(1, 4)):
        place = luck.randrange(len(changed) + 1)
        match luck.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([luck.randrange(256)])
            case 1:
                del changed[place : place + luck.randint(1, 40)]
            case 2:
                changed[place:place] = luck.choice([b'"', b"[", b"{", b",", b"NaN", b'"data":[', luck.randbytes(8)])
            case _:
                del changed[place:]
    return bytes(changed)


def twisted(text: bytes, luck: random.Random) -> bytes:
    """The JSON with one value that it should not have, or without one."""
    content = json.loads(text)
    inside, key = content, luck.choice(list(content))
    while luck.random() < 0.8 and isinstance(inside[key], dict | list) and inside[key]:
        inside = inside[key]
        key = luck.choice(list(inside)) if isinstance(inside, dict) else luck.randrange(len(inside))
    if luck.random() < 0.2:
        del inside[key]
    else:
        inside[key] = luck.choice(ODD)
    return json.dumps(content).encode()


def mutated(seed: tuple[str, bytes, dict[str, str]], luck: random.Random) -> tuple[str, bytes, dict[str, str]]:
    model, content, headers = seed
    length = int(headers.get(HEADER, len(content)))
    text, data = content[:length], content[length:]
    how = luck.randrange(4)
    if how == 0 and text:
        text = twisted(text, luck)
        headers = headers | ({HEADER: str(len(text))} if HEADER in headers else {})
    elif how == 1:
        headers = headers | {HEADER: str(luck.choice([0, 1, length - 1, length + 1, len(content), 10**14]))}
    elif how == 2:
        data = damaged(data or b"x", luck)
    else:
        text, data = b"", damaged(content, luck)
    content = text + data
    if luck.random() < 0.2:
        content = damaged(gzip.compress(content), luck) if luck.random() < 0.5 else gzip.compress(content)
        headers = headers | {"Content-Encoding": "gzip"}
    model = luck.choice(["digits", "digits-encoded"]) if luck.random() < 0.1 else model
    return model, content, headers


def test_damaged_requests_are_the_clients_errors(client: httpx2.Client) -> None:
    luck, answered = random.Random(0), {200: 0}
    for seed in seeds():
        assert outputs_or_classes(post(client, *seed))
    for number in range(REQUESTS):
        request = mutated(luck.choice(seeds()), luck)
        response = post(client, *request)
        status = response.status_code
        answered[status] = answered.get(status, 0) + 1
        assert status == 200 or (400 <= status < 500 and list(response.json()) == ["error"]), (number, response.text)
    assert {200, 400, 415, 422} <= set(answered), answered
    assert min(answered[200], answered[400]) > REQUESTS // 20, answered
    assert "sightglass_queue_images 0.0" in metrics(str(client.base_url).rstrip("/"))
    assert outputs(post(client, *seeds()[0]))["heatmap"].shape[:2] == (2, 10)


def outputs_or_classes(response: httpx2.Response) -> bool:
    return response.status_code == 200
