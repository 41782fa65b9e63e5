"""What the wiring does when a part fails: a hand-written engine stands in for a broken one."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from app import settings
from app.engines import EngineError, Outputs, Runs
from app.http.schemas import Health
from app.inference import loading
from app.main import create_app
from tests.images import drawing, encode


class MoodyEngine:
    """Answers as the real engine does, until `mood` is an exception."""

    device = "cpu"

    def __init__(self, engine: Runs) -> None:
        self.engine = engine
        self.mood: Exception | None = None

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        if self.mood is not None:
            raise self.mood
        return self.engine.run(pixels)


@pytest.fixture
def moody(digits_artifact: Path) -> Iterator[tuple[TestClient, MoodyEngine]]:
    served = loading.start(digits_artifact, "onnx")
    engine = MoodyEngine(served.engine)
    app = create_app(settings.load(model=digits_artifact), dataclasses.replace(served, engine=engine))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, engine


def test_an_engine_that_fails_makes_the_service_unready_until_it_works_again(
    moody: tuple[TestClient, MoodyEngine],
) -> None:
    client, engine = moody
    file = encode(drawing())
    assert client.post("/predict", content=file).status_code == 200
    engine.mood = EngineError("the device is gone")
    failed = client.post("/predict", content=file)
    assert failed.status_code == 503
    assert failed.json()["code"] == "not_ready"
    assert int(failed.headers["retry-after"]) >= 1
    assert "device" not in failed.text  # the client is not told what the log and /health say
    for route in ("/health", "/health/ready"):
        assert client.get(route).status_code == 503
        assert client.get(route).json()["detail"] == "the device is gone"
    assert client.get("/health/live").status_code == 200
    engine.mood = None
    assert client.post("/predict", content=file).status_code == 200
    assert client.get("/health").status_code == 200
    metrics = client.get("/metrics").text
    assert 'sightglass_images_total{outcome="failed"} 1.0' in metrics
    assert 'sightglass_images_total{outcome="predicted"} 2.0' in metrics


def test_a_bug_in_the_engine_leaves_nobody_waiting_and_the_service_unready(
    moody: tuple[TestClient, MoodyEngine],
) -> None:
    client, engine = moody
    engine.mood = KeyError("a bug")
    assert client.post("/predict", content=encode(drawing())).status_code == 503
    assert client.post("/predict", content=encode(drawing())).status_code == 503
    assert client.get("/health/live").status_code == 503


def test_our_bug_is_a_500_that_tells_the_log_and_not_the_client(
    moody: tuple[TestClient, MoodyEngine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, _engine = moody

    def broken(*_: object) -> Health:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Health, "of", broken)
    with caplog.at_level(logging.ERROR, logger="sightglass"):
        response = client.get("/health", headers={"X-Request-ID": "bug-1"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "internal_error"
    assert response.json()["request_id"] == response.headers["x-request-id"] == "bug-1"
    assert "secret" not in response.text
    [record] = [each for each in caplog.records if each.exc_info]
    assert "secret detail" in str(record.exc_info[1] if record.exc_info else "")
    assert 'sightglass_problems_total{code="internal_error"} 1.0' in client.get("/metrics").text
