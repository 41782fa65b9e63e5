"""The log's lines as people read them, of each route that answers images."""

import asyncio
import base64
import json
import logging
import re

import pytest

from app.settings import DEFAULT_MODEL
from app.telemetry import logs
from tests.app.limits.test_overload import play, service
from tests.app.open_inference.bodies import encoded_input
from tests.app.routes.batches import form
from tests.images import drawing, encode

IMAGE = encode(drawing(8, 8))
STAGES = r"decode \d+\.\d queue \d+\.\d inference \d+\.\d"
PLAIN, BATCH = {"content_type": "image/png"}, form([IMAGE, b"none"])


@pytest.mark.parametrize(
    ("path", "body", "kind", "line"),
    [
        ("/predict", IMAGE, PLAIN, rf"{{ms}} \w+ 0\.\d\d \(receive \d+\.\d {STAGES}\) batch=1"),
        ("/predict/batch", BATCH[1], {"content_type": BATCH[0].decode()}, r"{ms} images=2 errors=1"),
        (
            "/v2/models/cifar10-encoded/infer",
            json.dumps({"inputs": [encoded_input([IMAGE], data=[base64.b64encode(IMAGE).decode()])]}).encode(),
            PLAIN,
            rf"{{ms}} \w+ 0\.\d\d images=1 \(receive \d+\.\d {STAGES}\) batch=1",
        ),
        ("/v2/models/cifar10/infer", b"", PLAIN, "{ms} empty_body"),
    ],
)
def test_every_answer_has_its_line(
    path: str, body: bytes, kind: dict[str, str], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            await running.call("POST", path, body, **kind)

    caplog.set_level(logging.INFO, "sightglass")
    play(scene)
    (record,) = [each for each in caplog.records if each.getMessage() == "requests"]
    told = logs._Formatter(as_json=False).format(record)
    assert re.search(line.replace("{ms}", r"POST /\S+ [\d.]+ms"), told), told


def test_a_label_cannot_write_to_the_terminal() -> None:
    facts = {"event": "request", "status": 200, "method": "POST", "route": "/predict", "stages": {"duration": 0.001}}
    facts |= {"prediction": "\x1b[2Jcaf\xe9\u202e\n", "confidence": 1.0, "request_id": "a"}
    record = logging.makeLogRecord({"facts": [facts], "levelno": logging.INFO, "levelname": "INFO"})
    assert r" \x1b[2Jcaf\xe9\u202e\n 1.00 ".replace(r"\xe9", "\xe9") in logs._Formatter(as_json=False).format(record)


def test_requests_of_one_turn_are_a_line_each_in_text_and_in_json(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            await asyncio.gather(*(running.call("POST", "/predict", IMAGE, **PLAIN) for _ in range(3)))

    caplog.set_level(logging.INFO, "sightglass")
    play(scene)
    records = [each for each in caplog.records if each.getMessage() == "requests"]
    lines = [json.loads(line) for each in records for line in logs._Formatter(as_json=True).format(each).split("\n")]
    assert len({line["request_id"] for line in lines}) == 3
    assert len(records) < 3
    for line in lines:
        assert line["event"] == "request"
        assert line["duration_ms"] >= line["inference_ms"] > 0
    assert all(logs._Formatter(as_json=False).format(each).count(" id=") == len(each.facts) for each in records)


def test_events_say_what_they_are_told_in_json(caplog: pytest.LogCaptureFixture) -> None:
    logs.event("overload", "3 requests refused", logging.WARNING, refused=3, seconds=10)
    line = json.loads(logs._Formatter(as_json=True).format(caplog.records[-1]))
    assert (line["event"], line["refused"], line["seconds"], line["level"]) == ("overload", 3, 10, "warning")
