"""The Lambda function, in a process of its own under AWS's runtime client, answers as the HTTP service does."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app import settings
from app.limits.memory import Memory
from app.settings import DEFAULT_MODEL
from tests.deploy.lambda_events import (
    JPEG,
    KINDS,
    SOURCE,
    answer,
    build,
    content,
    form,
    http_api,
    template_settings,
)
from tests.images import drawing, encode
from tests.serving import Server, serving

PAYLOAD_LIMIT_BYTES = 6 * 2**20  # of Lambda, for a synchronous invocation


def test_the_memory_holds_the_largest_image_that_the_template_lets_in() -> None:
    given = re.search(r"MemorySize: (\d+)", (SOURCE / "template.yaml").read_text())
    assert given
    memory = Memory(int(given[1]) * 2**20 - 105_000_000)  # what the function holds at rest
    assert memory.decoding_bytes >= int(template_settings()["MAX_PIXELS"]) * 22  # bytes a pixel of a WebP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("server"), **template_settings()) as running:
        yield running


# --- events as AWS documents them ---------------------------------------------------------------------------------


REQUESTS: dict[str, tuple[Any, ...]] = {
    "a form": ("POST", "/predict", *form(JPEG)),
    "a raw body": ("POST", "/predict", JPEG),
    "a raw body as curl sends it": ("POST", "/predict", JPEG, "application/x-www-form-urlencoded"),
    "a PNG with every byte value": ("POST", "/predict", encode(drawing(300, 200)), "image/png"),
    "three labels": ("POST", "/predict", JPEG, "image/jpeg", "top_k=3"),
    "all labels": ("POST", "/predict", *form(JPEG), "top_k=all"),
    "too many labels": ("POST", "/predict", JPEG, "image/jpeg", "top_k=11"),
    "no image": ("POST", "/predict", b"this is no image", "image/jpeg"),
    "half an image": ("POST", "/predict", JPEG[: len(JPEG) // 2]),
    "another field": ("POST", "/predict", *form(JPEG, field="image")),
    "no end": ("POST", "/predict", form(JPEG)[0][:-60], form(JPEG)[1]),
    "too large an image": ("POST", "/predict", bytes(4_500_001)),
    "no body": ("POST", "/predict"),
    "an unknown path": ("GET", "/nothing"),
    "another method": ("GET", "/predict"),
    "health": ("GET", "/health"),
    "the manifest": ("GET", "/model"),
    "the documentation": ("GET", "/docs"),
    "the page's script": ("GET", "/page/page.js"),
    "a binary file": ("GET", "/static-offline-docs/favicon.png"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_answer_is_that_of_the_http_service_byte_for_byte(function: Any, server: Server, kind: Any) -> None:
    statuses = set()
    for name, request in REQUESTS.items():
        event = kind(*request)
        event["headers"]["X-Request-ID"] = "the-same"
        if "multiValueHeaders" in event:
            event["multiValueHeaders"]["X-Request-ID"] = ["the-same"]
        method, path, body, _, query = (*request, b"", "", "")[:5] if len(request) < 5 else request
        headers = {key: value for key, value in event["headers"].items() if key.lower() != "content-length"}
        expected = httpx2.request(method, f"{server.url}{path}?{query}", content=body, headers=headers)
        response = answer(function, event)
        statuses.add(response["statusCode"])
        assert response["statusCode"] == expected.status_code, name
        assert content(response) == expected.content, name
        for header in ("content-type", "x-request-id", "cache-control", "allow"):
            assert response["headers"].get(header) == expected.headers.get(header), name
    assert statuses == {200, 400, 404, 405, 413, 415, 422}


def test_only_what_is_not_text_is_encoded(function: Any) -> None:
    assert answer(function, http_api("GET", "/static-offline-docs/favicon.png"))["isBase64Encoded"] is True
    for path in ("/health", "/nothing", "/docs", "/metrics"):
        assert answer(function, http_api("GET", path))["isBase64Encoded"] is False


def test_a_trace_and_a_request_id_arrive(function: Any) -> None:
    event = http_api("POST", "/predict", JPEG)
    event["headers"] |= {"x-request-id": "mine-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    response = answer(function, event)
    assert response["headers"]["x-request-id"] == "mine-1"
    assert "inference;dur=" in response["headers"]["server-timing"]
    line = next(line for line in function.log.read_text().splitlines() if '"mine-1"' in line)
    assert json.loads(line)["trace_id"] == "a" * 32


# --- Lambda's limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_the_template_accepts_fits_into_an_event(function: Any, kind: Any) -> None:
    limit = int(template_settings()["MAX_UPLOAD_BYTES"])
    event = kind("POST", "/predict", *form(JPEG.ljust(limit, b"\0")))
    assert len(json.dumps(event)) < PAYLOAD_LIMIT_BYTES - 100_000  # API Gateway's longest headers, twice and escaped
    assert answer(function, event)["statusCode"] == 200


def test_an_image_above_the_limit_but_within_an_event_is_told_the_limit(function: Any) -> None:
    limit = int(template_settings()["MAX_UPLOAD_BYTES"])
    for body in ((bytes(limit + 1), "image/jpeg"), form(bytes(limit + 1)), form(bytes(limit + 100_000))):
        event = http_api("POST", "/predict", *body)
        assert len(json.dumps(event)) < PAYLOAD_LIMIT_BYTES
        response = answer(function, event)
        assert response["statusCode"] == 413
        assert response["headers"]["content-type"] == "application/problem+json"
        assert json.loads(response["body"])["limit_bytes"] == limit


def test_the_template_has_only_settings_that_are_known_and_ends_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in template_settings().items():
        monkeypatch.setenv(f"SIGHTGLASS_{name}", value)
    template = (SOURCE / "template.yaml").read_text()
    timeout = int(re.findall(r"Timeout: (\d+)", template)[0])
    assert settings.load().deadline_ms / 1000 < timeout < 30
    assert f"python{build.PYTHON}" in template


def test_cloudformation_would_take_the_template() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    if not lint.exists():
        pytest.skip("cfn-lint is not installed: pip install -e '.[dev]'")
    done = subprocess.run([lint, SOURCE / "template.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- events that no gateway makes ---------------------------------------------------------------------------------


def test_a_body_that_is_null_or_left_out_is_an_empty_body(function: Any) -> None:
    for kind in KINDS.values():
        event = kind("POST", "/predict", JPEG)
        for without in (event | {"body": None}, {key: value for key, value in event.items() if key != "body"}):
            response = answer(function, without)
            assert response["statusCode"] == 400
            assert json.loads(response["body"])["code"] == "empty_body"


def test_a_broken_event_fails_alone_and_the_next_is_answered(function: Any) -> None:
    for event in (
        http_api("POST", "/predict", JPEG) | {"body": "no base64 at all"},
        {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
        {},
    ):
        posted = function.invoke(event)
        assert posted.what == "error"
        assert posted.content["errorMessage"]
        assert answer(function, http_api("POST", "/predict", JPEG))["statusCode"] == 200


def test_an_image_that_came_as_text_is_no_image(function: Any) -> None:
    """What API Gateway does to an image whose Content-Type says that it is text: nothing can be made of it again."""
    event = http_api("POST", "/predict", JPEG, "text/plain")
    damaged = event | {"body": JPEG.decode(errors="replace"), "isBase64Encoded": False}
    response = answer(function, damaged)
    assert response["statusCode"] == 415
